"""``ltx2 dub``: a film spoken anew, in its own voice."""

import argparse

from ...errors import RequestError
from ...story.found import dubbing
from .. import options
from ..drafts import add_draft_arguments
from ..report import Bars, add_json_argument, made_of, print_result


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "dub",
        help="have a film spoken anew, in its own voice",
        description=(
            "Make a film anew in which the same person says other words, such as in another language, with the same "
            "voice, and lips that move with them. Needs a LoRA that dubs (--lora). One speaker, up to 20 seconds."
        ),
    )
    parser.add_argument("film", metavar="FILM", help="the film, with its sound, whatever it was made with")
    parser.add_argument("--prompt", required=True, help="what is seen, and the new words in their own script")
    parser.add_argument("--out", required=True, metavar="FILE", help="the new film, ending in .mp4")
    options.add_model_arguments(parser)
    add_draft_arguments(parser)
    options.add_request_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the verb. Raises Ltx2Error."""
    options.check_film(args.out)
    given = {"audio": args.audio, "seconds": args.seconds, "frames": args.frames, "fps": args.fps, "image": args.image}
    for name, value in given.items():
        if value not in (None, []):
            raise RequestError(f"a dub takes length, rate, pictures and voice from its film: leave --{name} out")
    if args.samples != 1:
        raise RequestError("a film is dubbed once: leave --samples out, and change --seed for another take")
    options.check_other_file(args.out, args.film, "the film that is dubbed")
    with Bars() as bars:
        models = options.load(args, bars)
        made = dubbing(models, options.request_from(args, models, args.prompt), args.film)
        notes = (*made.notes, *options.notes_of(args, models, made.job))
        options.log_notes(notes)
        options.log(made)
        segment = options.generator(args)(models, made.job, progress=bars)
        metadata = options.metadata_of(segment, made.job.request, models)
        options.write_segment(segment, made.timing, args.out, progress=bars, metadata=metadata)
    clip = {"file": str(args.out), "seed": segment.seed}
    print_result(args, made_of(made.job, segment, [clip], notes), [args.out])
