"""What is asked for, and the one job that it becomes: everything resolved and checked before the first long stage."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from .. import clock
from ..checkpoint.lora import Reference
from ..errors import Ltx2Warning, RequestError
from ..sampling.guidance import Guidance, with_identity
from ..sampling.noise import SEEDS
from ..values import (
    AudioCondition,
    ClipCondition,
    ImageCondition,
    LatentCondition,
    LatentDrift,
    ReferenceCondition,
    TextContext,
    VoiceCondition,
    Waveform,
    placed,
)
from .conditioning import check_apart, check_places
from .conditioning.references import FIRST_STAGE, check_references, expected_reference, reference_tokens
from .conditioning.slots import checked_slots
from .conditioning.voices import check_voice
from .denoising.drift import check_drift
from .doubling.checks import check_double_rate, check_doubling_models, doubling_notes
from .geometry import ANY_SIZE, Geometry, Multiple, asked_frames, asked_size
from .given import (
    check_sound_only,
    cut_pictures,
    detail_notes,
    draft_notes,
    is_pictureless,
    lora_notes,
    negative_text,
    one_stage,
    read_fields,
    ready_audio,
    ready_voice,
    stage_lora_notes,
    stages_of,
    uncompiled,
    unread_negative,
    unused_lora,
    unused_settings,
    wants_negative,
    without_distilled_lora,
)
from .models import Models
from .placing.room import room_notes
from .presets import Preset, Settings, StageSettings, drafted, find_preset, guidance_of, preset_for, resolve
from .refinement import check_upsampler


@dataclass(frozen=True)
class Request:
    """One segment to make. What is None comes from the checkpoint or the preset.

    width, height: pixels; frames or seconds: length (seconds are taken to the nearest possible count); fps: see
    clock.parse_fps. seed: of the first clip of a batch, clip i uses seed + i. snap: sizes and frame counts that the
    models cannot take are taken to the nearest ones, and the result says so, instead of being refused.
    audio: a Waveform is heard as it is, and the picture made to go with it; an AudioCondition holds latents to start
    from. latents: video latents to start from, at the first stage's size and at the second's (or None). audio_latents:
    exact length of the sound's latent; None takes it from the frames by ``audio_rule``; 0 makes a silent film.
    positive, negative: contexts encoded before, in place of prompts. overrides: by stage and name (presets.resolve).
    draft: a quick look at what the request would make (presets.draft), enlarged to its size. references: what IC-LoRAs
    look at beside the whole clip; voice: what an ID-LoRA makes people speak with. sound_only: of a clip that is one
    frozen ClipCondition, or that is heard alone; it then has no size. double_rate: how often the frame rate is doubled
    when the clip is made (stages.doubling); frames, fps and all places are those of before. latent_drift: what the
    first stage does against drift. keyframe_slots: how many keyframes are made beside the clip in the first stage, or
    at which frames (conditioning.slots).
    """

    prompt: str = ""
    negative_prompt: str | None = None
    preset: str | None = None
    preset_version: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    seconds: float | Fraction | None = None
    fps: Any = None
    seed: int | None = None
    batch_size: int = 1
    snap: bool = False
    images: tuple[ImageCondition, ...] = ()
    clips: tuple[ClipCondition, ...] = ()
    latents: tuple[LatentCondition, LatentCondition | None] | None = None
    audio: AudioCondition | Waveform | None = None
    audio_latents: int | None = None
    audio_rule: str = "ceil"
    video_offset_seconds: float | Fraction = 0
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    positive: TextContext | None = None
    negative: TextContext | None = None
    draft: bool = False
    references: tuple[ReferenceCondition, ...] = ()
    sound_only: bool = False
    voice: VoiceCondition | None = None
    double_rate: int = 0
    latent_drift: LatentDrift | None = None
    keyframe_slots: int | tuple[int, ...] = 0


@dataclass(frozen=True)
class Stage:
    """One denoising stage of a job: ``denoising`` or ``refining``, its clip at its own size, and how it runs.

    latent: video latents of this size to start from; references: those that it is shown, and what these must be.
    identity: how strongly it goes towards a voice. slots: frames of keyframes that are made beside the clip.
    detail: whether it looks at the first stage's result.
    """

    name: str
    geometry: Geometry
    settings: StageSettings
    add_noise: bool = True
    latent: LatentCondition | None = None
    references: tuple[ReferenceCondition, ...] = ()
    reference: Reference = Reference()
    identity: float = 0.0
    slots: tuple[int, ...] = ()
    detail: bool = False

    @property
    def guidance(self) -> Guidance:
        """Guidance of both streams, towards a voice included."""
        return with_identity(guidance_of(self.settings), self.identity)

    @property
    def tokens(self) -> int:
        """Tokens of the picture with those of references and keyframe slots, which cost as much."""
        size = self.geometry
        each = reference_tokens(self.reference, width=size.width, height=size.height, frames=size.frames)
        slots = len(self.slots) * size.video_tokens // size.latent_frames
        first = size.video_tokens // FIRST_STAGE.downscale**2 if self.detail else 0
        return size.video_tokens + slots + first + len(self.references) * each


@dataclass(frozen=True, eq=False)
class Job:
    """What will be done: a request with every open field filled in, the settings of its stages, its clip, and what was
    adjusted or chosen on the way, one sentence each."""

    request: Request
    settings: Settings
    geometry: Geometry
    notes: tuple[str, ...] = ()
    reference: Reference = Reference()

    @property
    def seed(self) -> int:
        """The seed of the first clip of the batch."""
        return self.request.seed

    @property
    def seeds(self) -> range:
        """The seeds of the batch, one a clip."""
        return range(self.seed, self.seed + self.request.batch_size)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The one or two stages to run; the first of two works at half size."""
        settings, latents = self.settings, self.request.latents or (None, None)
        if settings.refine is None:
            size = self.geometry.half() if settings.half_size else self.geometry
            return (self._shown(Stage("denoising", size, settings.denoise, latent=latents[0])),)
        again, full = settings.refine.video_position_offset_sec, self.geometry
        if again is not None:
            full = replace(full, video_offset_seconds=clock.exact_seconds(again))
        return (
            self._shown(Stage("denoising", self.geometry.half(), settings.denoise, latent=latents[0])),
            self._shown(Stage("refining", full, settings.refine.stage, settings.refine.add_noise, latents[1])),
        )

    def _shown(self, stage: Stage) -> Stage:
        """A stage with the references that it is shown, and what it makes of a voice."""
        first, voice = stage.name == "denoising", self.request.voice
        seen = tuple(one for one in self.request.references if first or one.stages == "both")
        identity = voice.identity if first and voice is not None else 0.0
        given = self.request.keyframe_slots  # a number only until the job is made
        slots = given if first and isinstance(given, tuple) else ()
        detail = not first and self.settings.refine is not None and self.settings.refine.detail
        shown = replace(stage, references=seen, reference=self.reference, identity=identity)
        return replace(shown, slots=slots, detail=detail)

    def __str__(self) -> str:
        return f"{self.settings}; {self.geometry}"


