"""States as nodes: make, save, load, look at, and join what they connect."""

import warnings
from typing import Any

import numpy as np
import torch

from ..ltx2.clock import AUDIO_LATENTS_PER_SECOND
from ..ltx2.continuation import LTX2ContinuationState
from ..ltx2.continuation.attachments import load_attachment, save_attachment
from ..ltx2.continuation.describe import describe_state
from ..ltx2.errors import Ltx2Warning, RequestError
from ..ltx2.film import DriftCorrection, FinishedSegment, Overlap, capture_state, join_segments
from ..ltx2.film.drift import read_reference, with_next_reference
from ..ltx2.film.found import Writing
from ..ltx2.film.provenance import read_provenance
from ..ltx2.film.saved_film import check_film, check_goes_on, end_notes, film_of, with_film_file, write_after_film
from ..ltx2.film.timeline import overlap_within
from . import host
from .film_before import OUTPUT, film_path, found_film
from .joined import check_links, check_values
from .shown import PIECE, save_film, video_of
from .sockets import FINISHED, MOST_CARRIED, Film, Latent, Segment, SegmentValue, State, overlap_error, waveform_of
from .state_list import STATES

SUFFIXES = {"PNG card": ".png", "safetensors": ".safetensors", "folder": ""}
JOIN_INPUTS = 8
SOUND_SLACK_SECONDS = 0.25


def carried_inputs() -> list:
    """How much of a segment its state carries to the next one."""
    io = host.io
    return [
        host.field(
            io.Int,
            "video_overlap",
            "Frames that the state carries to the next segment: 8k+1, such as 9 or 17.",
            default=9,
            min=1,
            max=MOST_CARRIED,
            step=8,
        ),
        host.field(
            io.Int,
            "audio_overlap",
            "Sound that the state carries, in video frames, no less than its frames; 49 is about two seconds at 24 fps, 0 carries none.",
            default=49,
            min=0,
            max=480,
        ),
    ]


