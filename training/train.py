"""Rectified flow on the world's latents: from a prompt, from a first picture, and, most of all, on from a segment
before.

The state is saved every few minutes with the time spent so far, so a run that was killed goes on where it was.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .evaluate import evaluate
from .logs import cut_log, log
from .samples import FRAMES, LENGTHS, Batch, Sampler, joins_of
from .start import initialise
from .transformer import (
    AUDIO_CHANNELS,
    VIDEO_CHANNELS,
    Inputs,
    MiniTransformer,
    Rotations,
    rotations,
    run_block,
)

DISTILLED = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875)
LOG = "log.jsonl"
SHARES = (0.30, 0.15, 0.13, 0.13, 0.12, 0.09, 0.08)  # anew, picture, short, wide, silent


@dataclass(frozen=True)
class Plan:
    """How long and how to train. seconds: of CPU, of this process; of the clock on another device. clips: a kind that
    the metrics are taken from."""

    seconds: float = 3600.0
    batch: int = 16
    rate: float = 2e-3
    long_share: float = 0.36  # of steps that continue with much sound known
    other_share: float = 0.4  # of steps with clips of other lengths
    audio_weight: float = 0.5
    average: float = 0.999
    seed: int = 0
    compile: bool = True
    save_seconds: float = 120.0
    evaluate_seconds: float = 480.0
    clips: int = 24
    device: str = "cpu"

    def learning_rate(self, share: float, step: int) -> float:
        """Warm up, stay, then one cosine; share: of the time that has passed."""
        fall = max(0.0, (share - 0.2) / 0.8)
        return self.rate * min(1.0, (step + 1) / 100) * (0.03 + 0.485 * (1 + math.cos(math.pi * min(1.0, fall))))


def draw_sigma(count: int) -> Tensor:
    """Mostly the levels that the distilled preset visits; the rest everywhere, so that other presets work too."""
    levels = torch.tensor(DISTILLED)
    levels = levels[torch.randint(0, len(levels), (count,))]
    pick, spread = torch.rand(count), torch.rand(count)
    return torch.where(pick < 0.65, levels, torch.where(pick < 0.85, spread, 1 - 0.3 * spread)).clamp(min=0.02)


def draw_batch(sampler: Sampler, plan: Plan) -> Batch:
    """Clips of one length; long ones are fewer, so that all batches take about as long."""
    rng = sampler.rng
    other = rng.random() < plan.other_share
    frames = int(rng.choice([length for length in LENGTHS if length != FRAMES])) if other else FRAMES
    joins, size = joins_of(frames), round(plan.batch * FRAMES / frames)
    if rng.random() < plan.long_share:
        return sampler.batch(size, joins.long, (1.0,) * len(joins.long))
    return sampler.batch(size, joins.alike, SHARES)


def noised(clean: Tensor, sigma: Tensor, known: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Noisy tokens [B, T, 128] and their velocities; channels without a meaning are noise at every level."""
    noise = torch.randn_like(clean)
    level = sigma[:, None, None]
    mixed = (1 - level) * clean + level * noise
    mixed[..., channels:] = noise[..., channels:]
    return torch.where(known[..., None], clean, mixed), noise - clean


class Tables:
    """Rotations of all kinds of join, made when they are first asked for."""

    def __init__(self, net, device: str):
        self.net, self.device, self.rows = net, device, {}

    def of(self, batch: Batch) -> Rotations:
        frames, count = batch.joins[0].frames, batch.audio.shape[1]
        offsets = sorted({join.offset for join in batch.joins})
        key = frames, count, tuple(offsets)
        if key not in self.rows:
            self.rows[key] = _each(rotations(self.net, frames, count, offsets), lambda table: table.to(self.device))
        picked = torch.tensor([offsets.index(join.offset) for join in batch.joins], device=self.device)

        def of_samples(table: Tensor) -> Tensor:
            return table[picked if len(table) > 1 else torch.zeros_like(picked)]

        made = self.rows[key]
        return Rotations(
            tuple(map(of_samples, made.video)), made.audio, tuple(map(of_samples, made.video_time)), made.audio_time
        )


def _each(tables: Rotations, change) -> Rotations:
    names = ("video", "audio", "video_time", "audio_time")
    return Rotations(*(tuple(change(table) for table in getattr(tables, name)) for name in names))


