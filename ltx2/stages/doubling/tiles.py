"""Which pieces of time a round works on, and what of each the film takes.

Keyframes stand where two pieces meet. Each piece but the first begins one part earlier than what it owns, so that the
latent frame that it starts with, which stands for one picture alone, is thrown away again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from ... import clock

MOST_ROUNDS = 2
# Frames of a part, at the rate of before. The released layout knows these two.
PARTS = (32, 24)


@dataclass(frozen=True)
class Tile:
    """One piece of a doubled clip, from frame ``first`` to frame ``last``, both of them keyframes.

    owned: the first latent frame of the clip that is taken from it.
    """

    first: int
    last: int
    owned: int

    @property
    def latents(self) -> slice:
        """Its latent frames in the clip."""
        return slice(clock.latent_frame_of(self.first), clock.latent_frame_of(self.last) + 1)

    @property
    def dropped(self) -> int:
        """How many of its own latent frames are thrown away."""
        return self.owned - clock.latent_frame_of(self.first)


def part_frames(frames: int) -> int:
    """Frames of a part: of the two that there are the one that leaves the last part of a clip fullest."""
    return min(PARTS, key=lambda part: -(frames - 1) % part)


def keyframes(frames: int, repeated: int = 0) -> tuple[int, ...]:
    """Frames of a clip of 8k+1 that stay what they are, the first and the last included.

    repeated: frames at its start that repeat another clip; their last one is a keyframe, so that both clips meet there.
    """
    start = repeated - 1 if 1 < repeated < frames else 0
    return tuple(dict.fromkeys((0, *range(start, frames - 1, part_frames(frames - start)), frames - 1)))


def tiles_of(places: tuple[int, ...], count: int) -> tuple[Tile, ...]:
    """Tiles between keyframes of a doubled clip, at most ``count``: as even as can be, larger ones first.

    places: frames of the keyframes, each a multiple of 8, from 0 to the last frame.
    """
    parts = len(places) - 1
    if parts < 1:
        return ()
    count = min(count, parts)
    tiles, start = [], 0
    for index in range(count):
        end = start + parts // count + (index < parts % count)
        first = places[max(0, start - 1)]
        owned = clock.latent_frame_of(places[start]) + 1 if index else 0
        tiles.append(Tile(first, places[end], owned))
        start = end
    return tuple(tiles)


def doubled_frames(frames: int, rounds: int) -> int:
    """Frames of a clip after so many rounds: each puts one between any two."""
    return ((frames - 1) << rounds) + 1


def most_latent_frames(frames: int, rounds: int, repeated: int = 0) -> int:
    """Latent frames of the largest tile of all rounds."""
    places = keyframes(frames, repeated)
    return max((tile.latents.stop - tile.latents.start for tile in _all_tiles(places, rounds)), default=1)


def _all_tiles(places: tuple[int, ...], rounds: int) -> Iterable[Tile]:
    for number in range(1, rounds + 1):
        yield from tiles_of(tuple(place << number for place in places), 1 << number)


def tile_rate(fps: Fraction) -> Fraction:
    """Frames a second that the positions of a tile say: never more than the models know."""
    return min(fps, Fraction(clock.FASTEST_FPS))
