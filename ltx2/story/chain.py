"""A story carried out: scene by scene, each segment recorded when it is on disk, then one film written as a stream.

What makes a segment is hashed: its entry in the script, the pictures it names, the models, and the state it starts
from. A segment whose hash is recorded and whose files are whole is kept; everything else is made. So a killed run goes
on where it was, a changed segment is made anew together with what depends on it, and nothing is made twice.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import system
from ..errors import StoryError
from ..film.provenance import Source
from ..film.seam_metrics import SeamReport
from .bridging.bridges import Bridge, bridge_seeds, end_bridges, standing_bridges, write_bridge
from .bridging.ends import Ends
from .enhancing import Enhancer, enhanced_script
from .film_file import write_story_film
from .journal import Journal, now, open_journal, whereabouts
from .making import (
    SEGMENTS_FOLDER,
    Beginning,
    Order,
    Workshop,
    check_timeline,
    conditions_of,
    ensure_named,
    make_segment,
)
from .owned_files import (
    Unused,
    check_replaceable,
    check_writable,
    checked_path,
    is_there,
    recorded_films,
    remove_unfinished,
    remove_unused,
)
from .records import Keys, SegmentRecord, older_records, read_records
from .script import StoryScript
from .script.unheard import unheard
from .segment_files import STATE
from .sentences import as_story_error, shown
from .takes import NEW, Cast, Wishes, asked_of, cast_of, check_wishes, entries_of, film_asked_of, fresh_seed
from .tasks import Elsewhere, Generate, SegmentTask


@dataclass(frozen=True)
class RunOptions:
    """How a story is carried out. wishes: of takes, besides the script. jobs: how many scenes and takes are made at
    once. prune: remove the segments that the script no longer asks for, of a draft those of drafts alone. numbered: a
    film that is there stays, and another gets a number. metadata: tags of the film. start: what the script goes on
    from, where it names a film. enhancer: what writes the prompts out before all else. typed: the script before
    anything was added to it, by which the journal knows it; None: the script itself."""

    wishes: Wishes = field(default_factory=Wishes)
    jobs: int = 1
    prune: bool = False
    numbered: bool = False
    metadata: Mapping[str, Any] | None = None
    start: Beginning | None = None
    enhancer: Enhancer | None = None
    typed: StoryScript | None = None


@dataclass(frozen=True)
class StoryResult:
    """made: indices of the segments of which something was made, kept: of the others; film: the file; seams: reports;
    written: whether the film was written anew; last: the folder of the last segment, with its state; unused: what could
    be removed."""

    film: Path
    made: tuple[int, ...]
    kept: tuple[int, ...]
    seams: tuple[SeamReport, ...]
    written: bool
    last: Path
    unused: Unused

    def as_json(self) -> dict[str, Any]:
        """The result as a JSON object; segments count from 1, and ``state`` is what the last of them leaves."""
        return {
            "film": str(self.film),
            "written": self.written,
            "made": [index + 1 for index in self.made],
            "kept": [index + 1 for index in self.kept],
            "seams": [seam.as_json() | {"segment": seam.segment + 1} for seam in self.seams],
            "state": str(self.last / STATE),
            "unused": {"segments": self.unused.segments, "bytes": self.unused.bytes},
        }

    def __str__(self) -> str:
        made = len(self.made)
        return f"{made} segment{'s' * (made != 1)} made, {len(self.kept)} kept"


def run_story(
    script: StoryScript,
    generate: Generate,
    *,
    work: str | Path,
    out: str | Path,
    identity: str = "",
    source: Source = Source(),  # noqa: B008 (frozen)
    options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
    log: Callable[[str], None] | None = None,
) -> StoryResult:
    """Make what is missing of a story in the folder ``work``, and the film ``out``.

    identity: text that changes when other models or settings are used, so that their segments are made anew; source:
    the models as states name them. log: is given what happens, a line at a time. Raises StoryError, and whatever
    ``generate`` raises. Nothing is removed or replaced that the journal in ``work`` does not own.
    """
    log = log or (lambda text: None)
    check_timeline(script)
    check_wishes(script, options.wishes)
    _check_start(script, options)
    work, out = checked_path(work, "work folder"), checked_path(out, "film")
    with as_story_error(f"{shown(out)} cannot be written"):
        real_out = out.resolve() if out.is_symlink() else out  # what a link names is replaced, not the link
    with open_journal(work) as journal:
        remove_unfinished(journal)
        if not options.numbered:
            check_replaceable(real_out, recorded_films(journal), work)
        if not is_there(real_out):
            check_writable(journal, real_out)
        given = script  # as it was typed, which is how people know it
        typed = options.typed or given
        if options.enhancer is not None:
            script = enhanced_script(script, journal, options.enhancer, log)
        for note in unheard(given):
            log(f"note: {note}")
        cast = cast_of(script, journal, options.wishes)
        _announce(journal, given, cast, out, list(zip(asked_of(typed), entries_of(script))), film_asked_of(typed))
        if isinstance(generate, Elsewhere):
            generate.tell = _teller(journal, len(script.segments), log)
        shop = Workshop(script, generate, journal, source, log, options.start)
        run = _Run(shop, cast, Keys(script, identity), options.wishes)
        film_records = run.make_all(options.jobs)
        result = write_story_film(
            script,
            film_records,
            journal,
            real_out,
            numbered=options.numbered,
            log=log,
            metadata=_metadata(options, script),
            start=options.start,
        )
        unused = remove_unused(journal, shop.segments, run.used, source.draft, options.prune, log)
        journal.append("end", durable=False, at=now())
    made = tuple(sorted(run.made))
    kept = tuple(index for index in range(len(script.segments)) if index not in run.made)
    last = work / SEGMENTS_FOLDER / film_records[-1].folder
    film = out.with_name(result.path.name) if options.numbered else out
    return StoryResult(film, made, kept, result.seams, result.written, last, unused)


def _metadata(options: RunOptions, script: StoryScript) -> dict[str, Any] | None:
    """What the film says of itself: the prompts too where they were written out."""
    written = {} if options.enhancer is None else {"enhanced_prompts": [one.prompt for one in script.segments]}
    return {**(options.metadata or {}), **written} or None


def _check_start(script: StoryScript, options: RunOptions) -> None:
    if (script.start is None) != (options.start is None):
        raise StoryError("a story goes on from a film: give its script the film, and the run what was read of it")


class _Run:
    """One go through a story. used: folders of all takes; made: indices of which something was made."""

    def __init__(self, shop: Workshop, cast: Cast, keys: Keys, wishes: Wishes) -> None:
        self._shop, self._cast, self._keys = shop, cast, keys
        self._entries = entries_of(shop.script)
        self._redo = {redo.index for redo in wishes.redo if redo.seed is None and not redo.bridge}
        self._wished = {redo.index: redo for redo in wishes.redo if redo.bridge}
        self._bridges = standing_bridges(shop.journal)
        self._known = read_records(shop.journal.of("segment"))
        self._known |= older_records(shop.script, keys, self._known)
        self._whole: set[str] = set()  # keys of segments that were looked at or made in this run
        self._unlogged: list[tuple[int, int]] = []  # takes that needed nothing
        self.used: set[str] = set()
        self.made: set[int] = set()
        self._own = threading.Lock()  # of all of these
        self._jobs, self._done = 1, set[tuple[int, int]]()
        self._at_once: dict[str, threading.Lock] = {}  # by key: what is asked for twice is made once
        self._ends = {index: ends for scene in cast.scenes for index, ends in self._wished_ends(scene)}

    def make_all(self, jobs: int = 1) -> list[SegmentRecord]:
        """Every scene as the film shows it, and its other takes, ``jobs`` of them at once. Returns the film's records.

        Of several at once, what goes wrong in a scene ends that scene alone; it is raised when all others are made.
        """
        self._jobs = jobs
        if jobs > 1:
            films = self._together(jobs)
        else:
            films = []
            for scene in self._cast.scenes:
                films.append(self._scene(scene))
                for take in self._takes_of(scene):
                    self._take(scene, films[-1], take)
        self._tell_kept()
        return [record for film in films for record in film.values()]

    def _together(self, jobs: int) -> list[dict[int, SegmentRecord]]:
        pool, ended = ThreadPoolExecutor(jobs), False
        try:
            scenes = [pool.submit(self._scene, scene) for scene in self._cast.scenes]
            system.wait_for(scenes)
            # a scene may end with an error that is raised below, in the film's order
            whole = [(i, done.result()) for i, done in enumerate(scenes) if done.exception() is None]
            others = [
                pool.submit(self._take, self._cast.scenes[i], film, take)
                for i, film in whole
                for take in self._takes_of(self._cast.scenes[i])
            ]
            system.wait_for(others)
            ended = True
            for scene in scenes:
                scene.result()
            for other in others:
                other.result()
        finally:  # who interrupts a run does not wait for what it was doing
            pool.shutdown(wait=ended, cancel_futures=True)
        return [film for _, film in whole]

    def _scene(self, scene: range) -> dict[int, SegmentRecord]:
        """A scene as the film shows it: records by index."""
        film: dict[int, SegmentRecord] = {}
        for index in scene:
            before = film.get(index - 1)
            bridge = self._bridge_order(index, before)
            if bridge is None:
                film[index] = self._ensure(index, self._cast.kept[index], before, again=index in self._redo)
            else:
                asked = self._wished.get(index)
                film[index] = self._made(bridge, again=asked is not None and asked.seed is None)
        return film

    def _takes_of(self, scene: range) -> range:
        return range(1, max(len(self._cast.takes(index)) for index in scene) + 1)

    def _take(self, scene: range, film: dict[int, SegmentRecord], take: int) -> None:
        """One take of a scene from beginning to end."""
        chain: dict[int, SegmentRecord] = {}
        for index in scene:
            # what has one take only is made as the film shows it
            if 1 < len(self._cast.takes(index)) >= take:
                before = chain.get(index - 1) or film.get(index - 1)
                chain[index] = self._ensure(index, take, before)

    def _ensure(self, index: int, take: int, before: SegmentRecord | None, again: bool = False) -> SegmentRecord:
        """The record of a take, made where it is missing."""
        seed = self._cast.seed(index, take)
        key = self._key(index, seed, before, again)
        return self._made(Order(index, take, seed, key, before, self._entries[index]), again)

    def _key(self, index: int, seed: int, before: SegmentRecord | None, again: bool) -> str:
        """The key of a take. What was made before a bridge was put in front of it stays."""
        key = self._keys.key(index, seed, before)
        if before is None or before.known_as is None or again or key in self._known:
            return key
        older = self._known.get(self._keys.key(index, seed, before, as_known=True))
        return key if older is None or not self._is_there(older) else older.key

    def _made(self, order: Order, again: bool = False) -> SegmentRecord:
        """The record of an order, carried out where that is missing."""
        index, take = order.index, order.take
        with self._own:
            turn = self._at_once.setdefault(order.key, threading.Lock())
        with turn:
            record = self._known.get(order.key)
            if order.key not in self._whole and (record is None or again or not self._is_there(record)):
                record = self._make(order, record)
            else:
                self._note_kept(index, take)
            with self._own:
                self._whole.add(order.key)
                self._known[order.key] = record
                self.used.add(record.folder)
                news = (index, take) not in self._done
                self._done.add((index, take))
                if self._jobs > 1 and news:
                    total = sum(map(len, self._cast.seeds))
                    self._shop.log(f"{len(self._done)} of {total} done")
        return record

    # --- bridges

    def _wished_ends(self, scene: range) -> Iterator[tuple[int, Ends]]:
        """What the segments of a scene that are to become bridges lead to. Raises StoryError where that, or what is
        before them, is not finished: it is asked before anything is made."""
        wished = [index for index in scene if index in self._wished]
        before: SegmentRecord | None = None
        left: list[SegmentRecord] = []  # what may have been at a bridge's place when the segment behind was made
        for index in range(scene.start, wished[-1] + 2) if wished else ():
            if index - 1 in wished:
                found = ((one, *self._finished(index, one)) for one in left)
                stood, record, known_as = next((one for one in found if one[1] is not None), (None, None, None))
                if stood is not None and record is not None and known_as is not None:
                    yield index - 1, Ends(record, self._with_state(known_as) or stood, known_as)
            else:
                record, _ = self._finished(index, before)
            if record is None and (index not in wished or index - 1 in wished):
                raise StoryError(
                    f"segment {index + 1} is not finished as the script has it, so segment {wished[-1] + 1} cannot be "
                    "made to fit it: run the story first, then bridge"
                )
            if index in wished:
                left = [*([] if record is None else [record]), *self._at_its_place(index, before)]
            before = record

    def _with_state(self, sha256: str) -> SegmentRecord | None:
        """A whole record that left a state."""
        return next((one for one in self._known.values() if one.state_sha256 == sha256 and self._is_there(one)), None)

    def _at_its_place(self, index: int, before: SegmentRecord | None) -> Iterator[SegmentRecord]:
        """Whole records of whatever text that lie where a segment does, newest first."""
        seed = self._cast.seed(index, self._cast.kept[index])
        wanted = conditions_of(self._shop, Order(index, 1, seed, "", before)).timing
        wanted = wanted.doubled(self._shop.script.double_rate)
        for record in reversed(self._known.values()):
            own = record.timing
            same = (own.frames, own.start, own.video_offset_seconds, own.video_overlap)
            if same == (wanted.frames, wanted.start, wanted.video_offset_seconds, wanted.video_overlap):
                if self._is_there(record):
                    yield record

    def _finished(self, index: int, before: SegmentRecord | None) -> tuple[SegmentRecord | None, str | None]:
        """What the film shows of a segment, where that is whole, and the state that it went on from."""
        seed = self._cast.seed(index, self._cast.kept[index])
        bridge = self._bridges.get((self._entries[index], seed))
        wanted: list[tuple[int, str | None]] = [(seed, None)]
        if bridge is not None:
            wanted.insert(0, (bridge.seed, bridge.ahead))
        for own, ahead in wanted:
            for as_known in self._ways(before):
                record = self._known.get(self._keys.key(index, own, before, as_known=as_known, ahead=ahead))
                if record is not None and self._is_there(record):
                    state = None if before is None else before.known_as if as_known else before.state_sha256
                    return record, state
        return None, None

    def _ways(self, before: SegmentRecord | None) -> tuple[bool, ...]:
        """By what a segment may know the one before it: by itself, or, of a bridge, by what that stands for."""
        return (False,) if before is None or before.known_as is None else (False, True)

    def _bridge_order(self, index: int, before: SegmentRecord | None) -> Order | None:
        """A bridge where one is wished or stands, else None."""
        seed = self._cast.seed(index, self._cast.kept[index])
        standing, ends = self._bridges.get((self._entries[index], seed)), self._ends.get(index)
        if ends is not None:
            standing = self._asked_for(index, before, standing, ends)
        elif standing is not None:
            ways = {
                self._keys.key(index, standing.seed, before, as_known=way, ahead=standing.ahead): way
                for way in self._ways(before)
            }
            if standing.inputs not in ways:
                return None  # made for another segment before it, or for another text
            record = self._known.get(standing.inputs)
            ends = self._ends_of(standing)
            if record is None or not self._is_there(record):
                if ends is None or ways[standing.inputs]:
                    self._shop.log(f"segment {index + 1}: what its bridge was made of is gone, another take is shown")
                    # or the next run, for which that is there again, would make another film than this one
                    end_bridges(self._shop.journal, self._entries[index])
                    return None
        if standing is None:
            return None
        if ends is not None:
            with self._own:
                self.used.add(ends.stood.folder)  # for who wants the film without the bridge
        take, entry = self._cast.kept[index], self._entries[index]
        return Order(index, take, standing.seed, standing.inputs, before, entry, ends)

    def _ends_of(self, bridge: Bridge) -> Ends | None:
        after, stood = self._known.get(bridge.after), self._known.get(bridge.stood)
        if after is None or stood is None or not self._is_there(after) or not self._is_there(stood):
            return None
        return Ends(after, stood, bridge.known_as)

    def _asked_for(self, index: int, before: SegmentRecord | None, standing: Bridge | None, ends: Ends) -> Bridge:
        """The bridge that this run asks for, known to the journal."""
        entry, wish = self._entries[index], self._wished[index]
        of = self._cast.seed(index, self._cast.kept[index])
        seed = wish.seed
        if seed is None:
            seed = of if standing is None else standing.seed
        elif seed == NEW:
            seeds = bridge_seeds(self._shop.journal, entry)
            unfinished = standing is not None and standing.inputs not in self._known
            seed = seeds[-1] if unfinished and seeds else fresh_seed([*self._cast.seeds[index], *seeds])
        key = self._keys.key(index, int(seed), before, ahead=ends.identity)
        bridge = Bridge(entry, of, int(seed), key, ends.identity, ends.known_as, ends.stood.key, ends.after.key)
        if bridge != standing:
            write_bridge(self._shop.journal, bridge, index + 1)
        last = next(scene for scene in self._cast.scenes if index in scene).stop
        stay = "it stays as it is" if last == index + 2 else f"segments {index + 2} to {last} stay as they are"
        self._shop.log(f"segment {index + 1} is made to lead into segment {index + 2}: {stay}")
        return bridge

    def _note_kept(self, index: int, take: int) -> None:
        with self._own:
            self._unlogged.append((index, take))

    def _is_there(self, record: SegmentRecord) -> bool:
        with as_story_error(f"segment {record.index + 1} cannot be stored in {shown(self._shop.journal.folder)}"):
            return ensure_named(self._shop.segments, record)

    def _make(self, order: Order, older: SegmentRecord | None) -> SegmentRecord:
        script, log = self._shop.script, self._shop.log
        self._tell_kept()
        takes = len(self._cast.takes(order.index))
        which = f", take {order.take} of {takes}" if takes > 1 else ""
        log(f"segment {order.index + 1} of {len(script.segments)}{which}: {script.segments[order.index].prompt[:60]}")
        record = make_segment(self._shop, order, older)
        if record is older:
            self._note_kept(order.index, order.take)
            log(
                f"segment {order.index + 1} came out as it was, because its seed is the same: "
                f"redo {order.index + 1}:new asks for another take"
            )
        with self._own:
            self.made.add(order.index)
        return record

    def _tell_kept(self) -> None:
        """Let the journal say which takes needed nothing, for those who look from outside."""
        with self._own:
            jobs, self._unlogged = self._unlogged, []
        if jobs:
            self._shop.journal.append("kept", durable=False, jobs=jobs)


def _teller(journal: Journal, segments: int, log: Callable[[str], None]) -> Callable[[SegmentTask, str], None]:
    """Writes down who begins a task, for those who look from outside."""

    def tell(task: SegmentTask, where: str) -> None:
        journal.append("at", durable=False, index=task.index, seed=task.seed, where=where)
        log(f"segment {task.index + 1} of {segments}: on {where}")

    return tell


def _announce(
    journal: Journal, script: StoryScript, cast: Cast, out: Path, asked: list[tuple[str, str]], film: str
) -> None:
    """Say in the journal what this run is about to do; asked, film: what its segments and its film are known by."""
    scene_of = {index: number for number, scene in enumerate(cast.scenes, 1) for index in scene}
    segments = [
        [" ".join(segment.prompt[:60].split()), scene_of[index], len(cast.takes(index)), cast.kept[index]]
        for index, segment in enumerate(script.segments)
    ]
    plan = {"segments": segments, "asked": [list(one) for one in asked], "film": film}
    last: dict[str, Any] = next((entry for entry in reversed(journal.entries) if entry["event"] == "plan"), {})
    if any(last.get(name) != value for name, value in plan.items()):
        journal.append("plan", durable=False, **plan)
    journal.append("run", durable=False, where=whereabouts(), at=now(), out=str(out))
