"""The lattice world: what the demonstration model knows.

A picture is 3 × 4 cells of 32 pixels. One object sits in a cell at every latent boundary and glides to a neighbouring
cell within the 8 frames of a latent step, so a cell in one latent step is in one of ten states, and a video latent of
the world is a row of a table. The object's colour has a tone, and a blip is heard where it touches a wall.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

ROWS, COLUMNS, CELL, STEP, FPS = 3, 4, 32, 8, 24
CELLS = ROWS * COLUMNS
COLOURS = {
    "red": (225, 45, 50),
    "orange": (250, 150, 30),
    "yellow": (245, 225, 60),
    "green": (50, 190, 80),
    "blue": (60, 110, 240),
    "purple": (165, 70, 210),
}
SHAPES = ("ball", "box", "star")
SCENES = ("day", "sunset", "night", "sea")
MOTIONS = ("side", "up", "round", "rest")
ATTRIBUTES = (tuple(COLOURS), SHAPES, SCENES, MOTIONS)
# Hz. Multiples of 100, so that a tone repeats with every mel frame (10 ms); each lies in a group of 4 mel bins of its
# own.
TONES = {"red": 300, "orange": 500, "yellow": 700, "green": 900, "blue": 1300, "purple": 1800}
BLIP, BLIP_SECONDS = 3000, 0.08
LATENT_SECONDS = 0.04  # of sound
TONE_LEVEL, BLIP_LEVEL = 0.25, 0.3
MOVES = {"R": (0, 1), "L": (0, -1), "U": (-1, 0), "D": (1, 0)}
STATES = ("rest", *(f"out{d}" for d in MOVES), *(f"in{d}" for d in MOVES))
START = {"side": (2, 0), "up": (2, 1), "round": (0, 0), "rest": (1, 1)}
_FINE = 4  # drawn that much larger, then averaged

VERBS = {"side": "rolls from side to side", "up": "jumps up and down", "round": "circles around", "rest": "rests"}
PLACES = {"day": "on a sunny day", "sunset": "at sunset", "night": "at night", "sea": "over the sea"}
WORDS = {
    "red": "red crimson scarlet",
    "orange": "orange",
    "yellow": "yellow golden gold",
    "green": "green emerald",
    "blue": "blue azure",
    "purple": "purple violet",
    "ball": "ball circle disc sphere",
    "box": "box square cube block",
    "star": "star",
    "day": "day meadow sunny noon daylight morning",
    "sunset": "sunset dusk evening dawn",
    "night": "night moon moonlight",
    "sea": "sea ocean island beach",
    "side": "rolls roll rolling side left right moves",
    "up": "jumps jump jumping bounces bounce bouncing up down falls rises",
    "round": "circles circling round around",
    "rest": "rests rest resting still waits sits",
}


@dataclass(frozen=True)
class Subject:
    """What a prompt can ask for."""

    colour: str
    shape: str
    scene: str
    motion: str

    @property
    def withheld(self) -> bool:
        """Whether training never shows this combination: every eighth, so that each word is seen with all others but
        one."""
        places = [names.index(value) for names, value in zip(ATTRIBUTES, self.values)]
        return (places[0] + 3 * places[1] + 2 * places[2] + 5 * places[3] + places[2] * places[3]) % 8 == 7

    @property
    def values(self) -> tuple[str, str, str, str]:
        return self.colour, self.shape, self.scene, self.motion

    @property
    def prompt(self) -> str:
        article = "An" if self.colour[0] in "aeiou" else "A"
        return f"{article} {self.colour} {self.shape} {VERBS[self.motion]} {PLACES[self.scene]}."

    def but(self, **changes: str) -> "Subject":
        return replace(self, **changes)


def all_subjects() -> list[Subject]:
    """Every combination, in a fixed order."""
    return [Subject(c, s, p, m) for c in COLOURS for s in SHAPES for p in SCENES for m in MOTIONS]


# --- pictures -------------------------------------------------------------------------------------------------------


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of sub-pixel centres, in pixels."""
    y, x = np.mgrid[0 : height * _FINE, 0 : width * _FINE]
    return (x + 0.5) / _FINE, (y + 0.5) / _FINE


def _average(fine: np.ndarray) -> np.ndarray:
    height, width = fine.shape[0] // _FINE, fine.shape[1] // _FINE
    return fine.reshape(height, _FINE, width, _FINE, -1).mean((1, 3))


def _inside(shape: str, x: np.ndarray, y: np.ndarray, grow: float = 0.0) -> np.ndarray:
    x, y = x - 16, y - 16
    if shape == "ball":
        return x * x + y * y < (12.0 + grow) ** 2
    if shape == "box":
        return np.maximum(abs(x), abs(y)) < 12.5 + grow
    angle, radius = np.arctan2(x, -y), np.hypot(x, y - 1)
    tip = abs((angle / (2 * np.pi / 5)) % 1 - 0.5) * 2  # 1 at a tip, 0 in a valley
    return radius < 7.0 + 8.0 * tip**1.3 + grow


