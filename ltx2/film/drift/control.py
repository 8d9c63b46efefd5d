"""What is done against drift from segment to segment, as a user says it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import RequestError

HALF_LIFE_SEGMENTS = 5
# What takes up a state otherwise than it was left, in the order in which it is told.
_CORRECTIONS = ("colour", "contrast", "loudness", "latent", "anchor")
MEASURED = ("loudness", "latent")  # of a scene's first segment, when it is made; the rest its state shows
DRIFT_NAMES = ("strength", "settles", *_CORRECTIONS)


def _check_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise RequestError(f"drift: {name} is {value:g}, expected 0 to 1")


@dataclass(frozen=True)
class RelaxingStrength:
    """How firmly the segments of a scene start from the one before: the first that goes on by ``start``, later ones by
    less, half of the way to ``end`` after every five. A model that may repair its context drifts less than one that
    copies it."""

    start: float
    end: float

    def __post_init__(self) -> None:
        _check_share(self.start, "strength")
        _check_share(self.end, "settles")

    def at(self, segment: int) -> float:
        """The strength of the segment after so many in its scene that go on already."""
        return self.end + (self.start - self.end) * 0.5 ** (segment / HALF_LIFE_SEGMENTS)


@dataclass(frozen=True)
class DriftControl:
    """What the segments of a scene do against drift; all of it is off by default.

    relaxing: how firmly they start from the one before. The others are shares, 0…1. colour, contrast: of the difference
    to the look with which the scene's first segment ended, taken back in the frames that the next one starts from.
    loudness: the same in the sound that it starts from, by the whole segments' loudness. latent: of the difference in
    each latent channel's mean and deviation to the moving reference of the scene, after the first stage. anchor: how
    firmly the last frame of the scene's first segment is shown as a guide.
    """

    relaxing: RelaxingStrength | None = None
    colour: float = 0.0
    contrast: float = 0.0
    loudness: float = 0.0
    latent: float = 0.0
    anchor: float = 0.0

    def __post_init__(self) -> None:
        for name in _CORRECTIONS:
            _check_share(getattr(self, name), name)

    @property
    def corrections(self) -> dict[str, float]:
        """What is on besides the strength, by name."""
        return {name: getattr(self, name) for name in _CORRECTIONS if getattr(self, name)}

    @property
    def said(self) -> dict[str, float]:
        """What ``control_of`` makes the same of."""
        relaxing = self.relaxing
        return ({} if relaxing is None else {"strength": relaxing.start, "settles": relaxing.end}) | self.corrections


def control_of(said: Mapping[str, float]) -> DriftControl | None:
    """The setting that names of ``DRIFT_NAMES`` with their values mean; None for none. Without ``settles`` the strength
    stays. Raises RequestError."""
    given = dict(said)
    if not given:
        return None
    start, end = given.pop("strength", None), given.pop("settles", None)
    if end is not None and start is None:
        raise RequestError("drift has no strength to settle: add strength, such as 0.95, and settles 0.9")
    relaxing = None if start is None else RelaxingStrength(start, start if end is None else end)
    return DriftControl(relaxing, **given)
