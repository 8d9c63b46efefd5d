"""``ltx2 generate``: one clip with sound from a prompt, pictures and sound."""

import argparse
import time

from ..film import Handoff, LastFrames
from ..story.segment_job import segment_job, state_after
from . import options
from .arguments.clip import add_clip_arguments, clip_request
from .arguments.drift import drift_to_measure
from .films.states import save_state
from .report import Bars, add_json_argument, made_of, print_result


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "generate",
        help="make one clip with sound",
        description="Make one clip with sound from a prompt, and from pictures and sound if you like.",
    )
    parser.add_argument("--prompt", required=True, help="what is seen and heard")
    parser.add_argument(
        "--out", required=True, metavar="PATH", help="a file ending in .mp4, or a folder for PNG files and sound.wav"
    )
    parser.add_argument(
        "--save-state",
        metavar="PATH",
        help="also keep what `ltx2 continue` goes on from: .png card, .safetensors, .json or a folder",
    )
    add_clip_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the verb. Raises Ltx2Error."""
    options.check_out(args.out, args.samples)
    if args.save_state:
        options.check_state(args.save_state, args.samples)
    drift = drift_to_measure(args)
    with Bars() as bars:
        models = options.load(args, bars)
        made = segment_job(models, clip_request(args, models, bars), handoff=Handoff(drift=drift))
        notes, clips = options.notes_of(args, models, made.job), []
        options.log_notes(notes)
        options.log(made.job)
        segment = options.generator(args)(models, made.job, progress=bars)
        for index in range(segment.batch_size):
            begun = time.perf_counter()
            last_frames = LastFrames(made.overlap.video_frames)
            out = options.write_segment(
                segment,
                made.timing,
                options.numbered(args.out, index, segment.batch_size),
                index=index,
                last_frames=last_frames if args.save_state else None,
                progress=bars,
                metadata=options.metadata_of(segment, made.job.request, models, index),
            )
            seconds = {**segment.seconds, "video decoding": time.perf_counter() - begun}
            spent = ", ".join(f"{stage} {time_taken:.1f} s" for stage, time_taken in seconds.items())
            options.log(f"seed {segment.seed + index}; {spent}")
            clips.append({"file": str(out), "seed": segment.seed + index, "state": None})
            if args.save_state:
                state = state_after(made, segment, last_frames.frames, index)
                saved = save_state(state, options.numbered(args.save_state, index, segment.batch_size), out)
                clips[-1]["state"] = str(saved)
            if not args.json:
                print(out)
    if args.json:
        print_result(args, made_of(made.job, segment, clips, notes), ())
