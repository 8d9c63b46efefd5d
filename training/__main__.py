"""``python -m training``: from nothing to the finished model. Run it again after a kill: it goes on where it was."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from . import picture_codec
from .curves import draw, draw_codec
from .export import export
from .train import LOG, Plan, train
from .transformer import MiniTransformer


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", default="build/mini", type=Path, help="checkpoints, logs and curves")
    parser.add_argument("--out", default="ltx2/mini", type=Path, help="where the finished files go")
    parser.add_argument("--minutes", type=float, help="for the transformer: 60 of a CPU core, or 8 on another device")
    parser.add_argument("--codec-minutes", type=float, help="for the video VAE: 66 of a CPU core, or 6")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true", help="where there is no C++ compiler; half as fast")
    parser.add_argument("--save-seconds", default=Plan.save_seconds, type=float, help="a kill costs no more than that")
    parser.add_argument("--clips", default=Plan.clips, type=int, help="a kind that the metrics are taken from")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the networks are too small to share a step between cores
    shared = {"device": args.device, "save_seconds": args.save_seconds}
    codec_plan = picture_codec.Plan(**shared)
    plan = Plan(compile=not args.no_compile, clips=args.clips, **shared)
    if args.device != "cpu":  # minutes are of the clock there, and larger batches cost little
        codec_plan = replace(codec_plan, batch=512, minutes=6.0)
        plan = replace(plan, batch=64, seconds=8 * 60.0)
    if args.codec_minutes is not None:
        codec_plan = replace(codec_plan, minutes=args.codec_minutes)
    if args.minutes is not None:
        plan = replace(plan, seconds=60 * args.minutes)
    codec = picture_codec.train(codec_plan, args.work)
    print(json.dumps(picture_codec.quality(*codec)))
    run = train(plan, args.work)
    draw_codec(args.work, args.work)
    draw(args.work / LOG, args.work)
    model = MiniTransformer()
    model.load_state_dict({name: value.cpu() for name, value in run.average.items()})
    for name, size in export(model, codec, args.out).items():
        print(f"{args.out / name}: {size:.1f} MB")


if __name__ == "__main__":
    main()
