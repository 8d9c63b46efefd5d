"""Scenes, and takes of what is in them.

A scene begins at a cut and needs nothing of the others. A take of a segment is the same segment with another seed. Take
n of a segment goes on from take n of the one before it, where that has so many, so that a scene whose segments have
three takes is made three times from beginning to end; else from the take that the film shows.
"""

import contextlib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import StoryError
from .bridging.bridges import check_bridges, end_bridges
from .journal import Journal
from .script import StoryScript
from .script.values import MOST_TAKES
from .tasks import seed_of

NEW = "new"


@dataclass(frozen=True)
class Redo:
    """A segment to make again. index: from 0. seed None: the one it has; NEW: a fresh one. bridge: it is made to fit
    the segment behind it, which stays with all after it."""

    index: int
    seed: int | str | None = None
    bridge: bool = False


def parse_redo(text: str) -> Redo:
    """``3``, ``3:new`` or ``3:SEED``. Raises StoryError."""
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*(?::\s*(new|[0-9]{1,19}))?\s*", str(text))
    if not found or found[1].strip("0") == "" or (found[2] or "").isdigit() and int(found[2]) >= 2**63:
        raise StoryError(
            f"redo is {str(text)[:40]!r}, expected a segment number such as 2, or 2:new for a fresh seed, or 2:77 for "
            "seed 77"
        )
    seed = found[2] if found[2] in (None, NEW) else int(found[2])
    return Redo(int(found[1]) - 1, seed)


def bridged(redo: Iterable[Redo]) -> tuple[Redo, ...]:
    """Segments to make again, each to fit the one behind it. Raises StoryError where there are none."""
    found = tuple(replace(one, bridge=True) for one in redo)
    if not found:
        raise StoryError("a bridge is wished but no segment is to be made again: name it with redo, such as 2 or 2:new")
    return found


def parse_pick(text: str) -> tuple[int, int]:
    """``SEGMENT=TAKE`` as (index from 0, take from 1). Raises StoryError."""
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*=\s*([0-9]{1,5})\s*", str(text))
    if not found or not int(found[1]) or not int(found[2]):
        raise StoryError(f"pick is {str(text)[:40]!r}, expected SEGMENT=TAKE such as 3=2, both counted from 1")
    return int(found[1]) - 1, int(found[2])


@dataclass(frozen=True)
class Cast:
    """The takes of a story. seeds: of each segment, take 1 first; kept: the take of each that the film shows, from 1;
    scenes: the segments of each scene."""

    seeds: tuple[tuple[int, ...], ...]
    kept: tuple[int, ...]
    scenes: tuple[range, ...]

    def seed(self, index: int, take: int) -> int:
        """The seed of a take."""
        return self.seeds[index][take - 1]

    def takes(self, index: int) -> range:
        """The numbers of a segment's takes."""
        return range(1, len(self.seeds[index]) + 1)


def scenes_of(script: StoryScript) -> tuple[range, ...]:
    """The segments of each scene, in order."""
    starts = [i for i, segment in enumerate(script.segments) if i == 0 or segment.cut]
    return tuple(range(first, end) for first, end in zip(starts, [*starts[1:], len(script.segments)]))


def entries_of(script: StoryScript) -> list[str]:
    """What a segment's takes are remembered by: its prompt and its own seed, and which of several alike it is. So they
    stay with it when others come before it, and end when it becomes another."""
    seen: Counter[str] = Counter()
    names = []
    for segment in script.segments:
        entry = json.dumps([segment.prompt, segment.seed])
        seen[entry] += 1
        names.append(hashlib.sha256(f"{entry} {seen[entry]}".encode()).hexdigest()[:32])
    return names


def asked_of(script: StoryScript) -> list[str]:
    """What a script says of each segment and of those before it in its scene, as one text each: another as soon as any
    of it changes that the segment depends on. Files count by name, size and time."""
    others = ("path", "segments", "seed", "drift_correction")  # what no segment alone depends on
    story = {one.name: getattr(script, one.name) for one in fields(script) if one.name not in others}
    placed = script.audio is not None or script.double_rate > 0
    asked: list[str] = []
    for index, segment in enumerate(script.segments):
        own = asdict(replace(segment, line=0, seed=seed_of(script, segment, index)))
        at = script.start_frame(index) if placed or segment.references else None
        before = None if index == 0 or segment.cut else asked[-1]
        asked.append(_hash([story, own, at, before]))
    return asked


def film_asked_of(script: StoryScript) -> str:
    """The same of the whole film."""
    return _hash([asked_of(script), script.drift_correction])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """A value of a script for JSON."""
    if isinstance(value, Path):
        with contextlib.suppress(OSError):
            about = value.stat()
            return [value.name, about.st_size, about.st_mtime_ns]
        return value.name
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def take_seed(seed: int, take: int) -> int:
    """The seed of a take: the segment's own for the first, others that no neighbour has for the next."""
    if take == 1:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} take {take}".encode()).digest()[:4], "big") % 2**31


@dataclass(frozen=True)
class Wishes:
    """What one run asks of takes besides the script. redo: segments to make again; picks: take by index; takes: of
    every segment that does not say."""

    redo: tuple[Redo, ...] = ()
    picks: Mapping[int, int] = field(default_factory=dict)
    takes: int | None = None


