"""Against drift: looks of segments, corrections of a film, and what a scene's segments are held to from one to the
next. Optional; nothing of it runs by default."""

from .control import DRIFT_NAMES, MEASURED, DriftControl, RelaxingStrength, control_of
from .correction import Corrections, DriftCorrection, DriftCorrector
from .reference import (
    DriftReference,
    TakenUp,
    handed_on,
    read_reference,
    take_up,
    with_next_reference,
    with_reference,
)

__all__ = [
    "DRIFT_NAMES",
    "MEASURED",
    "Corrections",
    "DriftControl",
    "DriftCorrection",
    "DriftCorrector",
    "DriftReference",
    "RelaxingStrength",
    "TakenUp",
    "control_of",
    "handed_on",
    "read_reference",
    "take_up",
    "with_next_reference",
    "with_reference",
]
