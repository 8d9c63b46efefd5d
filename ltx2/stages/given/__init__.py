"""What people and other libraries give, read as what the stages work with: plain numbers, a finite sound, a prompt."""

from .fields import finite_number, read_fields, whole_number
from .own_audio import ready_audio
from .prompts import cut_notes, wants_negative

__all__ = ["cut_notes", "finite_number", "read_fields", "ready_audio", "wants_negative", "whole_number"]
