"""Metrics of latents while training runs: does the object sit where it should, over three segments?

The judge of decoded frames and sound is in meaning.py; this one reads codes and costs seconds.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from . import latents, world
from .latents import GROUPS, LEVEL
from .samples import FRAMES, Sampler, joins_of, make_clip
from .transformer import Inputs

SIGMAS = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)


@torch.no_grad()
def sample(model, batch, tables, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Latents [B, T, 128] of picture and sound from noise, with the batch's known tokens kept."""
    generator = torch.Generator().manual_seed(seed)
    known = batch.clean_video[..., None], batch.clean_audio[..., None]
    clean = batch.video, batch.audio
    device = next(model.parameters()).device
    x = [torch.where(k, c, torch.randn(c.shape, generator=generator)) for k, c in zip(known, clean)]
    for now, then in zip(SIGMAS, SIGMAS[1:]):
        level = torch.full((len(x[0]),), now)
        parts = (*x, level, batch.classes, batch.clean_video, batch.clean_audio)
        velocities = model(Inputs(*(part.to(device) for part in parts), tables.of(batch)))
        x = [torch.where(k, c, y + (then - now) * v.cpu()) for k, c, y, v in zip(known, clean, x, velocities)]
    return x[0], x[1]


def read(video: Tensor) -> dict[str, np.ndarray]:
    """Codes [B, T, 128] → what the cells say: present [B, F, 12] as booleans, and the strongest of each group."""
    code = video[..., : latents.VIDEO_CHANNELS].unflatten(1, (-1, world.CELLS))
    best = {name: code[..., part].argmax(-1).numpy() for name, part in GROUPS.items()}
    there = torch.cat([code[..., GROUPS["present"]], code[..., GROUPS["state"]].amax(-1, keepdim=True)], -1).mean(-1)
    return best | {"present": (there > LEVEL / 2).numpy()}


def score(batch, video: Tensor, audio: Tensor) -> dict[str, float]:
    """Shares of what is right among the generated latents."""
    got = read(video)
    wanted = np.stack([clip.entries for clip in batch.clips])
    names = np.array([latents.meaning(number) for number in range(len(latents.table()))])[wanted]  # [B, F, 12, 5]
    new = np.stack([np.arange(clip.join.frames) >= clip.join.video for clip in batch.clips])
    there = names[..., 4] >= 0
    right = (got["present"] == there).all(2) & ((got["state"] == names[..., 4]) | ~there).all(2)  # [B, F]
    hit = there & got["present"] & new[..., None]
    tones = latents.sound_codes()[0]
    heard = torch.cdist(audio[..., : len(tones[0])], tones[None]).argmin(-1).numpy()
    told = np.stack([[tuple(world.COLOURS).index(clip.after.colour)] * audio.shape[1] for clip in batch.clips])
    fresh = ~batch.clean_audio.numpy()
    fresh[:, :4] = False
    return {
        "cell": round(float(right[new].mean()), 3),
        "whole": round(float(np.mean([row[fits].all() for row, fits in zip(right, new)])), 3),
        "colour": round(float((got["colour"] == names[..., 2])[hit].mean()), 3) if hit.any() else 0.0,
        "shape": round(float((got["shape"] == names[..., 3])[hit].mean()), 3) if hit.any() else 0.0,
        "scene": round(float((got["scene"] == names[..., 0])[new].mean()), 3),
        "tone": round(float((heard == told)[fresh].mean()), 3),
    }


def evaluate(model, tables, count: int = 24) -> dict[str, dict[str, float]]:
    """Each kind of clip, new combinations, shuffled controls, long clips and three-segment stories."""
    out, joins = {}, joins_of(FRAMES)
    kinds = {"anew": (joins.anew,), "picture": (joins.picture,), "short": joins.short, "long": joins.long}
    for name, kind in kinds.items():
        batch = Sampler(1234).batch(count, kind, (1,) * len(kind))
        out[name] = score(batch, *sample(model, batch, tables))
        if name == "anew":
            mixed = replace(batch, classes=batch.classes.roll(1, 0))
            out["prompts shuffled"] = score(batch, *sample(model, mixed, tables))
        if name == "short":
            mixed = replace(batch, video=batch.video.roll(1, 0), audio=batch.audio.roll(1, 0))
            out["ends shuffled"] = score(batch, *sample(model, mixed, tables))
    for name, frames in (("withheld", FRAMES), ("withheld, 121 frames", 16)):
        batch = Sampler(1235, withheld=True).batch(count, (joins_of(frames).anew,), (1,))
        out[name] = score(batch, *sample(model, batch, tables))
    for index, result in enumerate(stories(model, tables, count)):
        out[f"story, segment {index + 1}"] = result
    return out


def stories(model, tables, count: int, segments: int = 3) -> list[dict[str, float]]:
    """Withheld prompts over joins of 9 and 49 frames: known latents are those that the model made."""
    sampler = Sampler(1236, withheld=True)
    subjects = [sampler.subject() for _ in range(count)]
    out, known, joins = [], None, joins_of(FRAMES)
    for index in range(segments):
        join = joins.long[index - 1] if index else joins.anew
        clips = []
        for subject in subjects:
            steps = FRAMES - 1 + index * (FRAMES - 2)
            way = world.path(subject.motion, world.START[subject.motion], "", steps)
            clips.append(make_clip(join, subject, subject, (True,) * 4, way, steps - FRAMES + 1))
        batch = sampler.collate(clips, clean=True)
        if known is not None:
            before_video, before_audio = known
            batch.video[:, 12:24] = before_video[:, -12:]
            first = before_video[:, -24:-12].clone()
            batch.video[:, :12] = torch.where(batch.clean_video[:, :12, None], batch.video[:, :12], first)
            batch.audio[:, : join.audio] = before_audio[:, -join.audio :]
        made = sample(model, batch, tables, seed=index)
        out.append(score(batch, *made))
        known = made
    return out
