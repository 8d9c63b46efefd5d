"""How far a story is, from outside: read from its journal, without holding it and without leaving anything behind."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StoryError
from ..film.seam_metrics import SeamReport
from .journal import JOURNAL_FILE, is_at_work, read_journal
from .script import StoryScript
from .sentences import shown
from .takes import asked_of, entries_of, film_asked_of

DONE, RUNNING, STOPPED, WAITING = "done", "running", "stopped", "waiting"
MADE, KEPT, CHANGED = "made", "kept", "changed"


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
        """The status as a JSON object."""
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
    stopped, changed (something that it depends on is another than when it was made) or waiting; seed, folder: of its
    newest take; seam: how it joined the segment before in the newest film."""

    state: str = WAITING
    seed: int | None = None
    folder: str | None = None
    seam: SeamReport | None = None


@dataclass
class _Past:
    """What a journal tells of segments and films: by what was asked, and segments by their prompts too. asked: which of
    the entries are known by it."""

    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    named: dict[Any, dict[str, Any]] = field(default_factory=dict)
    films: dict[str, dict[str, Any]] = field(default_factory=dict)
    newest_film: dict[str, Any] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)


def _past(entries: list[dict[str, Any]]) -> _Past:
    past, plan = _Past(), dict[str, Any]()
    for entry in entries:
        event, asked = entry["event"], plan.get("asked", ())
        if event == "plan":
            plan = entry
        elif event == "segment":
            past.named[entry.get("entry")] = entry
            if entry["index"] < len(asked):
                past.made[asked[entry["index"]][0]] = entry
                past.asked.add(id(entry))
        elif event == "kept":
            for index, _ in entry["jobs"]:
                one = past.named.get(asked[index][1]) if index < len(asked) else None
                if one is not None:
                    past.made.setdefault(asked[index][0], one)
        elif event == "film":
            past.newest_film = entry
            if "film" in plan:
                past.films[plan["film"]] = entry
    return past


def film_of_script(script: StoryScript, work: str | Path) -> str | None:
    """The name of the film in a work folder that the newest run of this script made; None where there is none. Raises
    StoryError where the journal is damaged."""
    entries, _ = read_journal(Path(work) / JOURNAL_FILE)
    try:
        name = Path(str(_past(entries).films[film_asked_of(script)]["path"])).name
    except KeyError:
        return None
    except (TypeError, ValueError, AttributeError) as error:
        raise StoryError(f"the journal in {shown(work)} has a damaged entry: {error}") from error
    return name if (Path(work) / name).is_file() else None


def _same_segments(script: StoryScript, plan: dict[str, Any]) -> list[bool]:
    """Which segments of a run's plan are those of a script."""
    if "asked" in plan:
        return [one[0] == own for one, own in zip(plan["asked"], asked_of(script))]
    prompts = [" ".join(segment.prompt[:60].split()) for segment in script.segments]
    return [one[0] == own for one, own in zip(plan.get("segments", ()), prompts)]


def segment_states(script: StoryScript, work: str | Path) -> tuple[SegmentStatus, ...]:
    """What there is of each segment of a script, whatever script the folder was used for last. Raises StoryError where
    the journal is damaged."""
    work = Path(work)
    entries, _ = read_journal(work / JOURNAL_FILE)
    begins = max((i for i, entry in enumerate(entries) if entry["event"] == "run"), default=len(entries))
    since = entries[begins:]
    at_work = bool(since) and is_at_work(work)
    plan: dict[str, Any] = next((entry for entry in reversed(entries[:begins]) if entry["event"] == "plan"), {})
    try:
        same = _same_segments(script, plan)
        past = _past(entries)
        new = {id(entry) for entry in since if entry["event"] == "segment"}
        finished = {entry["index"] for entry in since if entry["event"] == "segment"}
        begun = {entry["index"] for entry in since if entry["event"] == "start"}
        film = past.films.get(film_asked_of(script)) or past.newest_film
        seams = {seam["segment"]: SeamReport(**seam) for seam in film.get("seams", ())}
        found = []
        for index, (name, asked) in enumerate(zip(entries_of(script), asked_of(script))):
            record, known = past.made.get(asked), index < len(same) and same[index]
            older = past.named.get(name)
            if known and index in begun and index not in finished:
                found.append(SegmentStatus(RUNNING if at_work else STOPPED))
            elif record is not None:
                seam = seams.get(index) if known else None
                state = MADE if id(record) in new else KEPT
                found.append(SegmentStatus(state, record["seed"], record["folder"], seam))
            elif older is not None:
                state = CHANGED if id(older) in past.asked else KEPT  # an older version wrote no more than the prompt
                found.append(SegmentStatus(state, older["seed"], older["folder"]))
            else:
                found.append(SegmentStatus())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoryError(f"the journal in {shown(work)} has a damaged entry: {error}") from error
    return tuple(found)