def losses(model: MiniTransformer, batch: Batch, tables: Tables, device: str) -> tuple[Tensor, Tensor]:
    """Weighted mean square errors of the velocities of picture and sound, over the channels that mean something."""
    sigma = draw_sigma(len(batch.video))
    video, wanted_video = noised(batch.video, sigma, batch.clean_video, VIDEO_CHANNELS)
    audio, wanted_audio = noised(batch.audio, sigma, batch.clean_audio, AUDIO_CHANNELS)
    to = {"device": device}
    inputs = Inputs(
        video.to(**to),
        audio.to(**to),
        sigma.to(**to),
        batch.classes.to(**to),
        batch.clean_video.to(**to),
        batch.clean_audio.to(**to),
        tables.of(batch),
    )
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        got_video, got_audio = model(inputs)
    parts = []
    for got, wanted, weight, channels in (
        (got_video, wanted_video, batch.video_weight, VIDEO_CHANNELS),
        (got_audio, wanted_audio, batch.audio_weight, AUDIO_CHANNELS),
    ):
        error = (got.float() - wanted.to(**to))[..., :channels].square().mean(-1)
        weight = weight.to(**to)
        parts.append((error * weight).sum() / weight.sum())
    return parts[0], parts[1]


@dataclass
class Run:
    """A training in progress; everything that a checkpoint holds."""

    model: MiniTransformer
    average: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    spent: float = 0.0

    def save(self, path: Path) -> None:
        content = {"model": self.model.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}
        part = path.with_suffix(".part")
        torch.save(content | {"step": self.step, "spent": self.spent}, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        content = torch.load(path, weights_only=True, map_location=next(self.model.parameters()).device)
        self.model.load_state_dict(content["model"])
        self.average = content["average"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.spent = content["step"], content["spent"]


def begin(plan: Plan) -> Run:
    model = MiniTransformer()
    initialise(model, plan.seed)
    model.to(plan.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return Run(model, {name: value.clone() for name, value in model.state_dict().items()}, optimizer)


@torch.enable_grad()
def train(plan: Plan, folder: Path) -> Run:
    """Train until the time is spent; files: run.pt, log.jsonl in ``folder``."""
    run, path = begin(plan), folder / "run.pt"
    if path.exists():
        run.load(path)
    known = cut_log(folder / LOG, run.step)
    compiled = torch.compile(run_block, dynamic=False) if plan.compile else run_block
    clock = time.process_time if plan.device == "cpu" else time.monotonic
    tables, sampler = Tables(run.model.net, plan.device), Sampler(plan.seed + run.step)
    torch.manual_seed(plan.seed + run.step)
    history, saved, judged, began = [], run.spent, run.spent, clock() - run.spent
    while run.spent < plan.seconds:
        batch = draw_batch(sampler, plan)
        # each shape takes a minute to compile: only the usual ones are worth it
        run.model.step = compiled if batch.joins[0].frames == FRAMES else run_block
        history.append(_step(run, plan, batch, tables))
        run.spent = clock() - began
        if run.step % 100 == 0:
            means = [round(float(value), 4) for value in np.mean(history, 0)]
            log(folder / LOG, {"step": run.step, "seconds": round(run.spent), "video": means[0], "audio": means[1]})
            history = []
        if run.spent - saved > plan.save_seconds or run.spent >= plan.seconds:
            run.save(path)
            saved = run.spent
        if run.spent - judged > plan.evaluate_seconds and run.spent < plan.seconds:
            log(folder / LOG, _judged(run, tables, plan))
            judged = run.spent
    if not any(line["step"] == run.step and "metrics" in line for line in known):
        log(folder / LOG, _judged(run, tables, plan))
    return run


def _step(run: Run, plan: Plan, batch: Batch, tables: Tables) -> tuple[float, float]:
    for group in run.optimizer.param_groups:
        group["lr"] = plan.learning_rate(run.spent / plan.seconds, run.step)
    video, audio = losses(run.model, batch, tables, plan.device)
    run.optimizer.zero_grad(set_to_none=True)
    (video + plan.audio_weight * audio).backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    decay = min(plan.average, (1 + run.step) / (20 + run.step))
    with torch.no_grad():
        kept, new = list(run.average.values()), list(run.model.state_dict().values())
        torch._foreach_lerp_(kept, new, 1 - decay)
    return video.item(), audio.item()


def _judged(run: Run, tables: Tables, plan: Plan) -> dict:
    return {"step": run.step, "seconds": round(run.spent), "metrics": _judge(run, tables, plan.clips)}


def _judge(run: Run, tables: Tables, clips: int) -> dict:
    """Metrics of the averaged weights, which are put in and out again."""
    own = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.model.step = run_block
    run.model.load_state_dict(run.average)
    try:
        return evaluate(run.model, tables, clips)
    finally:
        run.model.load_state_dict(own)
