"""A story carried out: scene by scene, each segment recorded when it is on disk, then one film written as a stream.

What makes a segment is hashed: its entry in the script, the pictures it names, the models, and the state it starts
from. A segment whose hash is recorded and whose files are whole is kept; everything else is made. So a killed run goes
on where it was, a changed segment is made anew together with what depends on it, and nothing is made twice.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..film.provenance import Source
from ..film.seam_metrics import SeamReport
from .enhancing import Enhancer, enhanced_script
from .film_file import write_story_film
from .journal import Journal, now, open_journal, whereabouts
from .making import SEGMENTS_FOLDER, Order, Workshop, check_timeline, make_segment, settle
from .owned_files import (
    check_replaceable,
    check_writable,
    checked_path,
    is_there,
    recorded_films,
    remove_segment,
    remove_unfinished,
)
from .records import Keys, SegmentRecord, older_records, read_record, read_records
from .script import StoryScript
from .segment_files import STATE
from .sentences import as_story_error, shown
from .takes import Cast, Wishes, cast_of, check_wishes, entries_of
from .tasks import Elsewhere, Generate, SegmentTask


@dataclass(frozen=True)
class RunOptions:
    """How a story is carried out. wishes: of takes, besides the script. jobs: how many scenes and takes are made at
    once. prune: remove the segments that the script no longer asks for. numbered: a film that is there stays, and
    another gets a number. metadata: tags of the film. enhancer: what writes the prompts out before all else."""

    wishes: Wishes = field(default_factory=Wishes)
    jobs: int = 1
    prune: bool = False
    numbered: bool = False
    metadata: Mapping[str, Any] | None = None
    enhancer: Enhancer | None = None


@dataclass(frozen=True)
class Unused:
    """Finished segments that the script no longer asks for, and how much room they take."""

    segments: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.segments} finished segments that the script no longer asks for take {self.bytes / 1e6:.1f} MB"


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
        """All of it as a JSON object; segments count from 1, and ``state`` is what the last of them leaves."""
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
        return f"{len(self.made)} segments made, {len(self.kept)} kept"


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
        if options.enhancer is not None:
            script = enhanced_script(script, journal, options.enhancer, log)
        cast = cast_of(script, journal, options.wishes)
        _announce(journal, given, cast, out)
        if isinstance(generate, Elsewhere):
            generate.tell = _teller(journal, len(script.segments), log)
        run = _Run(Workshop(script, generate, journal, source, log), cast, Keys(script, identity), options.wishes)
        film_records = run.make_all(options.jobs)
        result = write_story_film(
            script,
            film_records,
            journal,
            real_out,
            numbered=options.numbered,
            log=log,
            metadata=_metadata(options, script),
        )
        unused = _remove_unused(journal, run.used, options.prune, log)
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


class _Run:
    """One go through a story. used: folders of all takes; made: indices of which something was made."""

    def __init__(self, shop: Workshop, cast: Cast, keys: Keys, wishes: Wishes) -> None:
        self._shop, self._cast, self._keys = shop, cast, keys
        self._entries = entries_of(shop.script)
        self._redo = {redo.index for redo in wishes.redo if redo.seed is None}
        self._known = read_records(shop.journal.of("segment"))
        self._known |= older_records(shop.script, keys, self._known)
        self._whole: set[str] = set()  # keys of segments that were looked at or made in this run
        self._untold: list[tuple[int, int]] = []  # takes that needed nothing
        self.used: set[str] = set()
        self.made: set[int] = set()
        self._own = threading.Lock()  # of all of these
        self._jobs, self._done = 1, set[tuple[int, int]]()
        self._at_once: dict[str, threading.Lock] = {}  # by key: what is asked for twice is made once

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
            # a scene may end with an error that is raised below, in the film's order
            whole = [(i, done.result()) for i, done in enumerate(scenes) if done.exception() is None]
            others = [
                pool.submit(self._take, self._cast.scenes[i], film, take)
                for i, film in whole
                for take in self._takes_of(self._cast.scenes[i])
            ]
            for other in others:
                other.exception()  # all are waited for
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
            film[index] = self._ensure(index, self._cast.kept[index], film.get(index - 1), again=index in self._redo)
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
        order = Order(index, take, seed, self._keys.key(index, seed, before), before, self._entries[index])
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

    def _note_kept(self, index: int, take: int) -> None:
        with self._own:
            self._untold.append((index, take))

    def _is_there(self, record: SegmentRecord) -> bool:
        with as_story_error(f"segment {record.index + 1} cannot be stored in {shown(self._shop.journal.folder)}"):
            return settle(self._shop.segments, record)

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
            told, self._untold = self._untold, []
        if told:
            self._shop.journal.append("kept", durable=False, jobs=told)


def _teller(journal: Journal, segments: int, log: Callable[[str], None]) -> Callable[[SegmentTask, str], None]:
    """Writes down who begins a task, for those who look from outside."""

    def tell(task: SegmentTask, where: str) -> None:
        journal.append("at", durable=False, index=task.index, seed=task.seed, where=where)
        log(f"segment {task.index + 1} of {segments}: on {where}")

    return tell


def _announce(journal: Journal, script: StoryScript, cast: Cast, out: Path) -> None:
    """Say in the journal what this run is about to do."""
    scene_of = {index: number for number, scene in enumerate(cast.scenes, 1) for index in scene}
    segments = [
        [" ".join(segment.prompt[:60].split()), scene_of[index], len(cast.takes(index)), cast.kept[index]]
        for index, segment in enumerate(script.segments)
    ]
    last = next((entry for entry in reversed(journal.entries) if entry["event"] == "plan"), None)
    if last is None or last.get("segments") != segments:
        journal.append("plan", durable=False, segments=segments)
    journal.append("run", durable=False, where=whereabouts(), at=now(), out=str(out))


def _remove_unused(journal: Journal, used: set[str], prune: bool, log: Callable[[str], None]) -> Unused:
    """What the script no longer asks for; gone where that was wished."""
    segments = journal.folder / SEGMENTS_FOLDER
    records = {record.folder: record for record in map(read_record, journal.of("segment"))}
    left = [record for folder, record in records.items() if folder not in used and (segments / folder).is_dir()]
    if not prune or not left:
        return Unused(len(left), sum(record.bytes for record in left))
    freed = sum(remove_segment(segments / record.folder, record) for record in left)
    log(f"{len(left)} segments that the script no longer asks for are removed, {freed / 1e6:.1f} MB")
    for record in left:
        if (segments / record.folder).exists():
            log(f"{shown(segments / record.folder)} holds something else too: it stays")
    return Unused(0, 0)
