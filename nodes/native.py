"""The bridge to ComfyUI's own LTX-2 nodes: a state becomes a masked audio-video latent for the host's samplers, and
back.

What the host's model, VAEs, samplers and upsamplers are is their own affair: only their sockets are used.
"""

from dataclasses import dataclass

import torch

from ..ltx2 import clock
from ..ltx2.config.versions import release, version_of_shapes
from ..ltx2.errors import RequestError
from ..ltx2.film import Handoff, NextSegment, Overlap, Source, capture_state, condition_next, first_segment, new_sound
from ..ltx2.film.drift import read_reference, with_next_reference
from ..ltx2.film.handoff import fps_after, source_of_state
from ..ltx2.film.sizes import on_grid
from ..ltx2.film.timeline import found_segment, overlap_within, warn_beyond_window
from ..ltx2.media import prepare_clip
from ..ltx2.networks.audio.codec import fit_latents
from ..ltx2.resampling import mix_to_stereo, resample
from ..ltx2.stages.latent_preparation import empty_latent
from ..ltx2.values import AUDIO_BINS, AUDIO_CHANNELS, VIDEO_CHANNELS, Waveform
from . import host
from .continuation import SOUND_SLACK_SECONDS, card, carried_inputs, check_frames, check_sound, save_state
from .native_masks import guide_frames, guides_of, masks_of
from .sockets import Segment, SegmentValue, State, audio_value, overlap_error, waveform_of

# Keys of the latent dictionary, which the host hands on untouched: the segment's timing, and what it is made with.
TIMING, SOURCE = "ltx2_continuum", "ltx2_continuum_source"


def stage_inputs() -> list:
    """Length and size of a stage, and how much of the state it takes."""
    io = host.io
    return [
        host.field(
            io.Float,
            "seconds",
            "Length of the new segment in seconds, repeated frames included; taken to 8k+1 frames. A connected latent has its own length.",
            default=5.0,
            min=0.1,
            max=20.0,
            step=0.01,
        ),
        host.field(
            io.Int,
            "divide",
            "Size of this stage: 1 makes the latent for the frames' own size, 2 for half of it (first of two stages). A connected latent has its own size.",
            display_name="stage size: 1 full, 2 half",
            default=1,
            min=1,
            max=2,
        ),
        host.field(
            io.Float,
            "strength",
            "How exactly the carried frames are kept: 1 exactly, 0 not at all.",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
        ),
        host.field(
            io.Int,
            "audio_overlap",
            "Carried sound in video frames; -1 as the state says, 0 none.",
            default=-1,
            min=-1,
            max=480,
        ),
    ]


