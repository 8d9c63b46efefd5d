"""Sound by itself, sound for a film, and sound that goes on from sound, in windows that overlap."""

from .making import SoundJob, make_sound, sound_job, state_of_sound

__all__ = ["SoundJob", "make_sound", "sound_job", "state_of_sound"]
