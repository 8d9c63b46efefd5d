"""How a call of the transformer is split over ranks: guidance passes first, then the picture's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import RequestError


@dataclass(frozen=True)
class Split:
    """passes: groups of ranks, each with some of the guidance passes; parts: ranks in each, each with some of the
    tokens."""

    passes: int
    parts: int

    def __str__(self) -> str:
        size = self.passes * self.parts
        ways = []
        if self.passes > 1:
            ways.append(f"{self.passes} guidance passes")
        if self.parts > 1:
            ways.append(f"{self.parts} sequence parts")
        return f"{size} ranks: {' × '.join(ways) or 'one call'}"


def choose_split(size: int, rows: int, heads: Sequence[int]) -> Split:
    """The split of ``size`` ranks for a call of ``rows`` passes (times the batch's clips).

    Passes need no exchange within the network, so as many as there are go to groups of their own; what is left of the
    ranks shares the tokens. heads: of each stream's attention. Raises RequestError when the heads cannot be shared.
    """
    check_heads(size, rows, heads)
    for passes in range(min(size, rows), 0, -1):
        if size % passes == 0 and all(count % (size // passes) == 0 for count in heads):
            return Split(passes, size // passes)
    raise RequestError(_heads_sentence(size, heads))


def check_heads(size: int, rows: int, heads: Sequence[int]) -> None:
    """Raise RequestError when ``size`` ranks cannot share a model's attention heads."""
    usable = [
        passes
        for passes in range(1, min(size, rows) + 1)
        if size % passes == 0 and all(count % (size // passes) == 0 for count in heads)
    ]
    if not usable:
        raise RequestError(_heads_sentence(size, heads))


def _heads_sentence(size: int, heads: Sequence[int]) -> str:
    shown = " and ".join(str(count) for count in dict.fromkeys(heads))
    fitting = [n for n in range(size, 0, -1) if all(count % n == 0 for count in heads)]
    return f"{size} GPUs cannot share {shown} attention heads evenly: use {fitting[0]}"


def shares(total: int, parts: int) -> list[int]:
    """``total`` things over ``parts``, as evenly as it goes, the larger shares first."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def span(total: int, parts: int, part: int) -> tuple[int, int]:
    """Where one part's share starts and ends."""
    counts = shares(total, parts)
    first = sum(counts[:part])
    return first, first + counts[part]
