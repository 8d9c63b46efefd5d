"""``ltx2 continue``: the next segment from a state, in another run, on another machine, by another person."""

import argparse
from pathlib import Path

from ..continuation import FolderBlobs, save_attachment
from ..errors import RequestError
from ..film import Handoff, LastFrames
from ..story.segment_job import segment_job, state_after
from . import options
from .drafts import add_draft_arguments
from .state import load_with_notes


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Tell the command line of this verb."""
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
    add_draft_arguments(parser)
    options.add_request_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """What the verb does. Raises Ltx2Error."""
    options.check_film(args.out)
    saved = Path(args.save_state or Path(args.out).with_suffix(".state.png"))
    options.check_state(saved)
    if args.audio or args.samples != 1:
        raise RequestError("a continuation makes one clip with its own sound: leave --audio and --samples out")
    state = load_with_notes(args.state, FolderBlobs(args.blobs) if args.blobs else None).state
    with options.Bars() as bars:
        models = options.load(args, bars)
        request = options.request_from(args, models, args.prompt, after=state)
        made = segment_job(models, request, state, Handoff(strength=args.strength))
        options.log_notes(options.notes_of(args, models, made.job))
        options.log(f"{made.job.settings}; {made.timing}")
        segment = options.generator(args)(models, made.job, progress=bars)
        last_frames = LastFrames(made.overlap.video_frames)
        options.write_segment(
            segment,
            made.timing,
            args.out,
            last_frames=last_frames,
            progress=bars,
            metadata=options.metadata_of(segment, made.job.request, models),
        )
    options.log(f"state {save_attachment(state_after(made, segment, last_frames.frames), saved)}")
    print(args.out)
