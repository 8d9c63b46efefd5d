"""Prompts to the contexts of both streams: one pass of the language model each, then projection and connectors."""

from collections.abc import Callable, Sequence

from torch import nn

from ..text.cache import ContextCache
from ..text.gemma import TextEncoder, encode
from ..values import Progress, TextContext


def encode_prompts(
    encoder: TextEncoder,
    projection: nn.Module,
    connectors: tuple[nn.Module, nn.Module | None],
    prompts: Sequence[str],
    *,
    cache: ContextCache | None = None,
    identity: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[TextContext]:
    """Contexts of prompts, in order: video [1, 1024, Dv] and audio [1, 1024, Da].

    All modules on one device. cache: contexts of these very weights that were encoded before are not encoded again;
    identity: what it knows these weights by.
    progress: called before each prompt and at the end; raising from it stops the work. Raises RequestError and
    CheckpointError.
    """
    contexts = []
    for i, prompt in enumerate(prompts):
        if progress is not None:
            progress(Progress("text encoding", i, len(prompts)))
        contexts += encode(encoder, projection, connectors, [prompt], cache=cache, identity=identity)
    if progress is not None:
        progress(Progress("text encoding", len(prompts), len(prompts)))
    return contexts
