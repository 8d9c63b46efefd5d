"""``ltx2 story``: a film of many segments from a script, resumed wherever it was stopped."""

import sys
from pathlib import Path

from .. import __version__
from ..stages.models import Models
from ..stages.presets import preset_for
from ..story.chain import run_story
from ..story.from_pipeline import check_story, identity_of, pipeline_generator
from ..story.script import read_script
from ..story.segment_job import source_of
from . import options


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "story",
        help="make a long film from a script",
        description=(
            "Make a film of segments that continue each other from a YAML script (docs/story.md describes it). "
            "Finished segments are kept in the work folder: the same command goes on where it was stopped, and "
            "makes anew only what changed in the script."
        ),
    )
    parser.add_argument("script", help="the story as YAML")
    parser.add_argument("--work", required=True, metavar="DIR", help="folder for finished segments and the journal")
    parser.add_argument("--out", required=True, metavar="FILE", help="the film, ending in .mp4")
    parser.add_argument(
        "--redo",
        action="append",
        default=[],
        type=int,
        metavar="K",
        help="make segment K (from 1) again; may be repeated",
    )
    options.add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    options.check_film(args.out)
    script = read_script(args.script)
    with options.Bars() as bars:
        models = options.load(args, bars)
        check_story(models, script)
        result = run_story(
            script,
            pipeline_generator(models, progress=bars, generate=options.generator(args)),
            work=args.work,
            out=args.out,
            identity=identity_of(weight_files(args), settings_of(args, models)),
            source=source_of(models),
            redo=[number - 1 for number in args.redo],
            log=lambda text: print(f"ltx2: {text}", file=sys.stderr),
            metadata={
                "ltx2": {
                    "version": __version__,
                    "model": models.names[0],
                    "script": Path(args.script).read_text("utf-8"),
                }
            },
        )
    for seam in result.seams:
        print(f"ltx2: {seam}", file=sys.stderr)
    print(f"ltx2: {len(result.made)} segments made, {len(result.kept)} kept", file=sys.stderr)
    print(result.film)


def settings_of(args, models: Models) -> list[object]:
    """What decides the result besides files and script; without a preset in the script, the checkpoint's name chooses
    it."""
    return [
        args.dtype,
        [options.split_strength(text)[1] for text in args.lora],
        preset_for(models.names, models.release).name,
    ]


def weight_files(args) -> list[str]:
    """Every file that decides what the models make."""
    loras = [options.split_strength(text)[0] for text in args.lora]
    return [*args.checkpoint, args.text_encoder, *filter(None, [args.upsampler, args.refine_lora]), *loras]
