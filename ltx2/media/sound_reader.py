"""Sound tracks of any file read sample by sample, on the clock of the picture where there is one."""

import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from typing import Any

import torch

from ..clock import exact_seconds, samples_of_seconds
from ..errors import Ltx2Warning, MediaError
from ..resampling import SAMPLE_RATES, mix_note, mix_to_stereo
from ..values import Waveform
from .film_clock import film_start, seek_before, sound_tracks
from .paths import FilePath, opened, require_av, shown
from .sound_frames import samples_of

_PREROLL_SECONDS = 1  # a sound decoder is exact only after a moment of run-up
_JUMP_SECONDS = Fraction(1, 100)  # times that jump further mean silence; less is the container's or a device's rounding
_RESTART_SECONDS = 1  # times that fall back so far have begun anew, as where files were put one behind the other
_JUNK_SECONDS = Fraction(1, 5)  # what cannot be decoded may be this long: tags, a broken block
_LONGEST_SILENCE_SECONDS = 3600
_LOUDEST = 100.0  # 40 dB above full scale: surely meant otherwise
_CLIPPED = 1.5  # what codecs overshoot is less
_PIECE_SAMPLES = 1 << 16


def iterate_sound(
    path: FilePath, start_seconds: float | Fraction = 0, seconds: float | Fraction | None = None
) -> Iterator[Waveform]:
    """The sound track in pieces: float32 [C, n] in -1…1 at the file's rate, consecutive and sample-exact.

    Time 0 is the first frame of the picture (of the sound where there is no picture). With ``seconds`` the pieces add
    up to exactly round((start + seconds) · rate) − round(start · rate) samples, silence after the track's end; else
    they run to its end. Gaps are silence. Encoder delay and padding are left out. Raises MediaError.
    """
    with opened(path) as container:
        tracks = sound_tracks(container)
        if not tracks:
            raise MediaError(f"{shown(path)} has no sound track")
        track = tracks[0]
        rate, channels = track.rate, track.channels
        if not rate or not channels:
            raise MediaError(f"{shown(path)} is damaged: its sound track states no sample rate or channels")
        if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
            raise MediaError(
                f"{shown(path)} states {rate} samples per second, expected {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]}"
            )
        begin = exact_seconds(start_seconds)
        end = None if seconds is None else samples_of_seconds(begin + exact_seconds(seconds), rate)
        zero, until = film_start(container), stated_end(container, track)
        stated = None if until is None else samples_of_seconds(until - zero, rate)
        cutter = _Cutter(path, rate, channels, samples_of_seconds(begin, rate), end, stated)
        for samples, position in _placed(container, track, path, zero, begin):
            if not cutter.take(samples, position):
                break
            yield from cutter.ready(_PIECE_SAMPLES)
        else:
            cutter.tell_of_missing()
        yield from cutter.rest()


def _placed(container, track, path: FilePath, zero: Fraction, begin: Fraction) -> Iterator[tuple[torch.Tensor, int]]:
    """Decoded blocks [C, n] from shortly before ``begin`` seconds on, and the sample from ``zero`` on at which each
    stands: the end of the one before, but where the file's times say for two blocks that there is a gap."""
    rate = track.rate
    tick = float(track.time_base * rate)  # of the file's clock, in samples
    jump = max(float(_JUMP_SECONDS * rate), 2 * tick)
    exact = None
    if begin > _PREROLL_SECONDS:
        # one tick of many containers is a millisecond: only the first blocks say exactly where later ones stand
        exact = _grid(list(islice(_blocks(container, track, path, zero, False), 2)), tick, jump) if tick > 1 else None
        seek_before(container, int((begin - _PREROLL_SECONDS + zero) / track.time_base), track)
    blocks = _blocks(container, track, path, zero, begin > _PREROLL_SECONDS)
    position: int | None = None
    block = next(blocks, None)
    restarted = 0
    while block is not None:
        following = next(blocks, None)
        samples, stamp = block
        if position is not None and stamp is not None and stamp + restarted < position - _RESTART_SECONDS * rate:
            restarted = position - stamp
        stamp = None if stamp is None else stamp + restarted
        if position is None:
            position = 0 if stamp is None else stamp if exact is None else exact(stamp)
        elif stamp is not None and abs(stamp - position) > jump:
            later = None if following is None else following[1]
            if later is None or abs(later + restarted - position - samples.shape[1]) > jump:
                position = stamp
        yield samples, position
        position += samples.shape[1]
        block = following


