"""What a film of the world shows and sounds like, judged from decoded frames and sound alone.

At every latent boundary (each eighth frame) the object sits in one cell: there the judge looks for the scene, the
cell that differs most from it, and the colour and shape that explain the difference best. It listens to the time
around each boundary for the tone, and at the beginning of each step for the blip of a wall.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from . import world
from .world import Path, Subject

PRESENT = 0.4  # of the difference that a whole object would make
GHOST = 0.25  # of an object's opacity
TONE_SECONDS, TONE_HZ = 0.2, 15.0
BLIP_SHARE = 0.3  # of a blip's loudness
SILENT = 0.01 * world.TONE_LEVEL  # 40 dB below: no tone
JOIN_SECONDS, WINDOW_SECONDS, CHANGE_SECONDS = 0.08, 0.02, 0.04
STEP_SECONDS = world.STEP / world.FPS


@dataclass(frozen=True)
class Truth:
    """What should be seen at each boundary and heard in each step.

    subjects, segments: of each boundary; way: with one boundary more than steps.
    """

    subjects: tuple[Subject, ...]
    segments: tuple[int, ...]
    way: Path

    @property
    def frames(self) -> int:
        return world.STEP * len(self.way.directions) + 1


def story_truth(subjects: list[Subject], steps: list[int]) -> Truth:
    """Segments that continue each other and add so many steps; the first also has the boundary it begins with."""
    way = world.story_path([subject.motion for subject in subjects], steps)
    counts = [steps[0] + 1, *steps[1:]]
    return Truth(
        tuple(subject for subject, count in zip(subjects, counts) for _ in range(count)),
        tuple(index for index, count in enumerate(counts) for _ in range(count)),
        way,
    )


@dataclass(frozen=True)
class Seen:
    """One boundary frame. cell: of the object, None where there is none; ghosts: further cells that show something."""

    scene: str
    cell: tuple[int, int] | None
    colour: str
    shape: str
    ghosts: int


@cache
def _composites(scene: str, cell: tuple[int, int]) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """A cell with every object in it, [18, 32, 32, 3], and which objects these are."""
    names = [(colour, shape) for colour in world.COLOURS for shape in world.SHAPES]
    return np.stack([world.block(scene, cell, colour, shape, "rest")[0] for colour, shape in names]), names


def _by_cell(picture: np.ndarray) -> np.ndarray:
    """[96, 128] → mean of each cell [3, 4]."""
    return picture.reshape(world.ROWS, world.CELL, world.COLUMNS, world.CELL).mean((1, 3))


def look(frame: np.ndarray) -> Seen:
    """frame [96, 128, 3] in 0…1"""
    differences = {scene: np.abs(frame - world.background(scene)).mean(-1) for scene in world.SCENES}
    scene = min(differences, key=lambda name: np.median(_by_cell(differences[name])))
    by_cell = _by_cell(differences[scene])
    place = divmod(int(by_cell.argmax()), world.COLUMNS)
    drawn, names = _composites(scene, place)
    part = _part(frame, place)
    best = int(np.square(drawn - part).mean((1, 2, 3)).argmin())
    whole = np.abs(drawn[best] - _part(world.background(scene), place)).mean()
    found = by_cell[place] > PRESENT * whole
    others = [divmod(cell, world.COLUMNS) for cell in range(world.CELLS)]
    ghosts = sum(_opacity(frame, scene, other) > GHOST for other in others if other != place)
    return Seen(scene, place if found else None, *names[best], ghosts)


def _part(picture: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    top, left = cell[0] * world.CELL, cell[1] * world.CELL
    return picture[top : top + world.CELL, left : left + world.CELL]


def _opacity(frame: np.ndarray, scene: str, cell: tuple[int, int]) -> float:
    """How opaque the object would be that explains a cell's difference from the scene best."""
    bare = _part(world.background(scene), cell)
    wanted = (_composites(scene, cell)[0] - bare).reshape(len(world.COLOURS) * len(world.SHAPES), -1)
    given = (_part(frame, cell) - bare).ravel()
    opacity = wanted @ given / np.square(wanted).sum(1)
    left = np.square(given[None] - opacity[:, None] * wanted).sum(1)
    return float(opacity[left.argmin()])


def _level(sound: np.ndarray, rate: int, start: float, seconds: float, frequency: float) -> float:
    """Amplitude of a sine in a piece of sound [n]."""
    piece = sound[max(0, round(start * rate)) : round((start + seconds) * rate)]
    if len(piece) < 16:
        return 0.0
    window = np.hanning(len(piece))
    turns = np.exp(-2j * np.pi * frequency * np.arange(len(piece)) / rate)
    return float(2 * abs((piece * window * turns).sum()) / window.sum())


