"""A film's own packets in a new file, and new pictures and sound behind them in the same tracks.

Nothing of what is kept is decoded and encoded again. New pictures are H.264 with parameter sets of their own; new sound
is AAC whose blocks fall on the grid of the found ones, so that the two overlap as an encoder's own blocks do.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ..film_clock import FilmClock, film_start, sound_tracks
from ..frames import Orientation, colour_matrix, orientation, pixel_shape
from ..paths import FilePath, opened, require_av
from ..sound import AAC_BLOCK, AAC_RATES, LAYOUTS
from ..sound_frames import frame_of
from ..video import reproducible
from .parameter_sets import PPS, SPS, ParameterSets, packet_of, read_parameter_sets, split_units, with_more

_RUN_UP_BLOCKS = 4  # after which an encoder's blocks hold what they would, had it begun long before
_GLOBAL_HEADER = 1 << 22  # FFmpeg's flag: parameter sets apart from the pictures
TICK_LIMIT = 2**31  # of a clock in an MP4
CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")  # no film's own


# --- picture -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PictureCopy:
    """How new pictures are brought into a found track. encoder: of the new ones. sets: of the found and of the new
    pictures. time_base: of the track in the new file, in which both clocks are exact. matrix, full: of the colours."""

    encoder: Any
    sets: tuple[ParameterSets, ParameterSets]
    time_base: Fraction
    orientation: Orientation
    matrix: int
    full: bool

    @property
    def header(self) -> bytes:
        """The header of the track: the parameter sets of both."""
        return with_more(*self.sets)


def copying_container(path: FilePath, copy: PictureCopy, rate: int, tags: Mapping[str, object]) -> Any:
    """An MP4 for a film's own packets. rate: of its sound, 0 for a silent one; tags: what is not text becomes JSON."""
    ticks = math.lcm(copy.time_base.denominator, rate or 1)
    options = {
        "movflags": "faststart+use_metadata_tags",
        "video_track_timescale": str(copy.time_base.denominator),
        "movie_timescale": str(ticks if ticks < TICK_LIMIT else rate or copy.time_base.denominator),
    }
    container = require_av().open(str(path), "w", format="mp4", options=options)
    for key, value in tags.items():
        container.metadata[key] = value if isinstance(value, str) else json.dumps(value)
    return container


def copied_track(container: Any, stream: Any, copy: PictureCopy) -> Any:
    """The track that a film's own pictures go to, and new ones too."""
    # opaque: PyAV must not open an encoder for it, which would write a header of its own
    track = container.add_stream_from_template(stream, opaque=True)
    track.codec_context.extradata = copy.header
    return track


def picture_copy(stream: Any, first_frame: Any, clock: FilmClock, fps: Fraction, crf: float) -> PictureCopy | str:
    """How a film's pictures can be kept as they are, or why they cannot."""
    av = require_av()
    context = stream.codec_context
    if context.name != "h264":
        return f"its picture is {context.name}, only H.264 is kept"
    found = read_parameter_sets(context.extradata)
    if found is None or found.features is None:
        return "its H.264 header is unusual"
    if clock.ticks is None:
        return "it holds no times of its frames"
    if clock.hidden:
        return "parts of it are cut out by its edit list"
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = context.width, context.height, context.pix_fmt
    encoder.framerate, encoder.time_base = fps, 1 / fps
    encoder.sample_aspect_ratio = pixel_shape(stream)
    for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
        setattr(encoder, name, int(getattr(context, name)))
    encoder.flags |= _GLOBAL_HEADER
    small = reproducible(context.width, context.height)
    encoder.options = {
        "crf": str(crf),
        "preset": "medium",
        "bf": "0",  # a new picture is never decoded before the last found one is shown
        "x264-params": ":".join([f"sps-id={found.free_id}:log-level=none{found.features}", *small]),
    }
    try:
        encoder.open()
    except (OSError, ValueError) as error:
        return f"libx264 cannot write its kind of pictures ({context.pix_fmt}, {error.__class__.__name__})"
    new = read_parameter_sets(encoder.extradata)
    if new is None:
        return "libx264 does not state how it writes its pictures"
    ticks = math.lcm(stream.time_base.denominator, fps.numerator)
    base = Fraction(1, ticks) if ticks < TICK_LIMIT else Fraction(stream.time_base)
    full = int(context.color_range) == 2 or context.pix_fmt.startswith("yuvj")
    placed, matrix = orientation(first_frame), colour_matrix(first_frame)
    return PictureCopy(encoder, (found, new), base, placed, matrix, full)


