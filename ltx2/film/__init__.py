"""Film: segments on the film's clock, from a state to the next segment's conditions, and the joins."""

from ..media.frames import LastFrames
from .audio_format import AudioFormat, file_format
from .drift import DriftControl, DriftCorrection
from .handoff import Handoff, NextSegment, capture_state, condition_next, continue_request
from .join import FinishedSegment, join_segments, new_sound, write_film
from .provenance import Source
from .seam_metrics import SeamReport
from .state_content import ContextNoise
from .timeline import Overlap, SegmentTiming, SoundJoin, cut_segment, first_segment, next_segment, sound_join

__all__ = [
    "AudioFormat",
    "ContextNoise",
    "DriftControl",
    "DriftCorrection",
    "FinishedSegment",
    "Handoff",
    "LastFrames",
    "NextSegment",
    "Overlap",
    "SeamReport",
    "SegmentTiming",
    "SoundJoin",
    "Source",
    "capture_state",
    "condition_next",
    "continue_request",
    "cut_segment",
    "file_format",
    "first_segment",
    "join_segments",
    "new_sound",
    "next_segment",
    "sound_join",
    "write_film",
]