def _grid(first: list[tuple[torch.Tensor, int | None]], tick: float, jump: float) -> Callable[[int], int] | None:
    """How the rounded time of a block, in samples, becomes exact where all blocks are of one length."""
    if len(first) < 2 or first[0][1] is None or 2 * tick >= first[1][0].shape[1]:
        return None
    start, length = first[0][1] + first[0][0].shape[1], first[1][0].shape[1]
    if first[1][1] is not None and abs(first[1][1] - start) > jump:
        start = first[1][1]

    def exact(stamp: int) -> int:
        found = start + round((stamp - start) / length) * length
        return found if abs(found - stamp) <= tick + 1 else stamp

    return exact


def _blocks(
    container, track, path: FilePath, zero: Fraction, sought: bool
) -> Iterator[tuple[torch.Tensor, int | None]]:
    """Decoded blocks and their times in samples. sought: the file stands within the track, where a first packet may be
    half of one. Raises MediaError for a track with a hole that cannot be decoded."""
    rate, channels = track.rate, track.channels
    at, lost, began = Fraction(0), Fraction(0), False
    for packet in container.demux(track):
        try:
            frames = _decoded(packet)
        except require_av().InvalidDataError:
            lost += Fraction(packet.duration or 0) * packet.time_base if began or not sought else 0
            continue
        for frame in frames:
            if lost:
                _tell_of_lost(path, at, lost)
                lost = Fraction(0)
            samples, began = samples_of(frame), True
            if frame.sample_rate != rate or samples.shape[0] != channels:
                raise MediaError(f"{shown(path)} changes its sound format on the way, which cannot be read")
            time = None if frame.pts is None else frame.pts * frame.time_base - zero
            at = (at if time is None else time) + Fraction(samples.shape[1], rate)
            yield samples, None if time is None else round(time * rate)
    if lost > _JUNK_SECONDS or (lost and not began):
        _tell_of_lost(path, at, max(lost, _JUNK_SECONDS + 1))


def _decoded(packet: Any) -> list[Any]:
    return packet.decode()


def _tell_of_lost(path: FilePath, at: Fraction, lost: Fraction) -> None:
    """Warn of so many seconds that cannot be decoded. Raises MediaError where they are more than a player would pass
    over."""
    place = f"cannot be decoded from {max(float(at), 0):.2f} s on"
    if lost > _JUNK_SECONDS:
        raise MediaError(f"{shown(path)} is damaged: its sound {place}")
    message = f"{float(lost):.2f} s of the sound of {shown(path)} {place} and are silent"
    warnings.warn(message, Ltx2Warning, stacklevel=5)