def coded_frame(picture: np.ndarray, copy: PictureCopy) -> Any:
    """An upright picture [H, W, 3] uint8 as the frame that the encoder of a found track takes: as the others are
    stored, in their size, shape of pixels and colours."""
    av = require_av()
    frame = av.VideoFrame.from_ndarray(copy.orientation.stored(picture), format="rgb24")
    return frame.reformat(
        width=copy.encoder.width,
        height=copy.encoder.height,
        format=copy.encoder.pix_fmt,
        src_colorspace=1 if copy.matrix != 1 else 5,  # of no meaning for RGB
        dst_colorspace=copy.matrix,
        src_color_range=2,
        dst_color_range=2 if copy.full else 1,
    )


def new_packets(copy: PictureCopy, frame: Any, start: Fraction) -> Iterator[Any]:
    """The packets that the encoder gives for a frame, or at the end for None; times count from ``start`` seconds."""
    av = require_av()
    found, _ = copy.sets
    for encoded in copy.encoder.encode(frame):
        units = [unit for unit in split_units(bytes(encoded)) if unit[0] & 31 not in (SPS, PPS)]
        packet = av.Packet(packet_of(units, found.length_bytes))
        packet.time_base = copy.time_base
        packet.pts = packet.dts = round((start + encoded.pts * encoded.time_base) / copy.time_base)
        packet.duration = round(copy.encoder.time_base / copy.time_base)
        packet.is_keyframe = encoded.is_keyframe
        yield packet


# --- sound ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SoundGrid:
    """Where the blocks of a found AAC track lie: the first one's sample on the film's clock, and how many there are."""

    first: int
    blocks: int

    def block_at(self, sample: int) -> int:
        """The block that holds a sample of the film's clock."""
        return (sample - self.first) // AAC_BLOCK

    def sample_of(self, block: int) -> int:
        """A block's first sample, on the film's clock."""
        return self.first + block * AAC_BLOCK


def sound_grid(path: FilePath) -> SoundGrid | None:
    """The grid of a film's sound where that is plain AAC without gaps, or None for any other."""
    with opened(path) as container:
        return _grid_of(container, sound_tracks(container)[0], film_start(container))


def _grid_of(container, track, zero: Fraction) -> SoundGrid | None:
    context = track.codec_context
    if context.name != "aac" or context.profile not in ("LC", None) or context.frame_size not in (0, AAC_BLOCK):
        return None
    if track.rate not in AAC_RATES or track.channels not in LAYOUTS or not context.extradata:
        return None
    times = [p.pts for p in container.demux(track) if p.size]
    if not times or any(time is None for time in times):
        return None
    samples = [float((time * track.time_base - zero) * track.rate) for time in times]
    first = round(samples[0])
    rounding = max(2.0, float(track.time_base * track.rate) + 1)
    even = all(abs(found - first - i * AAC_BLOCK) <= rounding for i, found in enumerate(samples))
    return SoundGrid(first, len(times)) if even else None


def _aac_encoder(rate: int, channels: int, bit_rate: int) -> Any:
    """bit_rate: of the found track, raised to 96 kbit/s a channel."""
    encoder = require_av().CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout = rate, LAYOUTS[channels]
    encoder.format, encoder.time_base = "fltp", Fraction(1, rate)
    encoder.bit_rate = max(bit_rate, 96_000 * channels)
    encoder.flags |= _GLOBAL_HEADER
    encoder.open()
    return encoder


def _encoded(encoder: Any, samples: torch.Tensor, begin: int) -> Iterator[Any]:
    """The packets that an AAC encoder gives for samples [C, n]. begin: of the first sample, on the encoder's clock."""
    for piece in samples.split(AAC_BLOCK, dim=1):
        frame = frame_of(piece.clamp(-1, 1), encoder.layout.name, encoder.sample_rate)
        frame.pts, frame.time_base = begin, encoder.time_base
        begin += piece.shape[1]
        yield from encoder.encode(frame)


def _packet_at(packet: Any, rate: int) -> Any:
    """A packet of sound whose times count samples."""
    packet.time_base = Fraction(1, rate)
    packet.dts = packet.pts
    return packet