class MakeState(host.io.ComfyNode):
    """From a finished clip to what the next one needs."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "MakeState",
            "Make Continuation State",
            "continuation",
            description="Keeps the end of a finished clip, picture and sound, as the state that the next clip starts from. Also gives the "
            "finished segment for Join Segments.",
            inputs=[
                host.field(Latent, "latent", "The finished clip, from Denoise or Refine."),
                host.field(io.Image, "images", "The frames decoded from it."),
                host.field(
                    io.Audio,
                    "audio",
                    "The sound decoded from it. Needed for joining; the state itself carries latents.",
                    optional=True,
                ),
                *carried_inputs(),
            ],
            outputs=[
                host.output(State, "state", "What the next clip starts from."),
                host.output(Segment, "segment", "This clip, for Join Segments."),
            ],
        )

    @classmethod
    def validate_inputs(cls, video_overlap=None):
        return overlap_error(video_overlap) or True

    @classmethod
    def execute(cls, latent, images, video_overlap, audio_overlap, audio=None):
        waveform = waveform_of(audio)
        overlap, notes = overlap_within(latent.timing, Overlap(video_overlap, audio_overlap))
        doubled = latent.rounds and len(images) != latent.timing.frames
        state = make_state(latent, images[..., :3], waveform, overlap)
        timing = latent.timing.doubled(latent.rounds) if doubled else latent.timing
        segment = SegmentValue(images[..., :3], waveform, timing)
        return host.io.NodeOutput(state, segment, ui={"states": [card(state, notes=notes)]})


def make_state(latent, frames: torch.Tensor, waveform, overlap: Overlap):
    """The state of a finished clip. Raises RequestError when the clip is not finished."""
    if latent.rounds and len(frames) != latent.timing.frames:
        # the state is of the rate before, whose frames stand where every so many of these do
        check_frames(len(frames), latent.timing.doubled(latent.rounds))
        frames = frames[:: 1 << latent.rounds]
    check_frames(len(frames), latent.timing)
    check_sound(waveform, latent.timing)
    if latent.stage != FINISHED:
        raise RequestError(
            f"the clip is {latent.stage}, expected a finished one: connect the latent that comes out of the last stage"
        )
    state = capture_state(
        frames,
        latent.latent.audio,
        latent.timing,
        overlap=overlap,
        source=latent.source,
        sample_rate=None if waveform is None else waveform.sample_rate,
        seed=latent.seed,
    )
    return with_next_reference(state, latent.drift, latent.drift_reference, waveform, latent.latent_reference)


def check_frames(count: int, timing) -> None:
    """Raises RequestError for frames that were not decoded from the clip itself."""
    if count != timing.frames:
        raise RequestError(
            f"{count} images, the latent decodes to {timing.frames}: connect the frames decoded from this very latent"
        )


def check_sound(waveform, timing) -> None:
    """Raises RequestError for a sound that is clearly not the segment's; hosts and tracks of one's own differ in the
    last milliseconds."""
    if waveform is None:
        return
    found, shortest, longest = float(waveform.seconds), float(timing.seconds), float(timing.sound_end - timing.start)
    if not min(shortest, longest) - SOUND_SLACK_SECONDS <= found <= max(shortest, longest) + SOUND_SLACK_SECONDS:
        raise RequestError(
            f"the sound is {found:.2f} s long, that of this segment {shortest:.2f} s: connect the sound decoded from this very latent"
        )


class SaveState(host.io.ComfyNode):
    """A state into ComfyUI's output folder, in a form a person can keep and send."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "SaveState",
            "Save Continuation State",
            "continuation",
            description="Saves a state: as a PNG card (a picture you can look at, send and drop onto the page), one safetensors file, or a "
            "folder with the frames as PNG files. The workflow travels inside. Passes the state on.",
            is_output_node=True,
            inputs=[
                host.field(State, "state", "The state to save."),
                host.field(
                    io.String,
                    "filename_prefix",
                    "Name in the output folder; may have folders and the tokens of ComfyUI's own save nodes: film/%date:yyyy-MM-dd%.",
                    default="continuum/state",
                ),
                host.field(
                    io.Combo,
                    "form",
                    "PNG card: last frame as the picture. safetensors: one file. folder: frames as PNG, sound as safetensors.",
                    options=list(SUFFIXES),
                    default="PNG card",
                ),
                host.field(
                    Film,
                    "video",
                    "The film that the state goes on from, or its last segment, of which what is new is taken: saved beside the state as MP4, under the same number.",
                    optional=True,
                ),
            ],
            outputs=[
                host.output(State, "state", "The same state, which knows the film that was saved with it."),
                host.output(io.String, "file", "The saved file's name as Load Continuation State takes it."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, state, filename_prefix, form, video=None):
        state, file, shown = save_state(state, filename_prefix, cls.hidden, SUFFIXES[form], video)
        return host.io.NodeOutput(state, file, ui=shown)


def save_state(state, filename_prefix: str, hidden, suffix: str = ".png", video=None) -> tuple[Any, str, dict]:
    """Write a state under a fresh name, and a film beside it: (the state, which knows its film, its name as Load
    Continuation State takes it, what the page shows of it)."""
    frames = state.video_frames
    size = (frames[0].shape[1], frames[0].shape[0]) if frames else (0, 0)
    target = host.save_target(filename_prefix, hidden, size)
    if video is not None:
        save_film(video, target.path(".mp4"), hidden)
        for note in end_notes(target.path(".mp4"), state):
            warnings.warn(note, Ltx2Warning, stacklevel=2)
        state = with_film_file(state, target.path(".mp4"), target.annotated(".mp4"))
    save_attachment(state, target.path(suffix), texts=host.workflow_texts(hidden))
    pictures: dict[str, Any] = {"images": [target.result(suffix)]} if suffix == ".png" else {}
    if video is not None:
        pictures = {"images": [target.result(".mp4")], "animated": (True,)}
    return state, target.annotated(suffix), {"states": [card(state, target, suffix)], **pictures}


class LoadState(host.io.ComfyNode):
    """A saved state, whichever form it has."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "LoadState",
            "Load Continuation State",
            "continuation",
            description="Loads a state: a PNG card, a safetensors or JSON file, or a folder. Files that a node saved are named with [output] "
            "behind them. Anything can be typed in, also a file that was made after the page was opened.",
            inputs=[
                host.field(
                    io.Combo,
                    "file",
                    "State file in the input folder, or in the output folder with [output] behind its name.",
                    options=STATES.names(),
                    upload=io.UploadType.image,
                ),
            ],
            outputs=[host.output(State, "state", "The state in it.")],
            search_aliases=["ltx2 continuation", "open state", "resume"],
        )

    @classmethod
    def validate_inputs(cls, file):
        try:
            host.user_file(file)
        except RequestError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file):
        return host.changed_at(file)

    @classmethod
    def execute(cls, file):
        state, shown = load_state(file)
        return host.io.NodeOutput(state, ui={"states": [shown]})


def load_state(file: str) -> tuple[LTX2ContinuationState, dict]:
    """The state in a file of the host's, which knows where its film is now, and what the page shows of it. Raises
    RequestError and ContinuationError."""
    found = load_attachment(host.user_file(file))
    state, more = found_film(found.state, file)
    return state, card(state, notes=(*found.notes, *more)) | {"file": file}


class InspectState(host.io.ComfyNode):
    """What a state holds, in words and pictures."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "InspectState",
            "Inspect Continuation State",
            "continuation",
            description="Shows what a state carries: its frames as images, and everything else as text.",
            is_output_node=True,
            inputs=[host.field(State, "state", "The state to look at.")],
            outputs=[
                host.output(io.String, "text", "All fields as text."),
                host.output(io.Image, "images", "The carried frames; one black picture when there are none."),
                host.output(State, "state", "The same state."),
            ],
        )

    @classmethod
    def execute(cls, state):
        text = in_words(state)
        frames = state.video_frames or [np.zeros((64, 64, 3), np.uint8)]
        images = torch.from_numpy(np.stack(frames)).float() / 255
        return host.io.NodeOutput(
            text, images.to(host.result_device()), state, ui={"states": [card(state)], "text": [text]}
        )