class _Cutter:
    """Decoded samples on their way to the stretch that is asked for: gaps filled, what lies outside left out."""

    def __init__(self, path, rate: int, channels: int, begin: int, end: int | None, stated: int | None):
        self.path, self.rate, self.channels, self.end, self.stated = path, rate, channels, end, stated
        # nothing of the track counts from here on: padding of the encoder
        self.last = stated if end is None else end if stated is None else min(end, stated)
        self.cursor = begin  # the next sample to hand out
        self.waiting: list[torch.Tensor] = []

    def take(self, samples: torch.Tensor, position: int) -> bool:
        """Add one decoded block that stands at this sample; False once nothing more is wanted."""
        if self.last is not None and position >= self.last:
            return False
        if position > self.cursor:
            silence = position - self.cursor
            if silence > _LONGEST_SILENCE_SECONDS * self.rate:
                raise MediaError(
                    f"{shown(self.path)} has a hole of {silence / self.rate:.0f} s in its sound, which cannot be right"
                )
            self._add(torch.zeros(self.channels, silence))
        self._add(
            samples[:, max(0, self.cursor - position) : None if self.last is None else max(0, self.last - position)]
        )
        return True

    def ready(self, least: int) -> Iterator[Waveform]:
        """What has gathered, once it is at least so much."""
        if sum(piece.shape[1] for piece in self.waiting) >= least:
            yield self._piece()

    def tell_of_missing(self) -> None:
        """Warn of a track that breaks off before its stated end, within what is asked for."""
        missing = (min(self.stated, self.last or 0) if self.stated else 0) - self.cursor
        if missing > _JUNK_SECONDS * self.rate:
            at, seconds = self.cursor / self.rate, missing / self.rate
            message = f"the sound of {shown(self.path)} breaks off at {at:.2f} s, {seconds:.2f} s before its stated end"
            warnings.warn(f"{message}: silence stands there", Ltx2Warning, stacklevel=4)

    def rest(self) -> Iterator[Waveform]:
        """What is left, and silence up to the end that was asked for or stated."""
        missing = max(0, (self.end if self.end is not None else self.stated or 0) - self.cursor)
        while missing:
            self._add(torch.zeros(self.channels, min(missing, _PIECE_SAMPLES)))
            missing -= self.waiting[-1].shape[1]
            yield self._piece()
        if any(piece.shape[1] for piece in self.waiting):
            yield self._piece()

    def _add(self, samples: torch.Tensor) -> None:
        self.waiting.append(samples)
        self.cursor += samples.shape[1]

    def _piece(self) -> Waveform:
        samples, self.waiting = torch.cat(self.waiting, dim=1), []
        return Waveform(samples, self.rate)


def read_sound(path: FilePath) -> Waveform:
    """The first sound track of any file that PyAV reads, ready for a model: float32 [1 or 2, N] at the file's own rate,
    whole.

    More than two channels are mixed down and that is told (Ltx2Warning). Raises MediaError for no sound, and for NaN or
    infinite samples.
    """
    pieces = list(iterate_sound(path))
    if not pieces:
        raise MediaError(f"{shown(path)} has a sound track without samples")
    sound = Waveform(torch.cat([p.samples for p in pieces], dim=1), pieces[0].sample_rate)
    check_finite(sound, shown(path))
    _check_level(sound, shown(path))
    count = sound.samples.shape[0]
    if count > 2:
        warnings.warn(mix_note(shown(path), count), Ltx2Warning, stacklevel=2)
        sound = mix_to_stereo(sound, channel_names(path))
    return sound


def check_finite(sound: Waveform, name: str) -> None:
    """Raises MediaError naming the first moment at which a sound holds NaN or infinite samples."""
    wrong = ~torch.isfinite(sound.samples).all(dim=0)
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0]) / sound.sample_rate
        raise MediaError(f"{name} holds NaN or infinite samples at {at:.3g} s: export it again")


def _check_level(sound: Waveform, name: str) -> None:
    """Warn of a sound that is clipped when it is written. Raises MediaError for one that was not meant as -1…1."""
    peak = float(sound.samples.abs().max()) if sound.samples.numel() else 0.0
    if peak > _LOUDEST:
        raise MediaError(f"{name} holds samples up to {peak:.3g}, expected -1…1: export it again")
    if peak > _CLIPPED:
        warnings.warn(
            f"{name} goes up to {peak:.2g} times full scale: louder than 1 is clipped", Ltx2Warning, stacklevel=3
        )


def channel_names(path: FilePath) -> tuple[str, ...]:
    """FFmpeg's short names of the channels of a sound track, in order. Raises MediaError."""
    with opened(path) as container:
        return tuple(channel.name for channel in sound_tracks(container)[0].layout.channels)


def stated_end(container: Any, track: Any) -> Fraction | None:
    """End of the sound on the container's clock where it is exact. MP4 states it in its edit list; elsewhere the
    decoder drops the padding itself and a stated duration may be a guess."""
    if "mp4" not in container.format.name or not track.duration:
        return None
    return ((track.start_time or 0) + track.duration) * track.time_base