class SoundTail:
    """The blocks of an AAC track behind those that are kept: from the film's own sound shortly before, then what is
    given.

    rate, channels: of the track. grid: of the found track, None where nothing of it is kept.
    join: sample on the film's clock at which the given sound begins. keep: how many found blocks stay.
    """

    def __init__(self, rate: int, channels: int, grid: SoundGrid | None, join: int, *, bit_rate: int = 0):
        self.rate, self.channels, self.join, self.grid = rate, channels, join, grid
        self.keep = 0
        if grid is not None:  # the block of the join and the one before it are new
            self.keep = max(0, min(grid.block_at(join) - 1, grid.blocks - 1))
        # the first sample, on the film's clock, that the encoder is given; it may lie before the film
        self._first = self.kept_sample(self.keep) if self.keep else None
        self.begin = self.kept_sample(self.keep - _RUN_UP_BLOCKS) if self.keep else 0
        self._encoder = _aac_encoder(rate, channels, bit_rate)
        self._waiting: list[torch.Tensor] = []
        self._given = self._written = self.begin  # ends, on the film's clock, of what came in and what was encoded

    def kept_sample(self, block: int) -> int:
        """The first sample, on the film's clock, of a block of the found track."""
        return self.grid.sample_of(block) if self.grid is not None else block * AAC_BLOCK

    def add(self, samples: torch.Tensor) -> Iterator:
        """Take the next samples [C, n]; yields the packets that are ready."""
        self._waiting.append(samples)
        self._given += samples.shape[1]
        yield from self._encode((self._given - self._written) // AAC_BLOCK * AAC_BLOCK)

    def fill(self, end: int) -> Iterator:
        """Silence up to a sample on the film's clock."""
        while self._given < end:
            yield from self.add(torch.zeros(self.channels, min(end - self._given, 1 << 16)))

    def finish(self, end: int) -> Iterator:
        """Bring the track to its end, a sample on the film's clock: cut, or filled with silence."""
        yield from self.fill(end)
        yield from self._encode(max(0, end - self._written))
        yield from self._kept(self._encoder.encode(None))

    @property
    def given(self) -> int:
        """The sample on the film's clock up to which sound was given."""
        return self._given

    def _encode(self, count: int) -> Iterator:
        if not count:
            return
        samples = torch.cat(self._waiting, dim=1)
        self._waiting = [samples[:, count:]]
        begin, self._written = self._written, self._written + count
        yield from self._kept(_encoded(self._encoder, samples[:, :count], begin))

    def _kept(self, packets) -> Iterator:
        """Those from the first block that is not found on; the ones before are the encoder's run-up."""
        for packet in packets:
            if self._first is None or packet.pts >= self._first:
                yield _packet_at(packet, self.rate)


class SoundHead:
    """The blocks of an AAC track in front of found ones: what is given, up to where the found ones can stay.

    rate, channels: of the track. grid: of the found track, None where nothing of it is kept. join: sample of the new
    clock at which the found film begins; given: how many samples behind that are new. keep_from: the first found block
    that stays; encoded_until: sample of the new clock up to which sound is to be given, None for all.
    """

    def __init__(self, rate: int, channels: int, grid: SoundGrid | None, join: int, given: int, *, bit_rate: int = 0):
        self._join, self._grid = join, grid
        self.keep_from: int | None = None
        self.encoded_until: int | None = None
        begin = 0
        if grid is not None and grid.block_at(given) + 2 < grid.blocks - 1:
            self.keep_from = max(0, grid.block_at(given) + 2)
            self.encoded_until = self.found_sample(self.keep_from) + _RUN_UP_BLOCKS * AAC_BLOCK
            begin = -(-self.found_sample(0) % AAC_BLOCK)  # so that the blocks of both lie on one grid
        self._last = None if self.keep_from is None else self.found_sample(self.keep_from)
        self._encoder = _aac_encoder(rate, channels, bit_rate)
        self._waiting, self._written = torch.zeros(channels, -begin), begin

    def found_sample(self, block: int) -> int:
        """The first sample, on the new clock, of a block of the found track."""
        return self._join + (0 if self._grid is None else self._grid.sample_of(block))

    def add(self, samples: torch.Tensor) -> Iterator:
        """Take the next samples [C, n]; yields the packets that are ready."""
        self._waiting = torch.cat([self._waiting, samples], dim=1)
        yield from self._encode(self._waiting.shape[1] // AAC_BLOCK * AAC_BLOCK)

    def finish(self) -> Iterator:
        """The packets that are left."""
        yield from self._encode(self._waiting.shape[1])
        yield from self._kept(self._encoder.encode(None))

    def _encode(self, count: int) -> Iterator:
        if not count:
            return
        samples, self._waiting = self._waiting[:, :count], self._waiting[:, count:]
        begin, self._written = self._written, self._written + count
        yield from self._kept(_encoded(self._encoder, samples, begin))

    def _kept(self, packets) -> Iterator:
        for packet in packets:
            if self._last is None or packet.pts < self._last:
                yield _packet_at(packet, self._encoder.sample_rate)
