"""``ltx2 generate``: one clip with sound from a prompt, pictures and sound."""

import sys
import time

from ..stages.pipeline import generate, prepare
from . import options


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "generate",
        help="make one clip with sound",
        description="Make one clip with sound from a prompt, and from pictures and sound if you like.",
    )
    parser.add_argument("--prompt", required=True, help="what is seen and heard")
    parser.add_argument("--out", required=True, metavar="PATH", help="a file ending in .mp4, or a folder for PNG files and sound.wav")
    options.add_model_arguments(parser)
    options.add_request_arguments(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    options.check_out(args.out)
    with options.Bars() as bars:
        models = options.load(args, bars)
        request = options.request_from(args, models, args.prompt)
        plan, geometry, notes = prepare(models, request)
        for note in notes:
            print(f"ltx2: note: {note}", file=sys.stderr)
        print(f"ltx2: {plan.preset.title}; {geometry}", file=sys.stderr)
        segment = generate(models, request, progress=bars)
        for sample in range(segment.samples):
            begun = time.perf_counter()
            out, _ = options.write_segment(
                segment,
                options.sample_path(args.out, sample, segment.samples),
                sample=sample,
                progress=bars,
                metadata=options.metadata_of(segment, request, models, sample),
            )
            seconds = {**segment.seconds, "video decoding": time.perf_counter() - begun}
            spent = ", ".join(f"{stage} {time_taken:.1f} s" for stage, time_taken in seconds.items())
            print(f"ltx2: seed {segment.seed + sample}; {spent}", file=sys.stderr)
            print(out)
