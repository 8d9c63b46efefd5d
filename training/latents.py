"""What the latents of the world say: a code for each cell of the picture, mean mel energies for the sound.

Every group of the picture's channels names one thing: scene, row, column, presence, colour, shape, state. The codec
draws from it and reads it back, so the transformer's task is to know the world, not to paint it; the decoder takes
the nearest meaning of an uncertain code.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from . import world
from .engine import log_mel

LEVEL = 2.0  # of a named channel: between the noise levels .9 and .4 it stands out of the noise, as real latents do
GROUPS = {
    "scene": slice(0, 4),
    "row": slice(4, 7),
    "column": slice(7, 11),
    "present": slice(11, 12),
    "colour": slice(12, 18),
    "shape": slice(18, 21),
    "state": slice(21, 30),
}
VIDEO_CHANNELS = 30
OBJECT = slice(11, 30)
PER_CELL = 1 + len(world.COLOURS) * len(world.SHAPES) * len(world.STATES)
MEL_GROUPS, MEL_BINS, MEL_FRAMES = 16, 4, 4  # a latent's value is the mean of 4 bins and 4 frames
AUDIO_CHANNELS = 2 * MEL_GROUPS
AUDIO_MEAN, AUDIO_STD = -9.0, 3.0


def entry(scene: int, cell: int, colour: int = -1, shape: int = -1, state: int = -1) -> int:
    """Number of a cell's latent in the table; state -1: no object."""
    inside = 0 if state < 0 else 1 + (colour * len(world.SHAPES) + shape) * len(world.STATES) + state
    return (scene * world.CELLS + cell) * PER_CELL + inside


def meaning(number: int) -> tuple[int, int, int, int, int]:
    """Scene, cell, colour, shape and state of an entry (-1: no object)."""
    place, inside = divmod(number, PER_CELL)
    scene, cell = divmod(place, world.CELLS)
    if inside == 0:
        return scene, cell, -1, -1, -1
    look, state = divmod(inside - 1, len(world.STATES))
    return scene, cell, *divmod(look, len(world.SHAPES)), state


@cache
def table() -> Tensor:
    """All latents of a cell, [4 · 12 · 163, 30]."""
    rows = len(world.SCENES) * world.CELLS * PER_CELL
    numbers = np.array([meaning(number) for number in range(rows)])
    code = np.zeros((rows, VIDEO_CHANNELS), np.float32)
    at = np.arange(rows)
    code[at, GROUPS["scene"].start + numbers[:, 0]] = LEVEL
    code[at, GROUPS["row"].start + numbers[:, 1] // world.COLUMNS] = LEVEL
    code[at, GROUPS["column"].start + numbers[:, 1] % world.COLUMNS] = LEVEL
    there = at[numbers[:, 4] >= 0]
    code[there, GROUPS["present"].start] = LEVEL
    for column, name in ((2, "colour"), (3, "shape"), (4, "state")):
        code[there, GROUPS[name].start + numbers[there, column]] = LEVEL
    return torch.from_numpy(code)


def block_of(number: int) -> np.ndarray:
    """The eight frames [8, 32, 32, 3] that an entry stands for."""
    scene, cell, colour, shape, state = meaning(number)
    place = divmod(cell, world.COLUMNS)
    if state < 0:
        return world.block(world.SCENES[scene], place)
    look = tuple(world.COLOURS)[colour], world.SHAPES[shape]
    return world.block(world.SCENES[scene], place, *look, world.STATES[state])


# --- sound ----------------------------------------------------------------------------------------------------------


def group_means(mel: Tensor) -> Tensor:
    """Log-mel [1, 2, T, 64] → mean of 4 bins and of the 4 frames up to 4·i: [latents from the second on, 16]."""
    groups = mel[0, 0].unflatten(1, (MEL_GROUPS, MEL_BINS)).mean(2)
    count = (len(groups) - 1) // MEL_FRAMES
    return torch.stack([groups[4 * i - 3 : 4 * i + 1].mean(0) for i in range(1, count + 1)])


@cache
def sound_codes() -> tuple[Tensor, Tensor]:
    """Normalised latents of one side: each colour's tone [6, 16], and its blip, [6, 6, 16] from the latent before it
    on."""
    tones, blips = [], []
    for colour in world.COLOURS:
        wave = torch.tensor(world.sound(colour, (False, True, False), 24, rate=16000), dtype=torch.float32)[None]
        means = (group_means(log_mel(wave)) - AUDIO_MEAN) / AUDIO_STD  # the blip begins with latent 8
        tones.append(means[3])
        blips.append(means[6:12])
    return torch.stack(tones), torch.stack(blips)
