"""``ltx2 story``: a film of many segments from a script, resumed wherever it was stopped."""

import argparse
import contextlib
import re
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from .. import __version__
from ..atomic_files import held_folder
from ..checkpoint.stage_loras import lora_choice, lora_text
from ..errors import Ltx2Error, RequestError
from ..networks.layers.attention_ways import SAGE
from ..stages.models import Models
from ..stages.presets import preset_for
from ..story.chain import RunOptions, run_story
from ..story.found import film_start, sized_story
from ..story.from_pipeline import check_story, files_below, identity_of, pipeline_generator, prompt_notes
from ..story.script import StoryScript, read_script
from ..story.segment_job import source_of
from ..story.status import story_status
from ..story.takes import Redo, Wishes, bridged, check_wishes, parse_pick, parse_redo
from ..story.tasks import Generate
from ..text.identity import quick_key
from . import options
from .arguments.drift import add_drift_argument, said_of_drift, with_drift
from .arguments.enhance import add_enhance_arguments, check_enhancer, story_enhancer
from .drafts import add_draft_arguments, tiny_decoder_of
from .report import Bars, add_json_argument, print_result
from .story_workers import HERE, WorkerGenerator, local_pool, ray_pool

MOST_WORKERS = 256


class _Status(argparse.Action):
    """Asks how far a story is, for which nothing else need be given."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.status = values
        for action in parser._actions:
            action.required = False


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "story",
        help="make a long film from a script",
        description=(
            "Make a film of segments that continue each other from a script (docs/story.md describes it): YAML, or one "
            "prompt a line. Finished segments are kept in the work folder: the same command goes on where it was "
            "stopped, and makes anew only what changed in the script. Nothing that the story did not write is replaced."
        ),
    )
    parser.add_argument("script", help="the story: YAML, or one prompt a line")
    parser.add_argument("--work", required=True, metavar="DIR", help="folder for finished segments and the journal")
    parser.add_argument("--out", required=True, metavar="FILE", help="the film, ending in .mp4")
    _add_takes(parser)
    parser.add_argument(
        "--prune", action="store_true", help="remove finished segments that the script no longer asks for"
    )
    add_drift_argument(parser)
    _add_places(parser)
    parser.add_argument(
        "--status", action=_Status, metavar="DIR", help="tell how far the story in a work folder is, and end"
    )
    options.add_model_arguments(parser)
    add_draft_arguments(parser)
    parser.add_argument(
        "--temporal-upsampler", metavar="FILE", help="temporal x2 latent upsampler, which double_rate of a script needs"
    )
    add_enhance_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(run=run, before_loading=with_script_loras)


def _add_takes(parser: argparse.ArgumentParser) -> None:
    """Options of what is made again, and of which takes."""
    parser.add_argument(
        "--redo",
        action="append",
        default=[],
        type=_as_argument(parse_redo),
        metavar="K[:SEED]",
        help=(
            "make segment K (from 1) again: as it is with its own seed, K:new for another take with a fresh seed, K:77 "
            "for one with seed 77; the new take is kept; may be repeated"
        ),
    )
    parser.add_argument(
        "--bridge",
        action="store_true",
        help=(
            "with --redo: the segment is made to fit both the one before and the one behind it, which stays as it is "
            "with all after it"
        ),
    )
    parser.add_argument(
        "--takes",
        type=int,
        metavar="N",
        help="make every segment with N seeds; the film shows the first, or the picked",
    )
    parser.add_argument(
        "--pick",
        action="append",
        default=[],
        type=_as_argument(parse_pick),
        metavar="SEGMENT=TAKE",
        help="keep this take of a segment in the film from now on, both from 1; may be repeated",
    )


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Options of where segments are made."""
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="make scenes and takes at the same time in N processes, one a GPU (a scene begins at a cut)",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const=HERE,
        metavar="ADDRESS",
        help="the same on a Ray cluster (pip install ltx2-continuum[ray]): one for each GPU, or --workers N",
    )
    parser.add_argument(
        "--shared",
        metavar="DIR",
        help="a folder that all machines of the cluster see under this name: requests and frames go through it, named "
        "by their content, in place of Ray's own store",
    )


