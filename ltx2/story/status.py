"""How far a story is, from outside: read from its journal, without holding it and without leaving anything behind."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import StoryError
from ..film.seam_metrics import SeamReport
from .journal import JOURNAL_FILE, is_at_work, read_journal
from .script import StoryScript
from .sentences import shown
from .takes import entries_of

DONE, RUNNING, STOPPED, WAITING = "done", "running", "stopped", "waiting"
MADE, KEPT = "made", "kept"


@dataclass(frozen=True)
class TakeStatus:
    """segment, take: from 1; state: done, running, stopped (half-way) or waiting; kept: whether the film shows it;
    where: the process that is at it."""

    segment: int
    take: int
    scene: int
    prompt: str
    state: str
    kept: bool
    seed: int | None = None
    where: str = ""

    def __str__(self) -> str:
        take = f" take {self.take}{' (kept)' if self.kept else ''}" if self.take > 1 or not self.kept else ""
        seed = "" if self.seed is None else f", seed {self.seed}"
        where = f", {self.where}" if self.where and self.state == RUNNING else ""
        return f"scene {self.scene}, segment {self.segment}{take}: {self.state}{where}{seed}, {self.prompt}"


@dataclass(frozen=True)
class StoryStatus:
    """at_work: whether a run is going on; film: where the last run writes it, film_done: whether it did."""

    takes: tuple[TakeStatus, ...]
    at_work: bool
    film: str
    film_done: bool

    def count(self, state: str) -> int:
        """How many takes are in a state."""
        return sum(take.state == state for take in self.takes)

    def as_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.count(state)} {state}" for state in (DONE, RUNNING, STOPPED, WAITING) if self.count(state)]
        film = f"film {self.film} {'written' if self.film_done else 'not written yet'}"
        return "\n".join([*map(str, self.takes), f"{', '.join(parts)}; {film}{'' if self.at_work else '; no run'}"])


def story_status(work: str | Path) -> StoryStatus:
    """What a work folder's journal says of its newest run. Raises StoryError where there is none."""
    work = Path(work)
    if not (work / JOURNAL_FILE).is_file():
        raise StoryError(f"{shown(work)} holds no story: name the folder given with --work")
    at_work = is_at_work(work)
    entries, _ = read_journal(work / JOURNAL_FILE)
    begins = max((i for i, entry in enumerate(entries) if entry["event"] == "run"), default=None)
    plans = [entry for entry in entries[: begins or 0] if entry["event"] == "plan"]
    if begins is None or not plans:
        raise StoryError(f"the story in {shown(work)} was not begun by this version: run it once more")
    run, since = entries[begins], entries[begins + 1 :]
    try:
        return _status(plans[-1]["segments"], run, since, at_work)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoryError(f"the journal in {shown(work)} has a damaged entry of its newest run") from error


def _status(plan: list[Any], run: dict[str, Any], since: list[dict[str, Any]], at_work: bool) -> StoryStatus:
    done = {(job[0], job[1]) for entry in since if entry["event"] == "kept" for job in entry["jobs"]}
    done |= {(e["index"], e["take"]) for e in since if e["event"] == "segment"}
    started = {(e["index"], e["take"]): e for e in since if e["event"] == "start"}
    places = {(e["index"], e["seed"]): str(e["where"]) for e in since if e["event"] == "at"}
    film_done = any(entry["event"] in ("film", "end") for entry in since)
    takes = []
    for index, (prompt, scene, count, kept) in enumerate(plan):
        for take in range(1, count + 1):
            begun = started.get((index, take))
            state = DONE if (index, take) in done else WAITING
            if begun and state == WAITING:
                state = RUNNING if at_work else STOPPED
            seed, where = (begun["seed"], str(begun["where"])) if begun else (None, "")
            where = places.get((index, seed), where)
            takes.append(TakeStatus(index + 1, take, scene, str(prompt)[:60], state, take == kept, seed, where))
    return StoryStatus(tuple(takes), at_work, str(run["out"]), film_done)


@dataclass(frozen=True)
class SegmentStatus:
    """What a work folder has of one segment of a script. state: made (in the newest run), kept (from before), running,
    stopped or waiting; seed, folder: of its newest take; seam: how it joined the segment before in the newest film."""

    state: str = WAITING
    seed: int | None = None
    folder: str | None = None
    seam: SeamReport | None = None


def segment_states(script: StoryScript, work: str | Path) -> tuple[SegmentStatus, ...]:
    """What there is of each segment of a script, whatever script the folder was used for last. Raises StoryError where
    the journal is damaged."""
    work = Path(work)
    entries, _ = read_journal(work / JOURNAL_FILE)
    begins = max((i for i, entry in enumerate(entries) if entry["event"] == "run"), default=len(entries))
    since = entries[begins:]
    at_work = bool(since) and is_at_work(work)
    plan: dict[str, Any] = next((entry for entry in reversed(entries[:begins]) if entry["event"] == "plan"), {})
    told = [" ".join(segment.prompt[:60].split()) for segment in script.segments]
    try:
        same = [index < len(told) and one[0] == told[index] for index, one in enumerate(plan.get("segments", ()))]
        made = {entry.get("entry"): entry for entry in entries if entry["event"] == "segment"}
        new = {entry.get("entry") for entry in since if entry["event"] == "segment"}
        begun = {entry["index"] for entry in since if entry["event"] == "start"}
        film: dict[str, Any] = next((entry for entry in reversed(entries) if entry["event"] == "film"), {})
        seams = {seam["segment"]: SeamReport(**seam) for seam in film.get("seams", ())}
        found = []
        for index, name in enumerate(entries_of(script)):
            record, known = made.get(name), index < len(same) and same[index]
            if known and index in begun and name not in new:
                found.append(SegmentStatus(RUNNING if at_work else STOPPED))
            elif record is not None:
                seam = seams.get(index) if known else None
                state = MADE if name in new else KEPT
                found.append(SegmentStatus(state, record["seed"], record["folder"], seam))
            else:
                found.append(SegmentStatus())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoryError(f"the journal in {shown(work)} has a damaged entry: {error}") from error
    return tuple(found)