# What may be done of a job.
TEXT, FIRST_PASS, UPSAMPLING, SECOND_PASS, DECODING = "text", "first pass", "upsampling", "second pass", "decoding"
DOUBLING = "doubling"
EVERYTHING = (TEXT, FIRST_PASS, UPSAMPLING, SECOND_PASS, DOUBLING, DECODING)


def make_job(models: Models, request: Request, parts: Collection[str] = EVERYTHING) -> Job:
    """What a request means with these models, checked for the parts of it that are to be done here.

    parts: of ``EVERYTHING``; networks that only others need may be missing, and with none only the request is looked
    at.
    Raises RequestError and CheckpointError for what cannot work; warns (Ltx2Warning) of what may not.
    """
    chosen: tuple[str, ...] = ()
    request, heard = _read(request)
    if request.preset is None:
        preset = preset_for(models.names, models.release, sound_only=request.sound_only)
        chosen = (f"preset {preset.name} was chosen by the checkpoint's name",)
    else:
        preset = find_preset(request.preset, request.preset_version)
    settings = resolve(preset, models.release, request.overrides, rounds=check_double_rate(request))
    settings = one_stage(settings) if request.sound_only else settings
    if request.draft:
        settings = drafted(settings, request.overrides)
    _check_what_is_said(request)
    expected = expected_reference(models.reference_loras) if request.references else None
    reference = Reference() if expected is None else expected
    geometry, adjusted = resolve_geometry(request, preset, multiple=_multiple(settings, reference, models))
    slots = checked_slots(request, geometry.frames, models)
    request = replace(request, images=placed(request.images, geometry.frames), keyframe_slots=slots)
    _check_conditions(request, geometry, settings)
    if parts:  # else another job follows, which knows all of the request
        _warn_of_the_untrained(geometry)
    notes = (
        *chosen,
        *lora_notes(models, request, settings),
        *stage_lora_notes(models.stage_loras, settings),
        *detail_notes(models, request, settings),
        *unused_lora(models, settings),
        *unused_settings(models, request, settings),
        *uncompiled(models, request, geometry.video_tokens),
        *draft_notes(models, settings),
        *doubling_notes(request, settings),
        *adjusted,
        *cut_pictures(request.images, geometry.width, geometry.height),
        *check_references(request.references, geometry.frames),
        *_voice_notes(request, geometry),
        *heard,
        *unread_negative(request.negative_prompt, settings),
        *_cut_prompts(models, request, settings, parts),
    )
    job = Job(_filled_in(request, preset, geometry), settings, geometry, notes, reference)
    if parts:
        _check_models(models, job, parts)
        for text in without_distilled_lora(models, settings):
            _warn(text)
        # a host makes room itself
        if FIRST_PASS in parts and models.host_placement is None:
            for text in room_notes(models, job):
                _warn(text)
    return job


