"""A prompt on its way to the transformer: the language model, the projection of its states, the connectors."""

from functools import partial
from typing import Any

import torch

from ltx2.networks.transformer.connectors import Connector, TextProjection
from ltx2.stages.memory import copy_to
from ltx2.stages.placing.copies import copies_of
from ltx2.stages.placing.layer_stream import SetAside, streamed
from ltx2.text.language_model import GEMMA3, empty_language_model, fill_computed_buffers

from ..simulated_card import SimulatedCard
from .networks import filled
from .session import Session, rounded

HALF = torch.bfloat16
LAYERS_BROUGHT = 8
PADDED = 1024  # what the connectors are given, however long a prompt is


def texts(session: Session) -> None:
    """Prompts of some lengths through Gemma 3 and what follows it."""
    sizes = session.sizes
    model = filled(empty_language_model(GEMMA3, sizes.language_model), session.device, HALF)
    model = fill_computed_buffers(model, session.device)
    weights = sum(p.nbytes for p in model.parameters())
    session.record("text", "language model", **{"weights GB": rounded(weights / 1e9)})
    for tokens in sizes.prompt_tokens:
        session.attempt(f"language model, {tokens} tokens", partial(_read, session, model, tokens), 5 * session.cuda)
    session.attempt("language model from main memory", partial(_brought, session, model), 15 * session.cuda)
    del model
    session.empty()
    session.attempt("projection and connectors", partial(_connect, session), 10 * session.cuda)


def _read(session: Session, model: Any, tokens: int) -> None:
    ids = torch.randint(5, 200, (1, tokens), device=session.device)
    positions = torch.arange(PADDED - tokens, PADDED, device=session.device)[None]

    def work() -> None:
        model(input_ids=ids, position_ids=positions, use_cache=False, output_hidden_states=True)

    session.record("text", f"language model, {tokens} tokens", **session.time(work).figures)


def _brought(session: Session, model: Any) -> None:
    """Its first layers from pinned memory, each on its way while the one before computes, beside the same on the
    card."""
    count, tokens = min(LAYERS_BROUGHT, len(model.layers)), max(session.sizes.prompt_tokens)
    model.layers, model.config.num_hidden_layers = model.layers[:count], count
    ids = torch.randint(5, 200, (1, tokens), device=session.device)

    def read(reader: Any) -> torch.Tensor:
        return reader(input_ids=ids, use_cache=False).last_hidden_state

    own, weights = session.time(lambda: read(model)), sum(p.nbytes for p in model.layers.parameters()) / 1e9
    name = f"language model, {count} layers, {tokens} tokens"
    session.record("text", f"{name}, resident", **own.figures, **{"weights GB": rounded(weights)})
    copies, home = copies_of(session.device) or SimulatedCard(), copy_to(model, "cpu")
    with streamed(home, session.device, copies, SetAside(float("inf"))) as running:
        found = session.time(lambda: read(running))
        worst = float((read(model).float() - read(running).float()).abs().max())
    rate = session.facts.get("host to card GB/s, pinned")
    bound = {"bus allows s": rounded(max(own.seconds, weights / rate))} if rate else {}
    right = {"difference": worst, "right": worst == 0}
    session.record("text", f"{name}, from pinned memory", **found.figures, **bound, **right)
    if worst:
        session.failures.append(f"text: {name} differs from resident by {worst:.3g}, expected nothing")


def _connect(session: Session) -> None:
    sizes, to = session.sizes, (session.device, HALF)
    # one state after the other is what the encoder hands on; all at once is the same work
    projection = filled(TextProjection(sizes.projection, device="meta"), *to)
    connectors = [filled(Connector(config, device="meta"), *to) for config in sizes.connectors]
    tokens, config = max(sizes.prompt_tokens), sizes.projection
    states = torch.randn(1, tokens, config.hidden_width, config.states, device=session.device, dtype=HALF)
    mask = torch.ones(1, tokens, dtype=torch.int64, device=session.device)
    session.record("text", f"projection, {tokens} tokens", **session.time(lambda: projection(states, mask)).figures)
    features = [torch.randn(1, PADDED, one.width, device=session.device, dtype=HALF) for one in sizes.connectors]
    mask = torch.ones(1, PADDED, dtype=torch.int64, device=session.device)

    def connect():
        return [connector(own, mask) for connector, own in zip(connectors, features)]

    session.record("text", f"connectors, {PADDED} tokens", **session.time(connect).figures)
