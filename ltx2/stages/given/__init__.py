"""What people and other libraries give, read as what the stages work with: plain numbers, a finite sound, a prompt."""

from ...checkpoint.stage_loras import STRENGTH_LIMIT, LoraChoice, lora_choice, lora_text
from .fields import finite_number, read_fields, whole_number
from .model_notes import (
    detail_notes,
    draft_notes,
    lora_notes,
    stage_lora_notes,
    uncompiled,
    unused_lora,
    without_distilled_lora,
)
from .own_audio import ready_audio, sound_from, sound_piece
from .pictures import cut_pictures
from .prompts import negative_text, stages_of, unread_negative, wants_negative
from .sound_only import check_sound_only, is_pictureless, one_stage
from .unused import unused_conditions, unused_settings
from .voice import ready_voice

__all__ = [
    "STRENGTH_LIMIT",
    "LoraChoice",
    "check_sound_only",
    "cut_pictures",
    "detail_notes",
    "draft_notes",
    "finite_number",
    "is_pictureless",
    "lora_choice",
    "lora_notes",
    "lora_text",
    "negative_text",
    "one_stage",
    "read_fields",
    "ready_audio",
    "ready_voice",
    "sound_from",
    "sound_piece",
    "stage_lora_notes",
    "stages_of",
    "unread_negative",
    "uncompiled",
    "unused_lora",
    "unused_conditions",
    "unused_settings",
    "wants_negative",
    "whole_number",
    "without_distilled_lora",
]