def in_words(state) -> str:
    """The fields of a state a person asks for, one a line."""
    found = describe_state(state)
    lines = [str(state)]
    for name in (
        "audio_sample_rate",
        "audio_conditioning_num_frames",
        "video_position_offset_sec",
        "video_conditioning_strength",
    ):
        lines.append(f"{name.replace('_', ' ')}: {found[name]}")
    producer = read_provenance(state.metadata, state.segment_index)
    if producer is None:
        lines.append("made by another program: its clocks are not known")
    else:
        lines.append(f"fps: {producer.timing.fps}")
        lines.append(
            f"film so far: {producer.timing.total_frames} frames, {float(producer.timing.total_frames / producer.timing.fps):.2f} s"
        )
        lines += [f"model: {producer.source.release}"] if producer.source.release else []
        lines += [f"file: {producer.source.file}"] if producer.source.file else []
        lines += [f"seed: {producer.seed}"] if producer.seed is not None else []
    held_to = read_reference(state.metadata)
    lines += [] if held_to is None else [str(held_to)]
    film = film_of(state)
    lines += [f"film: {film.file}, {film.frames} frames"] if film is not None else []
    return "\n".join(lines)


def hold_inputs() -> list:
    """How much of a drift is taken back."""
    tooltips = {
        "hold_colour": "How much of a colour drift against the first segment is taken back: 0 none, 1 all.",
        "hold_contrast": "How much of a contrast drift is taken back: 0 none, 1 all.",
        "hold_loudness": "How much of a loudness drift is taken back: 0 none, 1 all.",
    }
    return [
        host.field(host.io.Float, name, tooltip, default=0.0, min=0.0, max=1.0, step=0.05)
        for name, tooltip in tooltips.items()
    ]


