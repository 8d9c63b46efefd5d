"""What people and other libraries give, read as what the stages work with: plain numbers, a finite sound, a prompt."""

from .fields import finite_number, read_fields, whole_number
from .own_audio import ready_audio, sound_from, sound_piece
from .prompts import cut_notes, negative_text, stages_of, unread_negative, wants_negative
from .sound_only import check_sound_only, is_pictureless, one_stage

__all__ = [
    "check_sound_only",
    "cut_notes",
    "finite_number",
    "is_pictureless",
    "negative_text",
    "one_stage",
    "read_fields",
    "ready_audio",
    "sound_from",
    "sound_piece",
    "stages_of",
    "unread_negative",
    "wants_negative",
    "whole_number",
]
