"""Training samples by table lookup: latents of clips, which tokens are known, and what the prompt says.

A clip begins from the prompt alone, from a first picture, or from the end of a segment before it. In the first case
all follows from the prompt. In the others a word that is not said means "as it was", and another word changes the
thing at the join.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from torch import Tensor

from . import latents, world
from .engine import first_segment, next_segment
from .latents import LEVEL, OBJECT
from .transformer import NEUTRAL
from .world import Subject

FRAMES = 7  # latent: 49 pictures, the model's own length
LENGTHS = (4, 7, 10, 13, 16)
DEFAULT = Subject("red", "ball", "day", "side")  # what a prompt without words shows
BLIP_WEIGHT, OBJECT_WEIGHT = 3.0, 4.0


@dataclass(frozen=True)
class Join:
    """How a clip of so many latent frames continues another: latents known of picture and sound, and when its
    pictures start on its own clock, in seconds."""

    frames: int
    video: int
    audio: int
    offset: Fraction
    audio_latents: int


@dataclass(frozen=True)
class Joins:
    """All ways to begin a clip of one length.

    anew: from the prompt; picture: from a first one; the others as the overlap plans of segments come to: 9 frames of
    picture with 9 frames of sound (short), 49 (long) or none (silent), and 17 with 17 (wide).
    """

    anew: Join
    picture: Join
    short: tuple[Join, ...]
    wide: Join
    silent: Join
    long: tuple[Join, ...]

    @property
    def alike(self) -> tuple[Join, ...]:
        """Those with as many audio latents as a clip that begins anew."""
        return (self.anew, self.picture, *self.short, self.wide, self.silent)


@cache
def joins_of(frames: int) -> Joins:
    """The joins of clips of so many latent frames."""

    def chain(video: int, audio: int, count: int) -> tuple[Join, ...]:
        timing = first_segment(world.STEP * (frames - 1) + 1, Fraction(world.FPS))
        found = []
        for _ in range(count):
            timing = next_segment(timing, timing.frames, video_overlap=video, audio_overlap=audio)
            known = (video - 1) // world.STEP + 1
            found.append(
                Join(frames, known, timing.audio_overlap_latents, timing.video_offset_seconds, timing.audio_latents)
            )
        alike = [join for join in found if join.audio_latents - found[0].audio_latents in (0, 1)]  # stack in a batch
        return tuple(replace(join, audio_latents=found[0].audio_latents) for join in alike)

    latents_anew = first_segment(world.STEP * (frames - 1) + 1, Fraction(world.FPS)).audio_latents
    return Joins(
        Join(frames, 0, 0, Fraction(0), latents_anew),
        Join(frames, 1, 0, Fraction(0), latents_anew),
        tuple(replace(join, audio_latents=latents_anew) for join in chain(9, 9, 3)),
        replace(chain(17, 17, 1)[0], audio_latents=latents_anew),
        Join(frames, 2, 0, Fraction(0), latents_anew),
        chain(9, 49, 3),
    )


@dataclass(frozen=True)
class Clip:
    """One sample: what is asked and what comes.

    words [4] of classes; entries [frames, 12] of the latent table; sound [latents, 16]; loud: latents with a blip.
    """

    join: Join
    before: Subject
    after: Subject
    words: tuple[int, ...]
    entries: np.ndarray
    sound: Tensor
    loud: np.ndarray
    way: world.Path


@dataclass(frozen=True)
class Batch:
    """Clean latents [B, T, 128] with faulty known tokens, masks [B, T] of known tokens, weights [B, T] of the loss."""

    video: Tensor
    audio: Tensor
    clean_video: Tensor
    clean_audio: Tensor
    classes: Tensor
    joins: list[Join]
    video_weight: Tensor
    audio_weight: Tensor
    clips: list[Clip]


def classes_of(subject: Subject, said=(True, True, True, True)) -> tuple[int, ...]:
    """Word classes of a prompt; the neutral one for what is not said."""
    out, base = [], 0
    for names, value, told in zip(world.ATTRIBUTES, subject.values, said):
        out.append(base + names.index(value) if told else NEUTRAL)
        base += len(names)
    return tuple(out)


class Sampler:
    """Draws clips; ``withheld``: of the withheld combinations alone, else of all the others."""

    def __init__(self, seed: int, withheld: bool = False):
        self.rng = np.random.default_rng(seed)
        self.subjects = [subject for subject in world.all_subjects() if subject.withheld == withheld]
        self.known = set(self.subjects)
        self.withheld = withheld

    def subject(self) -> Subject:
        return self.subjects[self.rng.integers(len(self.subjects))]

    def changed(self, before: Subject) -> tuple[Subject, tuple[bool, ...]]:
        """What comes after a join and which words the prompt says: what changes is said, most of the rest too."""
        rng = self.rng
        while True:
            values, said = list(before.values), [True] * 4
            brief = rng.random() < 0.25  # "It jumps up and down."
            for index, chance in enumerate((0.12, 0.06, 0.08, 0.3)):
                if rng.random() < chance:
                    values[index] = world.ATTRIBUTES[index][rng.integers(len(world.ATTRIBUTES[index]))]
                elif index < 3:
                    said[index] = rng.random() > (0.8 if brief else 0.03)
            after = Subject(*values)
            if after in self.known:
                return after, tuple(said)

    def clip(self, join: Join) -> Clip:
        rng = self.rng
        if join.video == 0:
            return self._anew(join)
        start = int(rng.integers(world.ROWS)), int(rng.integers(world.COLUMNS))
        before = self.subject()
        after, said = self.changed(before)
        if join.video == 1:
            return make_clip(join, after, after, said, world.path(after.motion, start, "", join.frames - 1), 0)
        past = int(rng.integers(5, 12))  # steps before the first latent: the sound remembers more than the picture
        way = world.path(before.motion, start, "", past + join.video - 1)
        way = way.then(world.path(after.motion, way.cells[-1], way.last_direction, join.frames - join.video))
        return make_clip(join, before, after, said, way, past)

    def _anew(self, join: Join) -> Clip:
        """The start follows from the motion, and what is not said is as in the default."""
        subject = self.subject()
        said = tuple(self.rng.random() > 0.05 for _ in range(4))
        values = [value if told else usual for value, usual, told in zip(subject.values, DEFAULT.values, said)]
        shown = Subject(*values)
        if shown not in self.known:
            said, shown = (True, True, True, True), subject
        way = world.path(shown.motion, world.START[shown.motion], "", join.frames - 1)
        return make_clip(join, shown, shown, said, way, 0)

    def batch(self, size: int, joins: tuple[Join, ...], weights: tuple[float, ...], clean: bool = False) -> Batch:
        """Clips of several kinds with equally many audio latents. clean: known tokens are as they should be."""
        shares = np.array(weights) / sum(weights)
        clips = [self.clip(joins[self.rng.choice(len(joins), p=shares)]) for _ in range(size)]
        return self.collate(clips, clean)

    def collate(self, clips: list[Clip], clean: bool = False) -> Batch:
        entries = torch.from_numpy(np.stack([clip.entries for clip in clips])).flatten(1)
        video = torch.zeros(*entries.shape, 128)
        video[..., : latents.VIDEO_CHANNELS] = latents.table()[entries]
        sound = torch.stack([clip.sound for clip in clips])
        audio = torch.zeros(*sound.shape[:2], 128)
        audio[..., : latents.MEL_GROUPS] = audio[..., latents.MEL_GROUPS : latents.AUDIO_CHANNELS] = sound
        known_video = torch.tensor([clip.join.video * world.CELLS for clip in clips])[:, None]
        known_audio = torch.tensor([clip.join.audio for clip in clips])[:, None]
        clean_video = torch.arange(entries.shape[1]) < known_video
        clean_audio = torch.arange(sound.shape[1]) < known_audio
        objects = (entries % latents.PER_CELL > 0).float()
        loud = torch.from_numpy(np.stack([clip.loud for clip in clips])).float()
        if not clean:
            self._wear(video, audio, clips, clean_video, clean_audio)
        return Batch(
            video,
            audio,
            clean_video,
            clean_audio,
            torch.tensor([clip.words for clip in clips]),
            [clip.join for clip in clips],
            (1 + (OBJECT_WEIGHT - 1) * objects) * ~clean_video,
            (1 + (BLIP_WEIGHT - 1) * loud) * ~clean_audio,
            clips,
        )

    def _wear(self, video: Tensor, audio: Tensor, clips: list[Clip], clean_video: Tensor, clean_audio: Tensor) -> None:
        """Known tokens as they come in use: a little off, the object weaker, ghosts of it elsewhere."""
        rng, size = self.rng, len(clips)
        drawn = slice(latents.VIDEO_CHANNELS)
        strength = torch.from_numpy(rng.uniform(0.7, 1.1, (size, 1, 1)).astype(np.float32))
        noise = torch.from_numpy(rng.uniform(0, 0.2, (size, 1, 1)).astype(np.float32))
        worn = video[..., drawn].clone()
        worn[..., OBJECT] *= strength
        for index, clip in enumerate(clips):
            if clip.join.video and rng.random() < 0.3:
                worn[index, int(rng.integers(clip.join.video * world.CELLS)), OBJECT] += self._ghost(clip)
        worn += noise * torch.randn(worn.shape)
        video[..., drawn] = torch.where(clean_video[..., None], worn, video[..., drawn])
        hiss = noise * torch.randn(audio.shape)
        hiss[..., latents.AUDIO_CHANNELS :] = 0
        audio += hiss * clean_audio[..., None]

    def _ghost(self, clip: Clip) -> Tensor:
        rng, code = self.rng, torch.zeros(OBJECT.stop)
        colour, shape = (names.index(value) for names, value in zip(world.ATTRIBUTES, clip.before.values[:2]))
        places = {"present": 0, "colour": colour, "shape": shape, "state": int(rng.integers(len(world.STATES)))}
        for name, place in places.items():
            code[latents.GROUPS[name].start + place] = LEVEL
        return float(rng.uniform(0.1, 0.45)) * code[OBJECT]


def make_clip(join: Join, before: Subject, after: Subject, said, way: world.Path, past: int) -> Clip:
    """A clip whose first latent lies ``past`` steps after the way's beginning; ``before`` holds for what is known."""
    entries = np.zeros((join.frames, world.CELLS), np.int64)
    for index, states in enumerate(way.since(past).states()):
        shown = before if index < join.video else after
        colour, shape, scene = (names.index(value) for names, value in zip(world.ATTRIBUTES, shown.values[:3]))
        entries[index] = [latents.entry(scene, cell) for cell in range(world.CELLS)]
        for (row, column), state in states.items():
            cell = row * world.COLUMNS + column
            entries[index, cell] = latents.entry(scene, cell, colour, shape, world.STATES.index(state))
    sound, loud = _sound(join, before, after, way, past)
    return Clip(join, before, after, classes_of(after, said), entries, sound, loud, way.since(past))


def _sound(join: Join, before: Subject, after: Subject, way: world.Path, past: int) -> tuple[Tensor, np.ndarray]:
    tones, blips = latents.sound_codes()
    old, new = (tuple(world.COLOURS).index(subject.colour) for subject in (before, after))
    colours = [old if index < join.audio else new for index in range(join.audio_latents)]
    sound, loud = tones[colours], np.zeros(join.audio_latents, bool)
    for step, hit in enumerate(way.hits):
        if hit:
            seconds = float(join.offset) + (step - past) * world.STEP / world.FPS
            first = round(seconds / world.LATENT_SECONDS)
            for place in range(6):
                at = first - 1 + place
                if 0 <= at < join.audio_latents:
                    sound[at] = blips[colours[at], place]
                    loud[at] |= place in (1, 2, 3)
    return sound, loud
