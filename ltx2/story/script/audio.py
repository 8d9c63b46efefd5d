"""``audio:`` of a script: one track of one's own over the whole film, cut for each segment on the film's clock."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ...errors import MediaError
from ...media.sound_reader import channel_names, check_finite, iterate_sound
from ...resampling import mix_to_stereo
from ...stages.given.own_audio import sound_piece
from ...values import Waveform
from . import values
from .nodes import Node, Scalar
from .values import Reader


@dataclass(frozen=True, eq=False)
class StoryAudio:
    """A film's own track: a file, or a sound that is there already. start: seconds of it that the film begins at."""

    path: Path | None = None
    start: Fraction = Fraction(0)
    sound: Waveform | None = None

    def piece(self, begin: Fraction, seconds: Fraction) -> Waveform:
        """A stretch of the film's sound in at most two channels, silence behind the track's end. Raises MediaError."""
        begin += self.start
        if self.sound is not None:
            return sound_piece(mix_to_stereo(self.sound), begin, seconds)
        assert self.path is not None  # one of them is given
        pieces = list(iterate_sound(self.path, begin, seconds))
        if not pieces:
            raise MediaError(f"{self.path} has a sound track without samples")
        sound = Waveform(torch.cat([one.samples for one in pieces], dim=1), pieces[0].sample_rate)
        check_finite(sound, str(self.path))
        return mix_to_stereo(sound, channel_names(self.path))

    def missing(self, seconds: Fraction) -> Fraction:
        """How much of a film of so many seconds comes after the track's end. Raises MediaError."""
        if self.sound is not None:
            return max(Fraction(0), seconds + self.start - self.sound.seconds)
        assert self.path is not None  # one of them is given
        have = Fraction(0)
        for piece in iterate_sound(self.path, self.start):
            have += piece.seconds
            if have >= seconds:
                break
        return max(Fraction(0), seconds - have)

    def identity(self, sha256: Callable[[Path], str]) -> list[str]:
        """What differs for another track, or the same from elsewhere on. sha256: of a file."""
        if self.path is not None:
            return [sha256(self.path), str(self.start)]
        assert self.sound is not None  # one of them is given
        samples = self.sound.samples.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
        return [hashlib.sha256(samples).hexdigest(), str(self.sound.sample_rate), str(self.start)]


def read_audio(reader: Reader, node: Node | None, find: Callable[[Node, str, str], Path]) -> StoryAudio | None:
    """The track that a script names. find: the file of a name, by the node that says it and what errors call it."""
    if node is None:
        return None
    known = ("file", "start")
    found: dict[str, Any] = {"file": node} if isinstance(node, Scalar) else reader.mapping(node, "audio", known)
    if "file" not in found:
        raise reader.error(node, "the audio has no file: add `file:`")
    name = reader.text(found, "file", "", values.file_name)
    start = reader.value(found, "start", Fraction(0), values.moment)
    return StoryAudio(find(found["file"], name, "sound"), start)