@cache
def sprite(colour: str, shape: str) -> np.ndarray:
    """Colour and opacity of an object, [32, 32, 4] in 0…1: outline, shading, a face. The colour is multiplied by
    opacity."""
    x, y = _grid(CELL, CELL)
    shade = np.clip(1.1 - 0.026 * (y - 6), 0.6, 1.12)
    rgb = np.clip(np.array(COLOURS[colour]) / 255 * shade[..., None], 0, 1)
    rgb = np.where(_inside(shape, x, y, -3.0 if shape == "box" else -1.6)[..., None], rgb, rgb * 0.35)
    for eye in (12.5, 19.5):
        rgb[((x - eye) / 2.2) ** 2 + ((y - 15) / 2.8) ** 2 < 1] = 1
        rgb[((x - eye - 0.4) / 1.2) ** 2 + ((y - 15.5) / 1.6) ** 2 < 1] = 0.08
    rgb[(abs(np.hypot(x - 16, y - 18.3) - 3.2) < 0.75) & (y > 19.2)] = 0.1
    opacity = _inside(shape, x, y)[..., None].astype(float)
    return _average(np.concatenate([rgb * opacity, opacity], -1))


def _mix(first, second, share: np.ndarray) -> np.ndarray:
    return np.array(first) / 255 * (1 - share) + np.array(second) / 255 * share


def _day(x, y, share):
    img = _mix((90, 170, 250), (205, 235, 255), share)
    img[(x - 110) ** 2 + (y - 17) ** 2 < 11**2] = np.array((255, 240, 120)) / 255
    for cx, cy, radius in ((20, 18, 7), (29, 15, 8), (38, 18, 7)):
        img[((x - cx) / radius) ** 2 + ((y - cy) / (radius * 0.75)) ** 2 < 1] = 1
    hill = y > 82 + 4 * np.cos(x / 128 * 2 * np.pi)
    ground = _mix((110, 200, 80), (60, 140, 50), np.clip((y - 78) / 18, 0, 1)[..., None])
    return np.where(hill[..., None], ground, img)


def _sunset(x, y, share):
    img = _mix((80, 50, 120), (255, 150, 70), np.clip(share * 1.25, 0, 1))
    img[(x - 30) ** 2 + (y - 78) ** 2 < 17**2] = np.array((255, 225, 120)) / 255
    hill = y > 80 - 9 * np.exp(-(((x - 95) / 22) ** 2))
    ground = _mix((90, 50, 60), (50, 25, 45), np.clip((y - 70) / 26, 0, 1)[..., None])
    return np.where(hill[..., None], ground, img)


def _night(x, y, share):
    img = _mix((12, 14, 45), (45, 50, 110), share)
    moon = ((x - 20) ** 2 + (y - 19) ** 2 < 11**2) & ((x - 25) ** 2 + (y - 16) ** 2 > 9**2)
    img[moon] = np.array((250, 245, 200)) / 255
    for sx, sy in ((50, 10), (75, 24), (101, 12), (118, 40), (60, 45), (88, 52), (10, 50)):
        img[(x - sx) ** 2 + (y - sy) ** 2 < 1.6**2] = 0.95
    hill = y > 84 - 5 * np.sin(x / 128 * 2 * np.pi)
    ground = _mix((25, 45, 50), (12, 25, 30), np.clip((y - 78) / 18, 0, 1)[..., None])
    return np.where(hill[..., None], ground, img)


def _sea(x, y, share):
    img = _mix((140, 205, 240), (225, 245, 250), np.clip(share * 1.6, 0, 1))
    img[((x - 96) / 20) ** 2 + ((y - 66) / 10) ** 2 < 1] = np.array((225, 200, 130)) / 255
    img[((x - 92) / 7) ** 2 + ((y - 50) / 5) ** 2 < 1] = np.array((40, 140, 70)) / 255
    img[(abs(x - 92) < 1.3) & (y > 50) & (y < 60)] = np.array((120, 80, 40)) / 255
    water = y > 66 + 1.8 * np.sin(x / 128 * 8 * np.pi)
    return np.where(water[..., None], _mix((40, 140, 190), (15, 70, 140), np.clip((y - 62) / 34, 0, 1)[..., None]), img)


@cache
def background(scene: str) -> np.ndarray:
    """A scene without an object, [96, 128, 3] in 0…1."""
    x, y = _grid(ROWS * CELL, COLUMNS * CELL)
    paint = {"day": _day, "sunset": _sunset, "night": _night, "sea": _sea}[scene]
    return _average(paint(x, y, (y / (ROWS * CELL))[..., None]))


def _overlay(patch: np.ndarray, drawn: np.ndarray, down: int, right: int) -> np.ndarray:
    """A cell with the sprite moved by so many pixels."""
    out = patch.copy()
    top, bottom, left, end = max(0, down), min(CELL, CELL + down), max(0, right), min(CELL, CELL + right)
    if top < bottom and left < end:
        part = drawn[top - down : bottom - down, left - right : end - right]
        out[top:bottom, left:end] = out[top:bottom, left:end] * (1 - part[..., 3:]) + part[..., :3]
    return out


