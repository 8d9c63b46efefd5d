"""``ltx2 retake``: a part of a film made anew, in time, in the picture, or in one of picture and sound."""

import argparse

from ...clock import exact_seconds
from ...errors import RequestError
from ...film.retake import Part
from ...story.found import FilmFile, retaking, write_retaken
from .. import options
from ..drafts import add_draft_arguments
from ..report import Bars, add_json_argument, made_of, print_result

_CRF = 10  # what stays of a picture that has to be encoded again is hardly to be told from what it was


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "retake",
        help="make a part of a film anew",
        description=(
            "Make a part of a film anew that fits what is before and after it. Everything else stays as it is: frames "
            "and sound outside the part, and what lies outside a mask. From the last keyframe before the part on the "
            "picture is encoded anew, in high quality."
        ),
    )
    parser.add_argument("film", metavar="FILM", help="the film, whatever it was made with")
    parser.add_argument("--prompt", required=True, help="what is seen and heard in the new part")
    parser.add_argument("--out", required=True, metavar="FILE", help="the film with the new part, ending in .mp4")
    parser.add_argument("--from", dest="start", metavar="SECONDS", help="where it begins (default: the film's start)")
    parser.add_argument("--to", dest="end", metavar="SECONDS", help="where the part ends (default: the film's end)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--picture", action="store_true", help="the picture alone, to go with the sound")
    only.add_argument("--sound", action="store_true", help="the sound alone, to go with the picture")
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="film as long as FILM, or a picture, of FILM's shape: what is white is made anew in the picture",
    )
    options.add_model_arguments(parser)
    add_draft_arguments(parser)
    options.add_request_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(run=run)


def part_of(args: argparse.Namespace) -> Part:
    """The part that a command line means. Raises RequestError."""
    if args.start is None and args.end is None and not (args.mask or args.picture or args.sound):
        raise RequestError("nothing says what is to be made anew: add --from and --to, --mask, --picture or --sound")
    if args.mask and args.sound:
        raise RequestError("a mask is of the picture, which stays with --sound: leave one of them out")
    ends = [None if given is None else exact_seconds(given) for given in (args.start, args.end)]
    return Part(ends[0], ends[1], picture=not args.sound, sound=not args.picture and not args.mask)


def run(args: argparse.Namespace) -> None:
    """Run the verb. Raises Ltx2Error."""
    options.check_film(args.out)
    part = part_of(args)
    given = {"audio": args.audio, "seconds": args.seconds, "frames": args.frames, "fps": args.fps, "image": args.image}
    for name, value in given.items():
        if value not in (None, []):
            raise RequestError(f"a part of a film has what is around it to go by: leave --{name} out")
    if args.samples != 1:
        raise RequestError("a part of a film is made once: leave --samples out, and change --seed for another take")
    options.check_other_file(args.out, args.film, "the film that a part is made anew of")
    film = FilmFile(args.film, args.mask)
    with Bars() as bars:
        models = options.load(args, bars)
        made = retaking(models, options.request_from(args, models, args.prompt), film, part)
        notes = [*film.notes, *options.notes_of(args, models, made.job), str(made.window)]
        options.log_notes(notes)
        segment = options.generator(args)(models, made.job, progress=bars)
        write_retaken(
            made,
            segment.frames(progress=bars) if made.window.picture else (),
            segment.sound,
            args.out,
            crf=_CRF,
            metadata=options.metadata_of(segment, made.job.request, models),
            note=options.noted(notes),
        )
    clip = {"file": str(args.out), "seed": segment.seed}
    print_result(args, made_of(made.job, segment, [clip], notes), [args.out])
