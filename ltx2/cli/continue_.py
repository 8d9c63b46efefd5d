"""``ltx2 continue``: the next segment from a state, in another run, on another machine, by another person; or from any
film that was found."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..continuation import FolderBlobs
from ..errors import RequestError
from ..film import FinishedSegment, Handoff, LastFrames
from ..film.found import Writing, write_extended
from ..film.handoff import open_request
from ..stages.models import Models
from ..stages.pipeline import Segment
from ..stages.request import Request
from ..story.found import go_before, go_on, sized_after_film, write_longer
from ..story.segment_job import SegmentJob, segment_job, state_after
from . import options
from .arguments.clip import add_clip_arguments, clip_request
from .arguments.drift import drift_from, with_said_of_drift
from .films.states import save_state
from .report import Bars, add_json_argument, made_of, print_result
from .state import load_with_notes


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "continue",
        help="continue a film from its state, or any film from its end",
        description=(
            "Make the next segment of a film. From the state that the last segment left, the result holds what is "
            "new, and begins where the segment before ended. From a film, whatever it was made with, the result holds "
            "that film as it is and the new part behind it. Beside the result lies the state for the next segment."
        ),
    )
    parser.add_argument("state", help="state as PNG card, .safetensors, .json or folder; or a film, such as .mp4")
    parser.add_argument("--prompt", required=True, help="what is seen and heard next")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="the new part of the film (of a found film: all of it), .mp4"
    )
    parser.add_argument("--blobs", metavar="DIR", help="folder with the blobs that the state names")
    parser.add_argument(
        "--context",
        type=int,
        metavar="FRAMES",
        help="of a found film, how many of its last frames to start from: 8k+1 (default 25, fewer for short segments)",
    )
    parser.add_argument(
        "--before",
        action="store_true",
        help="make what comes before a found film: it ends as the film begins, and the film stays as it is behind it",
    )
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
    add_clip_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the verb. Raises Ltx2Error."""
    options.check_film(args.out)
    saved = Path(args.save_state or Path(args.out).with_suffix(".state.png"))
    options.check_state(saved)
    if args.samples != 1:
        raise RequestError("a continuation makes one clip: leave --samples out")
    if args.audio and is_film(args.state):
        raise RequestError("a film is gone on from with the sound that it has: leave --audio out")
    if is_film(args.state) and (args.double_rate or args.temporal_upsampler):
        raise RequestError("a film is gone on from at the frame rate that it has: leave --double-rate out")
    drift_from(args)  # told before anything is read
    if args.before:
        _before_film(args)
        return
    (_after_film if is_film(args.state) else _after_state)(args, saved)


def is_film(name: str | Path) -> bool:
    """Whether a name is that of a film and not of a state."""
    path = Path(name)
    return path.suffix.lower() not in ("", *options.STATE_SUFFIXES) and not path.is_dir()


def _handoff(args: argparse.Namespace) -> Handoff:
    return Handoff(strength=args.strength, drift=drift_from(args))


def _said(args: argparse.Namespace, segment: Segment, made: SegmentJob, models: Models) -> dict:
    """What the film says about how it was made."""
    said = options.metadata_of(segment, made.job.request, models)
    return with_said_of_drift(args, said)


def _after_state(args: argparse.Namespace, saved: Path) -> None:
    if args.context is not None:
        raise RequestError("--context is for films: a state has the frames that it starts from, leave it out")
    state = load_with_notes(args.state, FolderBlobs(args.blobs) if args.blobs else None).state
    with Bars() as bars:
        models = options.load(args, bars)

        def opened(asked: Request) -> Request:
            return open_request(asked, state)

        request = clip_request(args, models, bars, opened=opened, going_on=True)
        made = segment_job(models, request, state, _handoff(args))
        notes = options.notes_of(args, models, made.job)
        options.log_notes(notes)
        options.log(f"{made.job.settings}; {made.timing}")
        segment = options.generator(args)(models, made.job, progress=bars)
        last_frames = LastFrames(made.overlap.video_frames)
        options.write_segment(
            segment,
            made.timing,
            args.out,
            last_frames=last_frames,
            progress=bars,
            metadata=_said(args, segment, made, models),
        )
    _tell(args, made, segment, save_state(state_after(made, segment, last_frames.frames), saved, args.out), notes)


def _after_film(args: argparse.Namespace, saved: Path) -> None:
    if args.blobs:
        raise RequestError(f"--blobs is for states, {args.state} is a film: leave it out")
    options.check_other_file(args.out, args.state, "the film that is gone on from")
    with Bars() as bars:
        models = options.load(args, bars)

        def opened(asked: Request) -> Request:
            return sized_after_film(models, asked, args.state)

        request = clip_request(args, models, bars, opened=opened, going_on=True)
        start = go_on(models, request, args.state, context=args.context, handoff=_handoff(args))
        made = start.made
        notes = [*start.film.notes, *options.notes_of(args, models, made.job)]
        options.log_notes(notes)
        options.log(f"{start.film}; {made.job.settings}; {made.timing}")
        segment = options.generator(args)(models, made.job, progress=bars)
        last_frames = LastFrames(made.overlap.video_frames)
        new = FinishedSegment(made.timing, last_frames.watch(segment.frames(progress=bars)), segment.sound)
        write_extended(
            args.state,
            start.film,
            new,
            args.out,
            Writing(
                note=options.noted(notes),
                metadata=_said(args, segment, made, models),
            ),
        )
    _tell(args, made, segment, save_state(state_after(made, segment, last_frames.frames), saved, args.out), notes)


def _before_film(args: argparse.Namespace) -> None:
    if not is_film(args.state):
        raise RequestError(f"--before is for films, {args.state} is a state, which knows its end: leave --before out")
    others = (("--blobs", args.blobs), ("--save-state", args.save_state), ("--drift", drift_from(args)))
    given = [name for name, value in others if value]
    if given:
        raise RequestError(f"{given[0]} is for what comes behind: leave it out, or leave --before out")
    options.check_other_file(args.out, args.state, "the film that the new part leads to")
    with Bars() as bars:
        models = options.load(args, bars)

        def opened(asked: Request) -> Request:
            return sized_after_film(models, asked, args.state)

        request = clip_request(args, models, bars, opened=opened)
        made = go_before(models, request, args.state, context=args.context, strength=args.strength)
        notes = [*made.film.notes, *options.notes_of(args, models, made.job)]
        options.log_notes(notes)
        options.log(f"{made}; {made.job.settings}")
        segment = options.generator(args)(models, made.job, progress=bars)
        write_longer(
            made,
            segment.frames(progress=bars),
            segment.sound,
            args.out,
            note=options.noted(notes),
            metadata=options.metadata_of(segment, made.job.request, models),
        )
    clip = {"file": str(args.out), "seed": segment.seed}
    print_result(args, made_of(made.job, segment, [clip], notes), [args.out])


def _tell(args: argparse.Namespace, made: SegmentJob, segment: Segment, saved: Path, notes: Sequence[str]) -> None:
    clip = {"file": str(args.out), "seed": segment.seed, "state": str(saved)}
    print_result(args, made_of(made.job, segment, [clip], (*made.notes, *notes)), [args.out])