def block(scene: str, cell: tuple[int, int], colour: str = "", shape: str = "", state: str = "") -> np.ndarray:
    """Eight frames of one cell, [8, 32, 32, 3] in 0…1; without a state no object is there."""
    row, column = cell
    patch = background(scene)[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
    if not state:
        return np.repeat(patch[None], STEP, 0)
    drawn = sprite(colour, shape)
    if state == "rest":
        return np.repeat(_overlay(patch, drawn, 0, 0)[None], STEP, 0)
    down, right = MOVES[state[-1]]
    paths = [j * CELL // STEP - (0 if state.startswith("out") else CELL) for j in range(1, STEP + 1)]
    return np.stack([_overlay(patch, drawn, down * path, right * path) for path in paths])


# --- motion ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Path:
    """Where the object is at each latent boundary, which way it goes in each step, and whether it touches a wall
    first."""

    cells: tuple[tuple[int, int], ...]  # steps + 1
    directions: tuple[str, ...]  # steps; "" for none
    hits: tuple[bool, ...]  # steps

    def then(self, later: "Path") -> "Path":
        """``later`` begins where this one ends."""
        return Path(self.cells + later.cells[1:], self.directions + later.directions, self.hits + later.hits)

    def since(self, step: int) -> "Path":
        return Path(self.cells[step:], self.directions[step:], self.hits[step:])

    @property
    def last_direction(self) -> str:
        return self.directions[-1] if self.directions else ""

    def states(self) -> list[dict[tuple[int, int], str]]:
        """For each latent frame (the first is a still): state of the cells that the object is in."""
        frames = [{self.cells[0]: "rest"}]
        for old, new, way in zip(self.cells, self.cells[1:], self.directions):
            frames.append({old: "rest"} if old == new else {old: f"out{way}", new: f"in{way}"})
        return frames


def _turn(motion: str, row: int, column: int, way: str) -> str:
    if motion == "rest":
        return ""
    if motion == "side":
        if way not in ("R", "L"):
            return "R" if column < COLUMNS - 1 else "L"
        return "L" if column == COLUMNS - 1 else "R" if column == 0 else way
    if motion == "up":
        if way not in ("U", "D"):
            return "U" if row > 0 else "D"
        return "D" if row == 0 else "U" if row == ROWS - 1 else way
    if row == 0 and column < COLUMNS - 1:  # clockwise along the border
        return "R"
    if column == COLUMNS - 1 and row < ROWS - 1:
        return "D"
    return "L" if row == ROWS - 1 and column > 0 else "U"


@cache
def path(motion: str, start: tuple[int, int], direction: str, steps: int) -> Path:
    """The way from a cell; direction: of the step before, "" for none."""
    cells, directions, hits = [start], [], []
    for _ in range(steps):
        row, column = cells[-1]
        old = directions[-1] if directions else direction
        new = _turn(motion, row, column, old)
        opposite = (
            old in MOVES
            and new in MOVES
            and old != new
            and (motion == "round" or set(old + new) in ({"R", "L"}, {"U", "D"}))
        )
        down, right = MOVES.get(new, (0, 0))
        cells.append((row + down, column + right))
        directions.append(new)
        hits.append(opposite)
    return Path(tuple(cells), tuple(directions), tuple(hits))


def story_path(motions: list[str], steps: list[int]) -> Path:
    """The way through segments of a story: how the first begins follows from its motion."""
    whole = path(motions[0], START[motions[0]], "", steps[0])
    for motion, count in zip(motions[1:], steps[1:]):
        whole = whole.then(path(motion, whole.cells[-1], whole.last_direction, count))
    return whole


def render(subject: Subject, way: Path) -> np.ndarray:
    """The film of a path, [8·steps + 1, 96, 128, 3] in 0…1."""
    film = []
    for index, states in enumerate(way.states()):
        frames = np.repeat(background(subject.scene)[None], STEP if index else 1, 0)
        for (row, column), state in states.items():
            part = block(subject.scene, (row, column), subject.colour, subject.shape, state)
            frames[:, row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = part if index else part[-1:]
        film.append(frames)
    return np.concatenate(film)


# --- sound ----------------------------------------------------------------------------------------------------------


def sound(colour: str, hits: tuple[bool, ...], frames: int, rate: int = 48000) -> np.ndarray:
    """Stereo samples [2, n] of so many frames: the colour's tone, and a blip at every wall. Step i begins at frame
    8·i."""
    seconds = np.arange(round(frames * rate / FPS)) / rate
    wave = TONE_LEVEL * np.sin(2 * np.pi * TONES[colour] * seconds)
    for index, hit in enumerate(hits):
        if hit:
            start = round(index * STEP / FPS / LATENT_SECONDS) * LATENT_SECONDS  # on the grid of audio latents
            on = (seconds >= start) & (seconds < start + BLIP_SECONDS)
            envelope = np.sin(np.pi * (seconds[on] - start) / BLIP_SECONDS) ** 2  # a hard edge would click in all bins
            wave[on] += BLIP_LEVEL * np.sin(2 * np.pi * BLIP * seconds[on]) * envelope
    return np.stack([wave, wave])
