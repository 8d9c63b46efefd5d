"""``ltx2 continue``: the next segment from a state, in another run, on another machine, by another person."""

import sys
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..continuation import FolderBlobs, LTX2ContinuationState, load_attachment, save_attachment
from ..errors import RequestError
from ..film import FinishedSegment, SegmentTiming, capture_state, condition_next, join_segments
from ..film.provenance import read_provenance
from ..film.timeline import VIDEO_OVERLAP_FRAMES
from ..media import VideoWriter
from ..stages.pipeline import Segment, generate, prepare
from ..story.from_pipeline import model_text
from ..values import Waveform
from . import options


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "continue",
        help="continue a film from its state",
        description=(
            "Make the next segment of a film from the state that the last one left. The result holds what is "
            "new, and begins where the segment before ended; beside it lies the state for the next one."
        ),
    )
    parser.add_argument("state", help="state as PNG card, .safetensors, .json or folder")
    parser.add_argument("--prompt", required=True, help="what is seen and heard next")
    parser.add_argument("--out", required=True, metavar="FILE", help="the new part of the film, ending in .mp4")
    parser.add_argument("--blobs", metavar="DIR", help="folder with the blobs that the state names")
    parser.add_argument(
        "--save-state",
        metavar="PATH",
        help="where the new state goes (default: a card beside the film, NAME.state.png)",
    )
    parser.add_argument(
        "--strength",
        type=options.number,
        help="how firmly it starts from the last frames, 0 to 1 (default: the state's)",
    )
    options.add_model_arguments(parser)
    options.add_request_arguments(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    options.check_film(args.out)
    saved = Path(args.save_state or Path(args.out).with_suffix(".state.png"))
    options.check_state(saved)
    if args.audio or args.samples != 1:
        raise RequestError("a continuation makes one sample with its own sound: leave --audio and --samples out")
    blobs = FolderBlobs(args.blobs) if args.blobs else None
    state = load_attachment(args.state, blob_store=blobs).state
    producer = read_provenance(state.metadata, state.segment_index)
    with options.Bars() as bars:
        models = options.load(args, bars)
        request = options.request_from(args, models, args.prompt)
        if request.fps is None and producer is not None:
            request = replace(request, fps=producer.timing.fps)
        if request.frames is None and request.seconds is None and producer is not None:
            request = replace(request, frames=producer.timing.frames)
        if request.width is None and state.video_frames:
            height, width = state.video_frames[0].shape[:2]
            request = replace(request, width=width, height=height)
        settings, geometry, notes = prepare(models, request)
        following = condition_next(
            state,
            geometry.frames,
            geometry.fps,
            size=(geometry.width, geometry.height),
            model=model_text(models),
            strength=args.strength,
        )
        overlap = following.timing.video_overlap
        if any(image.frame < overlap for image in request.images):
            raise RequestError(
                f"frames 0 to {overlap - 1} come from the state: give the image a later frame, or FILE@last"
            )
        seed = following.seed if request.seed is None else request.seed
        request = replace(
            request,
            frames=geometry.frames,
            seconds=None,
            fps=geometry.fps,
            width=geometry.width,
            height=geometry.height,
            seed=settings.preset.seed if seed is None else seed,
            clips=() if following.clip is None else (following.clip,),
            audio=following.audio,
            audio_latents=following.audio_latents,
            video_offset_seconds=following.video_offset_seconds,
        )
        for note in notes:
            print(f"ltx2: note: {note}", file=sys.stderr)
        print(f"ltx2: {settings}; {following.timing}", file=sys.stderr)
        segment = generate(models, request, progress=bars)
        tail = write_film(
            segment, following.timing, args.out, progress=bars, metadata=options.metadata_of(segment, request, models)
        )
    print(
        (
            "ltx2: state "
            f"{save_attachment(state_after(segment, following.timing, tail, model_text(models), state), saved)}"
        ),
        file=sys.stderr,
    )
    print(args.out)


def write_film(segment: Segment, timing: SegmentTiming, out, *, progress=None, metadata=None) -> np.ndarray:
    """Write what a segment adds to a film; returns its last frames for the state."""
    tail: deque[np.ndarray] = deque(maxlen=max(VIDEO_OVERLAP_FRAMES, timing.video_overlap))

    def watched():
        for chunk in segment.frames(progress=progress):
            tail.extend(np.array(chunk[-tail.maxlen :]))
            yield chunk

    sound = segment.sound
    rate, channels = (sound.sample_rate, sound.samples.shape[0]) if sound is not None else (None, 2)
    with VideoWriter(out, fps=timing.fps, sample_rate=rate, channels=channels, metadata=metadata) as writer:
        for piece in join_segments([FinishedSegment(timing, watched(), sound)]):
            if isinstance(piece, Waveform):
                writer.write_sound(piece)
            else:
                writer.write_frames(piece)
    return np.stack(tail)


def state_after(
    segment: Segment, timing: SegmentTiming, tail: np.ndarray, model: str, before: LTX2ContinuationState | None = None
):
    """The state that a segment leaves, with the overlaps of the one before it."""
    overlaps = {}
    producer = read_provenance(before.metadata, before.segment_index) if before is not None else None
    if producer is not None and producer.video_overlap:
        overlaps = {"video_overlap": producer.video_overlap, "audio_overlap": producer.audio_overlap}
    rate = segment.sound.sample_rate if segment.sound is not None else None
    return capture_state(
        tail, segment.latent.audio, timing, sample_rate=rate, seed=segment.seed, model=model, **overlaps
    )
