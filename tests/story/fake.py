"""A generator that makes windows of one endless film: every frame shows its number, every audio latent holds its own.

It knows where it is only from what it is given to start from, so a wrong clock anywhere shows in the result.
"""

import hashlib
from fractions import Fraction

import numpy as np
import torch

from ltx2.clock import decoded_samples
from ltx2.story.tasks import MadeSegment
from ltx2.values import Waveform

RATE = 48000
# of smaller pictures H.264 makes now one file and now another
HEIGHT, WIDTH = 32, 32


def frame(number: int, shade: int = 0) -> np.ndarray:
    """The picture of a frame number: 16 fields of bright and dark, and a shade for everything else."""
    picture = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
    for bit in range(16):
        picture[:8, 2 * bit : 2 * bit + 2] = 230 if number >> bit & 1 else 20
    return picture


def number_of(picture: np.ndarray) -> int:
    return sum(int(picture[:8, 2 * bit : 2 * bit + 2].mean() > 128) << bit for bit in range(16))


def endless_sound(start: int, samples: int, rate: int = RATE) -> torch.Tensor:
    t = torch.arange(start, start + samples, dtype=torch.float64) / rate
    return torch.stack([0.4 * torch.sin(2 * torch.pi * 220 * t), 0.3 * torch.sin(2 * torch.pi * 331 * t)]).float()


class Fake:
    """Callable as a story's generator; ``calls`` are the indices it was asked for. The shade depends on prompt, seed
    and past. Most of a film's time goes into its sound: of a low ``rate`` and one of the ``channels`` it is cheap."""

    def __init__(self, fps=Fraction(24), chunk: int = 5, rate: int = RATE, channels: int = 2):
        self.calls, self.tasks, self.fps, self.chunk = [], [], fps, chunk
        self.rate, self.channels = rate, channels

    def __call__(self, task) -> MadeSegment:
        self.calls.append(task.index)
        self.tasks.append(task)
        first_frame = number_of(task.clip.frames[0]) if task.clip is not None else 0
        first_latent = int(task.audio.latent[0, 0, 0, 0]) if task.audio is not None else 0
        past = b"" if task.clip is None else task.clip.frames.tobytes()
        shade = hashlib.sha256(f"{task.prompt} {task.seed}".encode() + past).digest()[0]
        known = 0 if task.clip is None else len(task.clip.frames)
        frames = [task.clip.frames[i] if i < known else frame(first_frame + i, shade) for i in range(task.frames)]
        if task.end is not None:
            frames[task.end.frame : task.end.frame + len(task.end.frames)] = task.end.frames
        latents = (
            torch.arange(first_latent, first_latent + task.audio_latents)
            .float()
            .reshape(1, 1, -1, 1)
            .repeat(1, 8, 1, 16)
        )
        samples = decoded_samples(task.audio_latents, self.rate)
        heard = endless_sound(first_latent * self.rate // 25, samples, self.rate)
        sound = Waveform(heard[: self.channels], self.rate)
        chunks = (np.stack(frames[i : i + self.chunk]) for i in range(0, len(frames), self.chunk))
        return MadeSegment(chunks, latents, sound)