class StateToAVLatent(host.io.ComfyNode):
    """What a state carries, at the start of a native latent."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "StateToAVLatent",
            "Continuation → AV Latent",
            "native",
            description="Starts a native LTX-2 latent from a saved state: the carried frames and sound are filled in and masked, so any "
            "native sampler goes on from them. In an existing graph put one right before each sampler, between the joined "
            "audio-video latent and the sampler, and pass the sampler's model through it too.",
            inputs=[
                host.field(State, "state", "The state that the segment before left."),
                host.field(io.Vae, "vae", "The host's video VAE, which encodes the carried frames."),
                host.field(
                    io.Model,
                    "model",
                    "The host's LTX-2 model. Comes out with its picture clock moved to fit the carried sound.",
                    optional=True,
                ),
                host.field(
                    io.Latent,
                    "latent",
                    "The audio-video latent that the sampler would take: the empty one of a first stage or the upsampled one of a second. Without it an empty one is made.",
                    optional=True,
                ),
                *stage_inputs(),
            ],
            outputs=[
                host.output(io.Latent, "latent", "Nested video and audio latent with noise masks."),
                host.output(io.Model, "model", "The model with its picture clock moved."),
                host.output(io.Int, "frames", "Frames of the segment, repeated ones included."),
                host.output(io.Float, "fps", "Frames per second of the film."),
            ],
            search_aliases=["continue video with sound", "native extend", "ltx2 continuation"],
        )

    @classmethod
    def execute(cls, state, vae, seconds, divide, strength, audio_overlap, model=None, latent=None):
        if vae is None:
            raise RequestError("there is no VAE: the checkpoint holds none, load the model's video VAE by itself")
        fps, given = fps_after(state), None if latent is None else _given(latent)
        frames = (
            clock.snap_frames(clock.frames_for_seconds(seconds, fps))
            if given is None
            else clock.frames_of_latents(given.video.shape[2] - guide_frames(given.video_mask))
        )
        source = _native_source(model, source_of_state(state))
        handoff = Handoff(strength=strength, audio_overlap=None if audio_overlap < 0 else audio_overlap)
        following = condition_next(state, frames, source=source, handoff=handoff)
        if given is not None and given.audio.shape[2] > following.audio_latents:
            count = given.audio.shape[2]
            following = condition_next(state, frames, source=source, handoff=handoff, audio_latents=count)
        warn_beyond_window(following.timing)
        offset = float(following.video_offset_seconds)
        if model is None and offset > 0.04:
            raise RequestError(
                f"the carried sound starts {offset:.3f} s before the carried picture: connect the model too, so that its clock can be moved, "
                "or set audio_overlap to the number of carried frames"
            )
        filled = _empty(following, divide) if given is None else _to_fill(given, following)
        _fill(filled, following, vae)
        result = dict(latent or {})
        result.update(
            samples=host.nested(filled.video, filled.audio),
            noise_mask=host.nested(filled.video_mask, filled.audio_mask),
        )
        result[TIMING], result[SOURCE] = following.timing, source
        moved = None if model is None else host.with_picture_offset(model, offset)
        return host.io.NodeOutput(result, moved, frames, float(fps))


class AVLatentToState(host.io.ComfyNode):
    """After native sampling and decoding: the state for the next segment, and the segment itself for joining."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "AVLatentToState",
            "AV Latent → Continuation",
            "native",
            description="Makes the state that the next segment starts from, out of a native audio-video latent and its decoded frames, and "
            "saves it where a name is given. Also gives the finished segment for Join Segments, and what is new in it for a video file.",
            is_output_node=True,
            inputs=[
                host.field(io.Latent, "latent", "The sampled audio-video latent (of the last stage)."),
                host.field(io.Image, "images", "The frames decoded from it."),
                host.field(
                    io.Audio,
                    "audio",
                    "The sound decoded from it. Needed for joining; the state itself carries latents.",
                    optional=True,
                ),
                host.field(State, "state", "The state this segment continued, when it did.", optional=True),
                host.field(
                    io.Float,
                    "fps",
                    "Frames per second, as given to the conditioning; 0 takes the rate of the state, or 24. A clip that goes on from a state has the state's.",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=0.001,
                ),
                *carried_inputs(),
                host.field(
                    io.String,
                    "filename_prefix",
                    "Saves the state too, as a PNG card of this name in the output folder, such as film/part. Empty: it is not saved.",
                    default="",
                ),
            ],
            outputs=[
                host.output(State, "state", "What the next segment starts from."),
                host.output(Segment, "segment", "This segment, for Join Segments."),
                host.output(io.Image, "new_images", "The frames without those that repeat the segment before."),
                host.output(io.Audio, "new_audio", "The sound of these frames, exactly as long as they are."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            search_aliases=["save state", "ltx2 continuation"],
        )

    @classmethod
    def validate_inputs(cls, video_overlap=None):
        return overlap_error(video_overlap) or True

    @classmethod
    def execute(cls, latent, images, fps, video_overlap, audio_overlap, filename_prefix="", audio=None, state=None):
        video, sound = _streams(latent)
        timing, guides = latent.get(TIMING), guides_of(latent, video)
        if timing is None:
            count = None if sound is None else sound.shape[2]
            frames = clock.frames_of_latents(video.shape[2] - guides)
            if state is not None:
                timing = condition_next(state, frames, audio_latents=count).timing
            else:
                timing = first_segment(frames, fps_after(None, fps), audio_latents=0 if count is None else count)
        if guides and len(images) == clock.frames_of_latents(video.shape[2]):
            raise RequestError(
                f"the images hold {len(images) - timing.frames} frames of guides or references behind the clip's {timing.frames}: put "
                "LTXVCropGuides in front of the decoder"
            )
        check_frames(len(images), timing)
        waveform, pictures = waveform_of(audio), images[..., :3]
        check_sound(waveform, timing)
        overlap, notes = overlap_within(timing, Overlap(video_overlap, audio_overlap))
        if fps and clock.parse_fps(fps) != timing.fps:
            notes += (f"fps {fps:g} was not used: the clip goes on from a state at {float(timing.fps):g}",)
        carried = _state_of(pictures, sound, timing, waveform, overlap, latent.get(SOURCE, Source()))
        if state is not None:  # what its scene is held to goes on
            carried = with_next_reference(carried, None, read_reference(state.metadata), None, None)
        shown = {"states": [card(carried)]}
        if filename_prefix.strip():
            *_, shown = save_state(carried, filename_prefix, cls.hidden)
        shown["states"][0]["notes"] += notes
        new_images = pictures[timing.video_overlap : timing.frames - timing.end_offset]
        new_audio = audio_value(None if waveform is None else new_sound(timing, waveform))
        return host.io.NodeOutput(carried, SegmentValue(pictures, waveform, timing), new_images, new_audio, ui=shown)


class ImagesToState(host.io.ComfyNode):
    """The end of any finished film, as frames and sound, made into a state."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "ImagesToState",
            "Images + Audio → Continuation",
            "native",
            description="Makes a state out of frames and sound alone, such as a loaded video: the sound is encoded by the host's LTX-2 audio "
            "VAE. Use AV Latent → Continuation where the latent is at hand, since it keeps the sound exactly.",
            inputs=[
                host.field(
                    io.Image,
                    "images",
                    "The film's frames, or at least its last ones. All of them are kept for joining; the last ones are carried.",
                ),
                host.field(
                    io.Float, "fps", "Frames per second of the images.", default=24.0, min=1.0, max=120.0, step=0.001
                ),
                *carried_inputs(),
                host.field(
                    io.Audio,
                    "audio",
                    "The sound that belongs to the images, as long as they are. Without it no sound is carried.",
                    optional=True,
                ),
                host.field(io.Vae, "audio_vae", "The host's LTX-2 audio VAE. Needed with audio.", optional=True),
            ],
            outputs=[
                host.output(State, "state", "What the next segment starts from."),
                host.output(Segment, "segment", "These frames as a segment, for Join Segments."),
            ],
            search_aliases=["video to state", "ltx2 continuation"],
        )

    @classmethod
    def validate_inputs(cls, video_overlap=None):
        return overlap_error(video_overlap) or True

    @classmethod
    def execute(cls, images, fps, video_overlap, audio_overlap, audio=None, audio_vae=None):
        rate, frames, pictures = clock.parse_fps(fps), len(images), images[..., :3]
        # sound at hand is encoded if it is to be carried; more of it than of the picture says nothing
        found_segment(frames, rate)
        waveform, latents, notes = waveform_of(audio), None, []
        if waveform is not None:
            last = clock.samples_of_frames(frames, rate, waveform.sample_rate)
            over = (waveform.samples.shape[-1] - last) / waveform.sample_rate
            if over > SOUND_SLACK_SECONDS:
                notes.append(f"{over:.2f} s of sound after the last frame are left out")
            waveform = Waveform(waveform.samples[:, :last], waveform.sample_rate)
        if waveform is not None and audio_overlap:
            if audio_vae is None:
                raise RequestError(
                    "sound is to be carried but no audio VAE is connected: connect the host's LTX-2 audio VAE, or set audio_overlap to 0"
                )
            latents = fit_latents(encode_audio(audio_vae, waveform), clock.audio_latents(frames, rate, "ceil"))
        timing = found_segment(frames, rate, audio_latents=0 if latents is None else latents.shape[2])
        overlap, adjusted = overlap_within(timing, Overlap(video_overlap, audio_overlap))
        carried = _state_of(pictures, latents, timing, waveform, overlap, Source())
        shown = host.tell([*adjusted, *notes]) if adjusted or notes else {}
        return host.io.NodeOutput(carried, SegmentValue(pictures, waveform, timing), ui=shown or None)


@dataclass(frozen=True)
class _Streams:
    """Video [B, 128, F, h, w] and audio [B, 8, T, 16] of a native latent, and their masks."""

    video: torch.Tensor
    audio: torch.Tensor
    video_mask: torch.Tensor
    audio_mask: torch.Tensor


def _given(latent: dict) -> _Streams:
    """Raises RequestError for a latent that a state cannot be put into."""
    video, audio = _streams(latent)
    if audio is None:
        raise RequestError(
            "the latent to fill in has no audio stream: join video and audio latent first (LTXVConcatAVLatent)"
        )
    return _Streams(video, audio, *masks_of(latent, video, audio))


def _to_fill(given: _Streams, following: NextSegment) -> _Streams:
    """Copies with room for the sound before the picture, which a graph made for clips on their own does not count."""
    count = following.audio_latents
    return _Streams(
        given.video.clone(),
        _longer(given.audio, count, 0.0),
        given.video_mask,
        _longer(given.audio_mask, count, 1.0),
    )


def _fill(streams: _Streams, following: NextSegment, vae) -> None:
    """Write what a segment starts from into streams of one's own. Raises RequestError where it does not fit."""
    if following.clip is not None:
        video, clip = streams.video, following.clip
        height, width = (side * clock.PIXELS_PER_LATENT for side in video.shape[3:])
        pixels = prepare_clip(clip.frames, height, width)  # [1, 3, V, H, W] in -1…1
        encoded = vae.encode((pixels[0].movedim(0, -1) + 1) / 2).to(video)
        if encoded.shape[1:2] + encoded.shape[3:] != video.shape[1:2] + video.shape[3:]:
            raise RequestError(
                f"the VAE made latents {list(encoded.shape)}, the segment's are {list(video.shape)}: use the model's own LTX-2 VAE"
            )
        first = clock.latent_frame_of(clip.frame)
        last, own = first + encoded.shape[2], video.shape[2] - guide_frames(streams.video_mask)
        if last > own:
            raise RequestError(
                f"the carried frames go to latent frames {first} to {last - 1}, the segment has 0 to {own - 1}: make it longer"
            )
        video[:, :, first:last] = encoded
        streams.video_mask[:, :, first:last] = 1 - clip.strength
    if following.audio is not None:
        latents = following.audio.latent
        streams.audio[:, :, : latents.shape[2]] = latents.to(streams.audio)
        streams.audio_mask[:, :, : latents.shape[2]] = following.audio.mask


def _native_source(model, before: Source) -> Source:
    """The release of the host's model, where it is connected and its tensors tell."""
    version = None if model is None else version_of_shapes(host.native_shapes(model))
    # a pre-release whose tensors are those of its neighbours
    if version is None or before.release == "LTX-2.4":
        return Source()
    return Source(f"LTX-{release(version).name}")


def _streams(latent: dict) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Video [B, 128, F, h, w] and audio [B, 8, T, 16] stream of a native latent. Raises RequestError for another
    model's."""
    video, audio = host.streams(latent["samples"])
    shapes = [list(part.shape) for part in (video, audio) if part is not None]
    if (
        video.ndim != 5
        or video.shape[1] != VIDEO_CHANNELS
        or (audio is not None and (audio.ndim != 4 or (audio.shape[1], audio.shape[3]) != (AUDIO_CHANNELS, AUDIO_BINS)))
    ):
        raise RequestError(
            f"the latent is {' and '.join(map(str, shapes))}, expected LTX-2's [B, 128, F, h, w] and [B, 8, T, 16]"
        )
    return video, audio


def _state_of(pictures, latents, timing, waveform, overlap: Overlap, source: Source):
    rate = None if waveform is None else waveform.sample_rate
    return capture_state(pictures, latents, timing, overlap=overlap, source=source, sample_rate=rate)


def _longer(sound: torch.Tensor, count: int, value: float) -> torch.Tensor:
    """A copy of a stream or mask [B, C, T, .] with at least ``count`` latents; those added have one value."""
    missing = count - sound.shape[2]
    return torch.nn.functional.pad(sound, (0, 0, 0, missing), value=value) if missing > 0 else sound.clone()


def _empty(following: NextSegment, divide: int) -> _Streams:
    """Zeros of the carried frames' size to fill in."""
    if following.clip is None:
        raise RequestError(
            "the state carries no frames, so the size is unknown: connect an empty audio-video latent to fill in"
        )
    height, width = following.clip.frames.shape[1:3]
    width, height = on_grid(width, height)
    # the first of two stages needs sides that the second can double
    width, height = (clock.snap_size(side, clock.PIXELS_PER_LATENT * divide) for side in (width, height))
    latent = empty_latent(
        width=width // divide,
        height=height // divide,
        frames=following.timing.frames,
        audio_latents=following.audio_latents,
    )
    return _Streams(latent.video, latent.audio, *masks_of({}, latent.video, latent.audio))


def encode_audio(audio_vae, waveform: Waveform) -> torch.Tensor:
    """Normalised latents [1, 8, T, 16] of a sound by the host's LTX-2 audio VAE, in either of the forms it has had;
    those behind the sound's end are of silence."""
    samples = mix_to_stereo(waveform).samples.expand(2, -1)
    # some hosts cut what does not fill a step of their own; the encoder is causal, so silence behind changes nothing
    # before
    samples = torch.nn.functional.pad(samples, (0, waveform.sample_rate // 4))
    if hasattr(audio_vae, "first_stage_model"):  # 0.20 on: like any other VAE, at a rate it names
        rate = int(getattr(audio_vae, "audio_sample_rate", 44100))
        return audio_vae.encode(resample(samples[:2].float(), waveform.sample_rate, rate).movedim(0, -1)[None])
    return audio_vae.encode({"waveform": samples[None, :2].float(), "sample_rate": waveform.sample_rate})


NODES = [StateToAVLatent, AVLatentToState, ImagesToState]
