"""Film: segments on the film's clock, from a state to the next segment's conditions, and the joins."""

from .drift import DriftCorrection
from .handoff import ContextNoise, NextSegment, capture_state, condition_next
from .join import FinishedSegment, join_segments, new_sound
from .seam_metrics import SeamReport
from .timeline import SegmentTiming, SoundJoin, cut_segment, first_segment, next_segment, sound_join

__all__ = [
    "ContextNoise",
    "FinishedSegment",
    "DriftCorrection",
    "NextSegment",
    "SeamReport",
    "SegmentTiming",
    "SoundJoin",
    "capture_state",
    "condition_next",
    "cut_segment",
    "first_segment",
    "join_segments",
    "new_sound",
    "next_segment",
    "sound_join",
]
