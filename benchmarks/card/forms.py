"""The same step in other forms, on a few blocks: compiled, as one graph, with weights as they are stored."""

import time
from functools import partial
from typing import Any

import torch

from ltx2.networks.transformer.block import Skips
from ltx2.networks.transformer.model import StreamInput, Transformer

from .correctness import HALF, compare
from .denoising import stages
from .kernels import launches
from .networks import FORMS, few_blocks, inputs, quantize_blocks, transformer
from .session import Session, rounded
from .sizes import Clip


def _two_sizes(session: Session) -> list[Clip]:
    """A small clip, where a card waits for its next kernel, and a large one, where it computes."""
    chosen = stages(session)
    return session.few((chosen[0][1], chosen[-2 if len(chosen) > 2 else -1][1]))


def compiled(session: Session) -> None:
    """The plain blocks, the same as one graph, and compiled."""
    model = transformer(few_blocks(session), session.device)
    for clip in _two_sizes(session):
        _form(session, "plain", model, clip)
        session.attempt(f"one graph, {clip.tokens} tokens", partial(_graphed, session, model, clip), 5 * session.cuda)
    plain = {clip: model(*inputs(session, clip)) for clip in _two_sizes(session)}
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    backend = "inductor" if session.cuda else "eager"
    model.compile_blocks(backend=backend)
    model.least_compiled_tokens = 0
    for clip in _two_sizes(session):
        started = time.perf_counter()
        model(*inputs(session, clip))
        session.wait()
        first = rounded(time.perf_counter() - started)
        session.record("forms", f"compiled: first step, {clip.tokens} tokens", s=first)
        _form(session, f"compiled ({backend})", model, clip)
        compare(session, f"compiled as plain, {clip.tokens} tokens", model(*inputs(session, clip)), plain[clip], HALF)
    counted = torch._dynamo.utils.counters
    facts = {"graphs": counted["stats"]["unique_graphs"], "breaks": sum(counted["graph_break"].values())}
    session.record("forms", "compiled: graphs", **facts)
    for clip in _two_sizes(session)[:1]:
        found = launches(lambda clip=clip: model(*inputs(session, clip)), cuda=session.cuda)
        figures = {"kernels": found.count, "a block": rounded(found.count / len(model.transformer_blocks))}
        session.record("forms", f"compiled: kernels, {clip.tokens} tokens", **figures, gaps=round(found.gaps, 3))


def stored_forms(session: Session) -> None:
    """Weights kept as they are stored, without and with a LoRA on top."""
    for kind in session.few(FORMS):
        for rank in (0, session.sizes.lora_rank):
            case = f"{kind}{' with LoRA' * bool(rank)}"
            session.attempt(case, partial(_stored, session, case, kind, rank), 10 * session.cuda)


def _stored(session: Session, case: str, kind: str, rank: int) -> None:
    model = quantize_blocks(transformer(few_blocks(session), session.device), kind, rank)
    for clip in _two_sizes(session):
        _form(session, case, model, clip)


def _form(session: Session, case: str, model: Any, clip: Clip) -> None:
    streams = inputs(session, clip)
    timing = session.time(lambda: model(*streams))
    weights = sum(p.nbytes for p in model.parameters())
    figures = {"blocks": len(model.transformer_blocks), "tokens": clip.tokens, "weights GB": rounded(weights / 1e9)}
    session.record("forms", f"{case}, {clip.tokens} tokens", **figures, **timing.figures)


def _graphed(session: Session, model: Transformer, clip: Clip) -> None:
    """All blocks as one CUDA graph: what is left when nothing has to be launched."""
    streams = _prepared(model, inputs(session, clip))

    def blocks() -> None:
        for block in model.transformer_blocks:
            block(*streams, Skips())

    case, figures = f"blocks alone, {clip.tokens} tokens", {"blocks": len(model.transformer_blocks)}
    session.record("forms", case, **figures, **session.time(blocks).figures)
    if not session.cuda:
        return
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        blocks()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        blocks()
    timing = session.time(graph.replay)
    session.record("forms", f"one graph of the blocks, {clip.tokens} tokens", **figures, **timing.figures)


def _prepared(model: Transformer, streams: tuple[StreamInput, StreamInput]) -> list:
    video, audio = streams
    return [model._video(video, audio), model._audio(audio, video)]
