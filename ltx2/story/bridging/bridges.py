"""Which takes of a story are bridges: made to fit the segment behind them, which stays as it is.

A bridge stands in the film in place of an ordinary take. The segment behind it still counts as going on from that take,
so its key and those of all after it stay what they were.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import StoryError
from ..journal import Journal
from ..script import StoryScript

EVENT, END_EVENT = "bridge", "unbridge"
_ENDS = ("take", "pick", END_EVENT)  # of a segment that is asked for otherwise
_LEAST_NEW = 8  # frames, so that at least one latent frame is made


@dataclass(frozen=True)
class Bridge:
    """A take that stands in the place of another. entry: what the segment's takes are remembered by; of: seed of the
    take in whose place it stands; seed, inputs: its own seed and its record's key; ahead: hash of what it leads to;
    known_as: the state that the segment behind goes on from; stood: key of the record that left it, after: of the
    segment behind."""

    entry: str
    of: int
    seed: int
    inputs: str
    ahead: str
    known_as: str
    stood: str
    after: str


def standing_bridges(journal: Journal) -> dict[tuple[str, int], Bridge]:
    """The bridges that the journal knows, by entry and the seed that they stand for; the newest of each. Raises
    StoryError."""
    found: dict[tuple[str, int], Bridge] = {}
    for event in tuple(journal.entries):
        if event["event"] in _ENDS:
            found = {key: bridge for key, bridge in found.items() if key[0] != event.get("entry")}
        elif event["event"] == EVENT:
            bridge = _read(event)
            found[bridge.entry, bridge.of] = bridge
    return found


def bridge_seeds(journal: Journal, entry: str) -> list[int]:
    """Seeds of all bridges that were ever asked for of one segment."""
    return [bridge.seed for bridge in map(_read, journal.of(EVENT)) if bridge.entry == entry]


def write_bridge(journal: Journal, bridge: Bridge, segment: int) -> None:
    """Let the journal know of a bridge, so that a stopped run goes on with it. segment: its number, for people."""
    journal.append(EVENT, segment=segment, **asdict(bridge))


def end_bridges(journal: Journal, entry: str) -> None:
    """The film shows the ordinary take of a segment again, where a bridge stood."""
    if any(found == entry for found, _ in standing_bridges(journal)):
        journal.append(END_EVENT, entry=entry)


def check_bridges(script: StoryScript, indices: set[int], scene_of: Mapping[int, range]) -> None:
    """Raise StoryError for a segment (from 0) that cannot be made anew between its neighbours, whatever they are."""
    for index in sorted(indices):
        segment, scene = script.segments[index], scene_of[index]
        if index == scene.stop - 1:
            where = "of the story" if scene.stop == len(script.segments) else f"before the cut to segment {index + 2}"
            raise StoryError(
                f"segment {index + 1} is the last {where}: nothing goes on from it, so there is nothing to bridge to, "
                "make it again without --bridge"
            )
        if not script.video_overlap:
            raise StoryError(
                "the story's segments repeat no frames of each other (overlap: video is 0), so none can be made to fit "
                "what is behind it: make it again without --bridge"
            )
        known = script.repeated(index) + frames_ahead(script.video_overlap)
        if segment.frames < known + _LEAST_NEW:
            raise script.error(
                segment,
                f"segment {index + 1} has {segment.frames} frames, {known} of which its neighbours know: make it again "
                "without --bridge, or its overlap smaller",
            )


def frames_ahead(overlap: int) -> int:
    """How many of the frames that the segment behind repeats are known at a bridge's end: whole latent frames of its
    own grid."""
    return max(1, overlap - 1)


def _read(event: Mapping[str, Any]) -> Bridge:
    values = {name: event.get(name) for name in Bridge.__dataclass_fields__}
    whole = [values["of"], values["seed"]]
    texts = [value for name, value in values.items() if name not in ("of", "seed")]
    fits = all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in whole)
    if not fits or not all(isinstance(one, str) for one in texts):
        raise StoryError("the journal's entry of a bridge is damaged: remove its line")
    return Bridge(**values)