def resolve_geometry(
    request: Request, preset: Preset | None = None, *, multiple: Multiple = ANY_SIZE
) -> tuple[Geometry, tuple[str, ...]]:
    """Size, length and place in time of a request, and what was adjusted to get there.

    preset: says what the request leaves open; without one size and length must be given. multiple: of the sides.
    Raises RequestError.
    """
    notes: list[str] = []
    fps = clock.parse_fps(
        request.fps if request.fps is not None else preset.fps if preset is not None else clock.DEFAULT_FPS
    )
    frames = asked_frames(request, preset, fps, notes)
    width, height = (0, 0) if is_pictureless(request) else asked_size(request, preset, multiple, notes)
    audio_latents = request.audio_latents
    if audio_latents is None:
        audio_latents = clock.audio_latents(frames, fps, request.audio_rule)
    if audio_latents < 0:
        raise RequestError(f"{audio_latents} audio latents, expected 0 (no sound) or more")
    offset = clock.exact_seconds(request.video_offset_seconds)
    if offset < 0:
        raise RequestError(f"video position offset is {float(offset):g} s, expected 0 or more")
    return Geometry(width, height, frames, fps, audio_latents, offset), tuple(notes)


# ---------------------------------------------------------------------------------------------------------------
# The request by itself


def _filled_in(request: Request, preset: Preset, geometry: Geometry) -> Request:
    """The request with nothing left open, which gives the same job again."""
    return replace(
        request,
        preset=preset.name,
        preset_version=preset.version,
        width=geometry.width,
        height=geometry.height,
        frames=geometry.frames,
        seconds=None,
        fps=geometry.fps,
        audio_latents=geometry.audio_latents,
        video_offset_seconds=geometry.video_offset_seconds,
        seed=preset.seed if request.seed is None else request.seed,
    )


def _read(request: Request) -> tuple[Request, tuple[str, ...]]:
    """A request of plain numbers and a sound that can be heard, and what was done to the sound."""
    request = read_fields(request)
    audio, notes = ready_audio(request.audio)
    voice, more = ready_voice(request.voice)
    return replace(request, audio=audio, voice=voice), (*notes, *more)


def _voice_notes(request: Request, geometry: Geometry) -> tuple[str, ...]:
    audio = request.audio
    own = isinstance(audio, Waveform) or (audio is not None and audio.frozen)
    return check_voice(request.voice, audio_latents=geometry.audio_latents, own_sound=own)


def _cut_prompts(models: Models, request: Request, settings: Settings, parts: Collection[str]) -> tuple[str, ...]:
    if TEXT not in parts or request.positive is not None or not models.reads_prompts:
        return ()
    notes = models.prompt_note(request.prompt)
    if (
        request.negative_prompt is None
        or request.negative is not None
        or not any(map(wants_negative, stages_of(settings)))
    ):
        return notes
    text = negative_text(request.negative_prompt, settings)
    return (*notes, *models.prompt_note(text, "the negative prompt"))


def _multiple(settings: Settings, reference: Reference, models: Models) -> Multiple:
    """What the sides must be multiples of: the first of two stages works at half size, a reference may be smaller."""
    two = settings.refine is not None or settings.half_size
    why = ["two stages"] if two else []
    if reference.downscale > 1:
        lora = next(one for one in models.reference_loras if one.reference == reference)
        why.append(f"the reference of {lora.path.name} at the size divided by {reference.downscale}")
    return Multiple(clock.PIXELS_PER_LATENT * (2 if two else 1) * reference.downscale, " and ".join(why))


def check_prompt(prompt: str) -> None:
    """Raises RequestError for a prompt that says nothing."""
    if not (isinstance(prompt, str) and prompt.strip()):
        raise RequestError("the prompt is empty: say what is seen and heard")