class JoinSegments(host.io.ComfyNode):
    """Finished segments to one film with one gap-free sound track."""

    @classmethod
    def define_schema(cls):
        io = host.io
        more = [
            host.field(
                Segment,
                f"segment_{i}",
                f"Segment {i} of the film, continuing segment {i - 1}.",
                optional=True,
                lazy=True,
            )
            for i in range(2, JOIN_INPUTS + 1)
        ]
        return host.schema(
            "JoinSegments",
            "Join Segments",
            "continuation",
            description="Joins segments in order: repeated frames are left out, the sound is crossfaded on the film's clock, and the track has "
            "exactly as many samples as the picture is long. One segment alone gives what is new in it. Connect the state that the first "
            "segment goes on from, and the film that was saved with it comes first, as it is. For longer films use Story.",
            inputs=[
                # asked for once the film before is known to be there
                host.field(Segment, "segment_1", "First segment of the film.", lazy=True),
                *more,
                *hold_inputs(),
                host.field(
                    State,
                    "state",
                    "The state that segment 1 goes on from: the film that was saved with it comes before segment 1 in video, as it is.",
                    optional=True,
                ),
            ],
            outputs=[
                host.output(io.Image, "images", "All frames of the film; with a state those that are new."),
                host.output(io.Audio, "audio", "Their sound."),
                host.output(io.Float, "fps", "Frames per second."),
                host.output(io.String, "report", "How well each seam joins."),
                host.output(io.Video, "video", "The film with its sound, for saving."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            search_aliases=["join videos", "concatenate video", "combine clips"],
        )

    @classmethod
    def check_lazy_status(cls, segment_1=None, state=None, **inputs):
        # before anything is sampled: once it is, a film that is not there costs minutes
        check_links(cls.hidden, state)
        if state is not None:
            check_film(film_path(state), state)
        if segment_1 is None:  # the others once it is known to go on from the state
            return ["segment_1"]
        if state is not None:
            check_goes_on(state, segment_1.timing)
        return [name for name, value in inputs.items() if value is None and name.startswith("segment_")]

    @classmethod
    def execute(cls, segment_1, hold_colour, hold_contrast, hold_loudness, state=None, **others):
        named = {"segment_1": segment_1} | {
            name: others[name] for i in range(2, JOIN_INPUTS + 1) if others.get(name := f"segment_{i}") is not None
        }
        check_values(named)
        given = list(named.values())
        wanted = DriftCorrection(hold_colour, hold_contrast, hold_loudness)
        correction = wanted if wanted != DriftCorrection() else None
        images, audio, report = join(given, correction)
        timing = given[0].timing
        if state is None:
            video = video_of(images, audio, timing.fps)
        else:
            video, report = join_behind(state, given, correction)
        return host.io.NodeOutput(images, audio, float(timing.fps), report, video, ui={"text": [report]})


def join_behind(state, segments: list[SegmentValue], drift_correction: DriftCorrection | None = None):
    """The film that was saved with a state with segments behind it, as the host's VIDEO, and a report. Raises
    RequestError, ContinuationError and MediaError."""
    before = film_path(state)
    lines: list[str] = []
    name = film_of(state).file.removesuffix(OUTPUT)
    finished = [FinishedSegment(one.timing, list(one.frames.split(PIECE)), one.waveform) for one in segments]
    target = host.save_target("continuum/joined", kind="temp").path(".mp4")
    writing = Writing(lines.append, drift_correction=drift_correction, report=lambda seam: lines.append(str(seam)))
    write_after_film(before, state, finished, target, writing)
    new = sum(one.timing.new_frames for one in segments)
    lines = [*end_notes(before, state), *lines]
    first = f"{name} and {len(segments)} segment{'s' if len(segments) > 1 else ''} behind it, {new} new frames"
    return host.InputImpl.VideoFromFile(str(target)), "\n".join([first, *lines])


def join(segments: list[SegmentValue], drift_correction: DriftCorrection | None = None):
    """Images [N, H, W, 3], the host's AUDIO and a report of segments in order."""
    finished = [FinishedSegment(one.timing, list(one.frames.split(PIECE)), one.waveform) for one in segments]
    reports: list = []
    notes: list[str] = []
    frames, sounds = [], []
    pieces = join_segments(finished, drift_correction=drift_correction, report=reports.append, note=notes.append)
    for piece in pieces:
        host.check_interrupted()
        if isinstance(piece, np.ndarray):
            frames.append(torch.from_numpy(piece))
        else:
            sounds.append(piece)
    if drift_correction is None and len({one.frames.shape[1:] for one in segments}) == 1:
        # untouched frames keep their full precision
        images = torch.cat(
            [one.frames[one.timing.video_overlap : one.timing.frames - one.timing.end_offset] for one in segments]
        )
    else:
        images = torch.cat(frames).float() / 255
    audio = None
    if sounds:
        waveform = torch.cat([sound.samples for sound in sounds], dim=1)[None]
        audio = {"waveform": waveform, "sample_rate": sounds[0].sample_rate}
    seconds = len(images) / float(segments[0].timing.fps)
    lines = [f"{len(segments)} segments, {len(images)} frames, {seconds:.2f} s", *notes, *map(str, reports)]
    return images.to(host.result_device()), audio, "\n".join(lines)


def card(state, target=None, suffix: str = "", notes=()) -> dict:
    """What the page shows of a state; plain JSON data."""
    frames, latents = state.video_frames, state.audio_latents
    shown = {
        "segment_index": state.segment_index,
        "frames": len(frames) if frames else 0,
        "width": frames[0].shape[1] if frames else 0,
        "height": frames[0].shape[0] if frames else 0,
        "audio_seconds": 0.0 if latents is None else latents.shape[2] / AUDIO_LATENTS_PER_SECOND,
        "picture": None,
        "notes": list(notes),
    }
    if target is None:
        return shown
    path = target.path(suffix)
    size = path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.iterdir())
    shown |= {"file": target.annotated(suffix), **target.result(suffix), "bytes": size}
    if suffix == ".png":
        shown["picture"] = target.result(suffix)
    elif not suffix and frames:
        subfolder = "/".join(filter(None, (target.subfolder, target.stem)))
        shown["picture"] = {"filename": f"frame_{len(frames) - 1:03}.png", "subfolder": subfolder, "type": target.kind}
    return shown


NODES = [MakeState, SaveState, LoadState, InspectState, JoinSegments]
