"""Drift measured: stories of twenty segments of the demonstration model, with each thing that is done against it and
without.

    python -m benchmarks.drift --out benchmarks/drift.json

Stories run as ``ltx2 story`` runs them; statistics are of what is new in each segment. The second half makes the model
drift on purpose: every segment goes on with the colours of the frames that it starts from, as large models do, and
comes out a little brighter, redder and flatter than these.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltx2.film.drift import control_of
from ltx2.mini import CHECKPOINT, TEXT_ENCODER
from ltx2.sampling.channel_statistics import statistics_of
from ltx2.stages.models import Models, PipelineConfig, load_models
from ltx2.stages.pipeline import generate
from ltx2.stages.request import make_job
from ltx2.story.chain import run_story
from ltx2.story.from_pipeline import request_of
from ltx2.story.script import StoryScript, parse_script
from ltx2.story.tasks import Generate, MadeSegment, SegmentTask
from training import meaning, world
from training.world import Subject

from .meaning import BRIEF, read_film

FRAMES, OVERLAP = 33, 9
RIGHT = ("cell", "colour", "tone")  # what is judged of the last segments
SUBJECTS = (Subject("yellow", "star", "sunset", "side"), Subject("blue", "ball", "day", "up"))
METHODS: dict[str, dict[str, float]] = {
    "nothing": {},
    "strength 0.95, settles 0.9": {"strength": 0.95, "settles": 0.9},
    "colour 0.5, contrast 0.5": {"colour": 0.5, "contrast": 0.5},
    "loudness 0.5": {"loudness": 0.5},
    "latent 0.4": {"latent": 0.4},
    "anchor 0.5": {"anchor": 0.5},
    "all of these": {
        "strength": 0.95,
        "settles": 0.9,
        "colour": 0.5,
        "contrast": 0.5,
        "loudness": 0.5,
        "latent": 0.4,
        "anchor": 0.5,
    },
}
PUSHED = ("nothing", "colour 0.5, contrast 0.5", "all of these")
# levels of 0…255 that are added to each segment's new frames, and what their contrast is multiplied by
PUSH, FLATTER = np.array([2.5, 1.0, 0.5]), 0.98


@dataclass(frozen=True)
class Statistics:
    """Of what is new in one segment: colour and contrast by channel in levels of 0…255, loudness in dB, sharpness as
    the mean difference between neighbouring pixels, and mean and deviation by channel of the latents."""

    colour: np.ndarray
    contrast: np.ndarray
    loudness: float
    sharpness: float
    latent_mean: np.ndarray
    latent_deviation: np.ndarray

    def as_json(self) -> dict[str, Any]:
        return {
            "colour": self.colour.round(2).tolist(),
            "contrast": self.contrast.round(2).tolist(),
            "loudness_db": round(self.loudness, 2),
            "sharpness": round(self.sharpness, 2),
        }

    def distance(self, first: "Statistics") -> dict[str, float]:
        """To the first segment of the story."""
        found = {
            "colour": np.abs(self.colour - first.colour).max(),
            "contrast": np.abs(self.contrast - first.contrast).max(),
            "loudness": abs(self.loudness - first.loudness),
            "sharpness": self.sharpness / first.sharpness,
            "latent_mean": np.abs(self.latent_mean - first.latent_mean).mean(),
            "latent_deviation": (self.latent_deviation / first.latent_deviation).mean(),
        }
        return {name: float(value) for name, value in found.items()}


def statistics(frames: np.ndarray, sound: torch.Tensor, latent: torch.Tensor) -> Statistics:
    """frames [n, H, W, 3] uint8, sound [C, n], latent [1, C, F, h, w]: each of the new part alone."""
    pixels = frames.astype(np.float64)
    across, down = np.abs(np.diff(pixels, axis=2)).mean(), np.abs(np.diff(pixels, axis=1)).mean()
    channels = statistics_of(latent)
    level = float(sound.double().square().mean().sqrt())
    return Statistics(
        colour=pixels.mean((0, 1, 2)),
        contrast=pixels.std((0, 1, 2)),
        loudness=20 * float(np.log10(max(level, 1e-5))),
        sharpness=float(across + down) / 2,
        latent_mean=channels.mean.numpy(),
        latent_deviation=channels.deviation.numpy(),
    )


def measured(models: Models, found: list[Statistics], pushed: bool) -> Generate:
    """The pipeline as a story's generator, which writes down what each segment is like."""

    def make(task: SegmentTask) -> MadeSegment:
        segment = generate(models, make_job(models, request_of(task)))
        frames = np.concatenate(list(segment.frames()))
        known = 0 if task.clip is None else len(task.clip.frames)
        if pushed:
            frames = drifted(frames, None if task.clip is None else task.clip.frames)
        first = max(1, -(-known // 8))
        sound = segment.sound.samples
        heard = sound[:, sound.shape[1] * known // len(frames) :]
        found.append(statistics(frames[known:], heard, segment.latent.video[:, :, first:]))
        return MadeSegment(
            [frames], segment.latent.audio, segment.sound, segment.notes, drift_reference=segment.drift_reference
        )

    return make


def drifted(frames: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """A segment with the look of what it starts from, and a little further on."""
    if known is None:
        return frames
    pixels, before = frames.astype(np.float64), known.astype(np.float64)
    made = pixels[: len(known)]
    gain = FLATTER * before.std((0, 1, 2)) / made.std((0, 1, 2)).clip(1)
    middle, wanted = made.mean((0, 1, 2)), before.mean((0, 1, 2)) + PUSH
    changed = ((pixels - middle) * gain + wanted).clip(0, 255).round().astype(np.uint8)
    return np.concatenate([known, changed[len(known) :]])


def script_of(subject: Subject, segments: int, said: dict[str, float]) -> StoryScript:
    lines = [subject.prompt, *[f"{BRIEF[subject.motion]}."] * (segments - 1)]
    text = "\n".join(["segments:", *(f"  - {line}" for line in lines)])
    script = parse_script(
        f"seed: 100\noverlap: {{video: {OVERLAP}, audio: 49}}\ndefaults: {{frames: {FRAMES}}}\n{text}"
    )
    return replace(script, drift=control_of(said))


def told(found: Sequence[Statistics], verdict: meaning.Verdict, seams: Sequence[float]) -> dict[str, Any]:
    """What a story's segments are like, how its joins step in brightness, and what is right in the last segments."""
    last = verdict.segments[-5:]
    return {
        "segments": [one.as_json() for one in found],
        "distance": [one.distance(found[0]) for one in found],
        "seam": float(np.mean(np.abs(seams))),
        "right": {name: float(np.mean([one[name] for one in last])) for name in RIGHT},
    }


def story(models: Models, subject: Subject, segments: int, said: dict[str, float], pushed: bool) -> dict[str, Any]:
    """One story made and measured."""
    script, found = script_of(subject, segments, said), []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "film.mp4"
        result = run_story(script, measured(models, found, pushed), work=Path(folder) / "work", out=out)
        film = read_film(out)
    steps = [(FRAMES - 1) // world.STEP, *[(FRAMES - OVERLAP) // world.STEP] * (segments - 1)]
    verdict = meaning.judge(film.frames, film.sound, film.rate, meaning.story_truth([subject] * segments, steps))
    return told(found, verdict, [seam.luma_step for seam in result.seams])


def mean_of(stories: Sequence[dict[str, Any]], segment: int) -> dict[str, float]:
    distances = [story["distance"][segment] for story in stories]
    return {name: float(np.mean([one[name] for one in distances])) for name in distances[0]}


def table(results: dict[str, list[dict[str, Any]]], segments: int) -> Iterator[str]:
    """Markdown, a row for a method at some of the segments."""
    yield (
        "| against drift | segment | colour | contrast | loudness dB | sharpness × | latent mean | latent deviation × "
        "| seam step | cell, colour, tone |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, stories in results.items():
        for number in sorted({2, 5, 10, segments}):
            if number > segments:
                continue
            one = mean_of(stories, number - 1)
            ends = ""
            if number == segments:
                right = [np.mean([story["right"][what] for story in stories]) for what in RIGHT]
                ends = f"{np.mean([story['seam'] for story in stories]):.2f} | {', '.join(f'{x:.2f}' for x in right)}"
            yield (
                f"| {name if number == 2 else ''} | {number} | {one['colour']:.1f} | {one['contrast']:.1f} | "
                f"{one['loudness']:.1f} | {one['sharpness']:.2f} | {one['latent_mean']:.3f} | "
                f"{one['latent_deviation']:.2f} | {ends or ' | '} |"
            )


def main() -> None:
    """Make all stories, print the tables, and write every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, metavar="FILE", help="all figures, as JSON")
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--stories", type=int, default=len(SUBJECTS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = load_models([CHECKPOINT], text_encoder=TEXT_ENCODER, config=PipelineConfig(device="cpu"))
    figures: dict[str, Any] = {}
    for half, pushed in (("the model as it is", False), ("the model made to drift", True)):
        results: dict[str, list[dict[str, Any]]] = {}
        for name in PUSHED if pushed else METHODS:
            subjects = SUBJECTS[: args.stories]
            results[name] = [story(models, one, args.segments, METHODS[name], pushed) for one in subjects]
        figures[half] = results
        print(f"\n{half}\n\n" + "\n".join(table(results, args.segments)), flush=True)
    text = json.dumps(figures, separators=(",", ":"))
    # no more places than mean anything
    text = re.sub(r"\d+\.\d{4,}", lambda found: f"{float(found[0]):.3f}", text)
    Path(args.out).write_text(text.replace('],"seam"', '],\n"seam"') + "\n", "utf-8")


if __name__ == "__main__":
    main()
