"""``--memory``: a run within so much of the device's memory, planned before anything is loaded."""

import argparse
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...checkpoint.layout import model_version
from ...checkpoint.reader import open_checkpoint
from ...config.versions import release
from ...errors import Ltx2Warning, RequestError
from ...stages.models import Models, PipelineConfig
from ...stages.placing.plan import LargestClip, plan_memory, sizes_of
from ...stages.placing.room import clip_of
from ...stages.request import Request, make_job
from ...story.from_pipeline import request_of
from ...story.script import read_script
from ...story.tasks import task_of


def planned(
    args: argparse.Namespace, config: PipelineConfig, checkpoints: Sequence[str | Path], encoder: str | Path | None
) -> PipelineConfig:
    """The configuration with a plan for ``--memory``, of what the command line says of the clip; what only a state or a
    film says is checked against the plan before it is sampled. Raises RequestError naming the smallest memory that
    would do."""
    if args.offload is not None:
        raise RequestError("--memory plans what is on the device: leave --offload out")
    checkpoint = open_checkpoint(checkpoints)
    names = tuple(path.name for path in checkpoint.paths)
    headers = Models(config, release(model_version(checkpoint), str(checkpoint)), names, None)
    largest: LargestClip | None = None
    for request in _requests(args):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Ltx2Warning)  # told when the clip is made
            clip = clip_of(make_job(headers, request, parts=()))
        if largest is None or clip.tokens > largest.tokens:
            largest = clip
    assert largest is not None
    plan = plan_memory(sizes_of(checkpoint, encoder, args.upsampler, config), largest, args.memory)
    return replace(config, offload=plan.offload, memory=plan)


def _requests(args: argparse.Namespace) -> Iterator[Request]:
    """What a command line says of size and length."""
    if hasattr(args, "script"):
        script, seen = read_script(args.script), set()
        for index, segment in enumerate(script.segments):
            if segment.frames not in seen:
                seen.add(segment.frames)
                asked = replace(request_of(task_of(script, index)), draft=args.draft)
                yield replace(asked, images=(), references=(), audio=None)
        return
    given = {name: getattr(args, name, None) for name in ("preset", "frames", "seconds", "fps")}
    size = re.fullmatch(r"(\d+)\s*[xX×*]\s*(\d+)", (getattr(args, "size", None) or "").strip())
    width, height = (int(size[1]), int(size[2])) if size else (None, None)
    sound = not hasattr(args, "size")
    yield Request(
        prompt=getattr(args, "prompt", None) or "a clip",
        width=width,
        height=height,
        batch_size=getattr(args, "samples", 1),
        snap=True,
        draft=args.draft,
        sound_only=sound,
        **given,
    )