def check_wishes(script: StoryScript, wishes: Wishes) -> None:
    """Raise StoryError for a segment or a number that does not exist."""
    count = len(script.segments)
    for what, index in [*(("made again", r.index) for r in wishes.redo), *(("picked", i) for i in wishes.picks)]:
        if not 0 <= index < count:
            raise StoryError(f"segment {index + 1} cannot be {what}: the script has segments 1 to {count}")
    twice = [index for index, times in Counter(r.index for r in wishes.redo).items() if times > 1]
    if twice:
        raise StoryError(f"segment {twice[0] + 1} is to be made again in two ways: keep one")
    named = {r.index for r in wishes.redo if r.seed is not None and not r.bridge} | set(wishes.picks)
    for index in sorted(named):
        if script.segments[index].take is not None:
            raise script.error(script.segments[index], "the script names the take to keep: change it there")
    if wishes.takes is not None and not 1 <= wishes.takes <= MOST_TAKES:
        raise StoryError(f"takes is {wishes.takes}, expected 1 to {MOST_TAKES}")
    scene_of = {index: scene for scene in scenes_of(script) for index in scene}
    check_bridges(script, {redo.index for redo in wishes.redo if redo.bridge}, scene_of)


def cast_of(script: StoryScript, journal: Journal, wishes: Wishes) -> Cast:
    """The takes of a story, after what the run wishes (check_wishes) is written into the journal. Raises StoryError."""
    entries = entries_of(script)
    extra, picked = _remembered(journal.entries)
    base = [_base_seeds(script, index, wishes.takes) for index in range(len(entries))]
    made = {(str(e.get("entry")), str(e.get("seed"))) for e in journal.of("segment") if "known_as" not in e}
    for redo in wishes.redo:
        if redo.bridge:
            continue  # is a take in another one's place
        if redo.seed is None:
            end_bridges(journal, entries[redo.index])
        else:
            entry = entries[redo.index]
            have = _with_extra(base[redo.index], extra.get(entry, []))
            seed = _fresh(entry, have, made) if redo.seed == NEW else int(redo.seed)
            journal.append("take", entry=entry, seed=seed, segment=redo.index + 1)
            extra.setdefault(entry, []).append(seed)
            picked[entry] = seed
    for index, take in wishes.picks.items():
        have = _with_extra(base[index], extra.get(entries[index], []))
        if not 1 <= take <= len(have):
            raise StoryError(
                f"segment {index + 1} has no take {take}, it has {len(have)}: ask for more with takes: {take}, or for "
                f"another with --redo {index + 1}:new"
            )
        journal.append("pick", entry=entries[index], seed=have[take - 1], segment=index + 1, take=take)
        picked[entries[index]] = have[take - 1]
    seeds = [_with_extra(base[i], extra.get(entry, []), picked.get(entry)) for i, entry in enumerate(entries)]
    picks = {i: seeds[i].index(picked[entry]) + 1 for i, entry in enumerate(entries) if entry in picked}
    scenes = scenes_of(script)
    return Cast(tuple(map(tuple, seeds)), tuple(_kept(script, scenes, seeds, picks)), scenes)


def _remembered(entries: Iterable[Mapping[str, Any]]) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Seeds of further takes, and the seed that was picked, by entry."""
    extra: dict[str, list[int]] = {}
    picked: dict[str, int] = {}
    for event in entries:
        if event["event"] in ("take", "pick"):
            entry, seed = event.get("entry"), event.get("seed")
            if not isinstance(entry, str) or isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
                raise StoryError(f"the journal's entry of a {event['event']} is damaged: remove its line")
            if event["event"] == "take":
                extra.setdefault(entry, []).append(seed)
            picked[entry] = seed
    return extra, picked


def _base_seeds(script: StoryScript, index: int, takes: int | None) -> list[int]:
    """Seeds of the takes that script and command line ask for."""
    segment = script.segments[index]
    seed = seed_of(script, segment, index)
    return [take_seed(seed, take) for take in range(1, max(segment.takes, takes or 1) + 1)]


def _with_extra(base: list[int], extra: list[int], picked: int | None = None) -> list[int]:
    return list(dict.fromkeys([*base, *extra, *([] if picked is None else [picked])]))


def _fresh(entry: str, have: list[int], made: set[tuple[str, str]]) -> int:
    """The newest further take where it was not finished, so that a stopped run goes on with it; else the next one."""
    if len(have) > 1 and (entry, str(have[-1])) not in made:
        return have[-1]
    return fresh_seed(have)


def fresh_seed(have: list[int]) -> int:
    """A seed that none of a segment's takes has; have: their seeds, the segment's own first."""
    take = len(have) + 1
    while (seed := take_seed(have[0], take)) in have:
        take += 1
    return seed


def _kept(script: StoryScript, scenes, seeds: list[list[int]], picks: Mapping[int, int]) -> list[int]:
    """The take of each segment that the film shows: the one that is named, else that of the segment before in the same
    scene where there are so many, else the first."""
    kept: list[int] = []
    for scene in scenes:
        before = 1
        for index in scene:
            named = script.segments[index].take or picks.get(index)
            before = named or (before if before <= len(seeds[index]) else 1)
            kept.append(before)
    return kept