def pitch(sound: np.ndarray, rate: int, start: float, seconds: float = TONE_SECONDS) -> float:
    """The strongest frequency below the blip's, in Hz; 0 where nothing is heard."""
    piece = sound[max(0, round(start * rate)) : round((start + seconds) * rate)]
    if len(piece) < 16 or np.abs(piece).max() < 1e-3:
        return 0.0
    size = 8 * len(piece)
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), size))
    hertz = np.arange(len(spectrum)) * rate / size
    spectrum[(hertz < 100) | (hertz > 2400)] = 0
    return float(hertz[spectrum.argmax()])


def blip_heard(sound: np.ndarray, rate: int, start: float) -> bool:
    """Whether a blip begins at about this time."""
    levels = [
        _level(sound, rate, start + shift, world.BLIP_SECONDS, world.BLIP) for shift in np.arange(-0.06, 0.061, 0.02)
    ]
    return max(levels) > BLIP_SHARE * world.BLIP_LEVEL


@dataclass(frozen=True)
class Verdict:
    """Shares of what is right, by segment; and of the whole film: no ghosts, and the largest step of the tone's level
    at a join in dB."""

    segments: tuple[dict[str, float], ...]
    clean: tuple[bool, ...]
    level_step: float


NAMES = ("cell", "motion", "colour", "shape", "scene", "tone", "blip")


def judge(film: np.ndarray, sound: np.ndarray, rate: int, truth: Truth) -> Verdict:
    """film [N, 96, 128, 3] in 0…1, sound [n] or [channels, n] → shares of boundaries and steps that are as they
    should be."""
    sound = np.atleast_2d(sound).mean(0)
    found = {name: [[] for _ in range(truth.segments[-1] + 1)] for name in NAMES}
    ghosts = [0] * (truth.segments[-1] + 1)
    last = None
    for index, (subject, segment, cell) in enumerate(zip(truth.subjects, truth.segments, truth.way.cells)):
        seen = look(film[min(world.STEP * index, len(film) - 1)])
        right = {
            "cell": seen.cell == cell,
            "scene": seen.scene == subject.scene,
            "colour": seen.cell is not None and seen.colour == subject.colour,
            "shape": seen.cell is not None and seen.shape == subject.shape,
        }
        if index:
            old = truth.way.cells[index - 1]
            moved = None if None in (last, seen.cell) else (seen.cell[0] - last[0], seen.cell[1] - last[1])
            start = (index - 1) * STEP_SECONDS
            heard = pitch(sound, rate, start + STEP_SECONDS / 2 - TONE_SECONDS / 2)
            right["motion"] = moved == (cell[0] - old[0], cell[1] - old[1])
            right["tone"] = abs(heard - world.TONES[subject.colour]) < TONE_HZ
            right["blip"] = blip_heard(sound, rate, start) == truth.way.hits[index - 1]
        for name, value in right.items():
            found[name][segment].append(value)
        ghosts[segment] += seen.ghosts
        last = seen.cell
    shares = tuple({name: float(np.mean(found[name][index])) for name in NAMES} for index in range(len(ghosts)))
    return Verdict(shares, tuple(count == 0 for count in ghosts), level_step(sound, rate, truth))


def level_step(sound: np.ndarray, rate: int, truth: Truth) -> float:
    """How far the tone's level strays around a join from what it is before, at most, in dB."""
    worst = 0.0
    for index in range(1, len(truth.segments)):
        if truth.segments[index] == truth.segments[index - 1]:
            continue
        join = (index - 1) * STEP_SECONDS
        old, new = (world.TONES[truth.subjects[place].colour] for place in (index - 1, index))
        usual = _level(sound, rate, join - 0.1, 0.06, old)
        for start in np.arange(-JOIN_SECONDS, JOIN_SECONDS - WINDOW_SECONDS + 1e-6, WINDOW_SECONDS / 4):
            if old != new and start + WINDOW_SECONDS > 0 > start - CHANGE_SECONDS:
                continue  # where the tone changes, one has no level
            level = _level(sound, rate, join + start, WINDOW_SECONDS, new if start >= 0 else old)
            worst = max(worst, abs(20 * np.log10(max(level, SILENT) / max(usual, SILENT))))
    return float(worst)


def truth_film(subjects: list[Subject], steps: list[int]) -> tuple[np.ndarray, np.ndarray, Truth]:
    """What a perfect model makes of one subject's story: frames, sound at 24 kHz and the truth."""
    truth = story_truth(subjects, steps)
    film = world.render(subjects[0], truth.way)
    return film, world.sound(subjects[0].colour, truth.way.hits, truth.frames, 24000), truth