def _as_argument(parse):
    """A parser of the engine as argparse takes one."""

    def convert(text: str):
        try:
            return parse(text)
        except Ltx2Error as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def run(args: argparse.Namespace) -> None:
    """Carry the story out, telling on stderr what happens and the film's name on stdout."""
    if args.status is not None:
        asked = (("--redo", args.redo), ("--bridge", args.bridge), ("--pick", args.pick), ("--prune", args.prune))
        if given := [name for name, value in (*asked, ("--takes", args.takes)) if value]:
            raise RequestError(f"--status tells how far a story is and changes nothing: leave {given[0]} out")
        status = story_status(args.status)
        print_result(args, status.as_json(), [status])
        return
    options.check_film(args.out)
    script = with_drift(args, with_script_loras(args))
    script = replace(script, enhance=script.enhance or args.enhance)
    check_enhancer(args, script.is_enhanced)
    if args.temporal_upsampler and not script.double_rate:
        raise RequestError(
            "--temporal-upsampler doubles the frame rate: add double_rate to the script, or leave it out"
        )
    wishes = wishes_of(args.redo, args.pick, args.takes, bridge=args.bridge)
    check_wishes(script, wishes)
    check_workers(args)
    with Bars() as bars, contextlib.ExitStack() as held:
        models = options.load(args, bars)
        script = sized_story(models, script)
        common = check_story(models, script, draft=args.draft)
        jobs = args.workers
        if args.ray is not None:
            shared = held.enter_context(held_folder(args.shared)) if args.shared else None
            cluster = held.enter_context(contextlib.closing(ray_pool(args, shared)))
            make: Generate = WorkerGenerator(cluster, shared, args.draft)
            jobs = cluster.size
        elif args.workers > 1:
            exchange = held.enter_context(held_folder(args.work))
            pool = held.enter_context(contextlib.closing(local_pool(args, exchange)))
            make = WorkerGenerator(pool, exchange, args.draft)
        else:
            make = pipeline_generator(models, progress=bars, generate=options.generator(args), draft=args.draft)
        result = run_story(
            script,
            make,
            work=args.work,
            out=args.out,
            identity=_identity(args, models),
            source=source_of(models, draft=args.draft),
            options=RunOptions(
                wishes,
                jobs,
                prune=args.prune,
                metadata=metadata_of(args, models),
                enhancer=story_enhancer(args, models, script, bars),
                start=film_start(models, script),
            ),
            log=telling_once(common, options.log),
        )
    for seam in result.seams:
        options.log(seam)
    if result.unused.segments:
        options.log(f"{result.unused}: --prune removes them")
    options.log(result)
    print_result(args, result.as_json(), [result.film])


def telling_once(shared: Collection[str], log: Callable[[str], None]) -> Callable[[str], None]:
    """A log that tells what is ``shared`` by all segments at the first of them, without its number."""
    told: set[str] = set()

    def tell(line: str) -> None:
        note = re.sub(r"^segment \d+: ", "", line)
        if note not in shared:
            log(line)
        elif note not in told:
            told.add(note)
            log(f"note: {note}")

    return tell


def with_script_loras(args: argparse.Namespace) -> StoryScript:
    """The script, whose LoRAs are now behind those of the command line."""
    script = read_script(args.script)
    args.lora = [*args.lora, *map(lora_text, script.loras)]
    return script


def check_workers(args: argparse.Namespace) -> None:
    """Raises RequestError for a number of workers that cannot be, and for a folder that nobody shares."""
    if args.shared and args.ray is None:
        raise RequestError("--shared is the folder of a Ray cluster: add --ray, or leave it out")
    if args.shared and not Path(args.shared).is_dir():
        raise RequestError(f"the shared folder {args.shared} is not there: name one that all machines see")
    if not 1 <= args.workers <= MOST_WORKERS:
        raise RequestError(f"{args.workers} workers, expected 1 to {MOST_WORKERS}")


def wishes_of(
    redo: list[Redo], picks: list[tuple[int, int]], takes: int | None = None, *, bridge: bool = False
) -> Wishes:
    """What the command line asks of takes. Raises RequestError for a bridge that has no segment, and for two picks of
    one segment."""
    for index, take in picks:
        if dict(picks)[index] != take:
            raise RequestError(f"--pick names takes {take} and {dict(picks)[index]} of segment {index + 1}: keep one")
    return Wishes(bridged(redo) if bridge else tuple(redo), dict(picks), takes)


def metadata_of(args: argparse.Namespace, models: Models) -> dict[str, object]:
    """What the film says about how it was made."""
    script = Path(args.script).read_text("utf-8")
    notes = prompt_notes(models, read_script(args.script))
    drift = said_of_drift(args)
    details = (
        ({"drift": drift} if drift else {})
        | ({"draft": True} if args.draft else {})
        | ({"notes": list(notes)} if notes else {})
    )
    return {"ltx2": {"version": __version__, "model": models.names[0], "script": script, **details}}


def settings_of(args: argparse.Namespace, models: Models) -> list[object]:
    """What decides the result besides files and script; without a preset in the script, the checkpoint's name chooses
    it."""
    return [
        args.dtype,
        [one.strength if one.stage is None else [one.strength, one.stage] for one in map(lora_choice, args.lora)],
        preset_for(models.names, models.release).name,
        # segments of before there were drafts are still known
        *(["draft"] if args.draft else []),
        # other ways to attend differ in the last bits alone
        *([SAGE] if args.attention == SAGE else []),
    ]


def _identity(args: argparse.Namespace, models: Models) -> str:
    """What tells other weights and settings from those of finished segments; with a cache, the files are looked into
    only when one of them is another than last time."""
    files, settings, folder = weight_files(args), settings_of(args, models), models.contexts.folder
    if folder is None:
        return identity_of(files, settings)
    key = f"story {quick_key(files_below(files), settings)}"
    known = folder.recall(key) or {"identity": identity_of(files, settings)}
    folder.remember(key, known)
    return known["identity"]


def weight_files(args: argparse.Namespace) -> list[str]:
    """Every file that decides what the models make."""
    loras = [str(lora_choice(text).path) for text in args.lora]
    checkpoints, text_encoder = options.model_files(args)
    # a draft is made without the upsampler
    others = [tiny_decoder_of(args, checkpoints)] if args.draft else [args.upsampler, args.temporal_upsampler]
    return [*map(str, checkpoints), str(text_encoder), *map(str, filter(None, [*others, args.refine_lora])), *loras]
