"""The transformer as a stage calls it, over all ranks: rows of the batch to groups of ranks, tokens within them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ..networks.transformer.block import Perturbation
from ..networks.transformer.model import StreamInput
from .ranks import Ranks
from .sequence import SequenceGroup, Traffic, run_shared
from .split import Split, choose_split, shares, span

Velocities = tuple[torch.Tensor | None, torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class ParallelTransformer:
    """A transformer that all ranks call together, with the same arguments and the same result on each.

    What a call is split by depends on its rows, the guidance passes stacked on the batch axis.
    """

    transformer: nn.Module
    ranks: Ranks
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def config(self) -> Any:
        """The config of the network that every rank holds."""
        return self.transformer.config

    def split(self, rows: int) -> Split:
        """How a call with some rows is split. Raises RequestError when the heads cannot be shared."""
        return choose_split(self.ranks.size, rows, (self.config.heads, self.config.audio_heads))

    def __call__(
        self,
        video: StreamInput | None,
        audio: StreamInput | None,
        perturbations: Sequence[Perturbation] | None = None,
    ) -> Velocities:
        rows = len((video if video is not None else audio).latent)
        split = self.split(rows)
        rank, parts = self.ranks.rank, split.parts
        mine, part = rank // parts, rank % parts
        first, end = span(rows, split.passes, mine)
        own = run_shared(
            self.transformer,
            _rows(video, first, end),
            _rows(audio, first, end),
            None if perturbations is None else perturbations[first:end],
            self._sequence_group(mine, part, parts),
        )
        if split.passes == 1:
            return own
        members = tuple(range(part, self.ranks.size, parts))
        of_video, of_audio = (self._all_rows(velocity, shares(rows, split.passes), members) for velocity in own)
        return of_video, of_audio

    def _sequence_group(self, mine: int, part: int, parts: int) -> SequenceGroup:
        members = tuple(range(mine * parts, (mine + 1) * parts))
        return SequenceGroup(self.ranks.group(members), members, part, self.traffic)

    def _all_rows(
        self, own: torch.Tensor | None, counts: Sequence[int], members: tuple[int, ...]
    ) -> torch.Tensor | None:
        if own is None:
            return None
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in members]
        self.traffic.count(padded.numel() * (len(members) - 1), padded)
        dist.all_gather(parts, padded, self.ranks.group(members))
        return torch.cat([part[:count] for part, count in zip(parts, counts)])


def _rows(stream: StreamInput | None, first: int, end: int) -> StreamInput | None:
    """Some rows of a batch; what all rows share stays as it is."""
    if stream is None:
        return None
    rows = len(stream.latent)

    def cut(value):
        return value[first:end] if isinstance(value, torch.Tensor) and len(value) == rows else value

    return replace(stream, **{field.name: cut(getattr(stream, field.name)) for field in fields(stream)})