def _check_what_is_said(request: Request) -> None:
    if request.positive is None:
        check_prompt(request.prompt)
    if request.batch_size < 1:
        raise RequestError(f"batch size is {request.batch_size}, expected 1 or more")
    if request.seed is not None and (not isinstance(request.seed, int) or not 0 <= request.seed < SEEDS):
        raise RequestError(f"seed is {request.seed!r}, expected a whole number from 0 to 2^64 - 1")
    if request.seed is not None and request.seed + request.batch_size > SEEDS:
        raise RequestError(
            f"{request.batch_size} clips from seed {request.seed} on, expected seeds up to 2^64 - 1: use a smaller one"
        )


def _check_conditions(request: Request, geometry: Geometry, settings: Settings) -> None:
    """Places and strengths of everything to start from, before a model is loaded for it."""
    check_sound_only(request, geometry.frames)
    check_drift(request.latent_drift)
    check_places(request.images, request.clips, geometry.frames)
    check_apart(request.images, geometry.frames)
    if request.latents is not None and settings.refine is not None and request.latents[1] is None:
        raise RequestError(
            "video latents to start from are given for the first stage only: give those of the second stage too"
        )
    if request.audio is not None and not geometry.audio_latents:
        raise RequestError("a sound was given for a silent film: leave audio_latents out")
    if isinstance(request.audio, AudioCondition):
        given, total = request.audio.latent.shape[2], geometry.audio_latents
        if not request.audio.frozen and given > total:
            raise RequestError(
                f"{given} audio latents are given, the clip has {total}: make the clip longer or keep fewer"
            )


def _warn_of_the_untrained(geometry: Geometry) -> None:
    end = clock.beyond_window(geometry.video_offset_seconds, geometry.seconds, geometry.audio_latents)
    if end is not None:
        _warn(
            f"the clip reaches {float(end):.2f} s with what it repeats, the models were trained up to "
            f"{clock.WINDOW_SECONDS} s: make shorter segments"
        )
    if geometry.fps > clock.FASTEST_FPS:
        _warn(f"{float(geometry.fps):g} frames per second, the models were trained up to {clock.FASTEST_FPS}")


def _warn(text: str) -> None:
    # two functions up is whoever asked for the job
    warnings.warn(text, Ltx2Warning, stacklevel=4)


# ---------------------------------------------------------------------------------------------------------------
# The models for it


def _check_models(models: Models, job: Job, parts: Collection[str]) -> None:
    """Everything that will be needed, before the first long stage."""
    request, settings = job.request, job.settings
    needed = []
    if DECODING in parts and not (request.sound_only or (settings.draft and models.tiny_decoder is not None)):
        needed.append("video_decoder")
    if TEXT in parts and request.positive is None:
        needed += ["text_encoder", "text_projection", "connectors"]
    voiced = request.voice is not None and request.voice.sound is not None
    if FIRST_PASS in parts and (isinstance(request.audio, Waveform) or voiced):
        needed.append("audio_encoder")
    if FIRST_PASS in parts and isinstance(request.audio, AudioCondition) and request.audio.gain != 1:
        needed += ["audio_encoder", "audio_decoder", "vocoder"]
    if {FIRST_PASS, SECOND_PASS} & set(parts) and (request.images or request.clips or request.references):
        needed.append("video_encoder")
    if DECODING in parts:
        needed += _sound_networks(job)
    if UPSAMPLING in parts and settings.refine is not None:
        needed.append("upsampler")
    for name in needed:
        models.check(name)
    if "upsampler" in needed:
        check_upsampler(models.upsampler.config)
    if DOUBLING in parts and settings.rounds:
        check_doubling_models(models)
    _check_blocks(models, settings)


def _sound_networks(job: Job) -> tuple[str, ...]:
    """What decodes the sound; a track of one's own is heard as it was given."""
    audio = job.request.audio
    as_given = isinstance(audio, Waveform) or (audio is not None and audio.frozen and audio.waveform is not None)
    return () if as_given or not job.geometry.audio_latents else ("audio_decoder", "vocoder")


def _check_blocks(models: Models, settings: Settings) -> None:
    """Blocks that somebody named must exist: a pass that changes nothing costs as much as one that does."""
    count = models.transformer.config.layers
    own = () if models.release is None else models.release.stg_blocks
    for stage in stages_of(settings):
        for scale, blocks in (
            (stage.stg_scale_video, stage.stg_blocks_video),
            (stage.stg_scale_audio, stage.stg_blocks_audio),
        ):
            missing = [block for block in blocks or () if not 0 <= block < count]
            if scale and missing and tuple(blocks) != tuple(own):
                raise RequestError(f"stg_blocks names block {missing[0]}, the transformer has blocks 0 to {count - 1}")
