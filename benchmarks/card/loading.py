"""Weights on their way to the card: from a file, and layer by layer or block by block while the transformer runs."""

import json
import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ltx2.checkpoint.models import load_transformer
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.networks.layers.offload_ops import OFFLOAD_OPS
from ltx2.networks.transformer.model import Transformer
from ltx2.stages.placing.copies import copies_of
from ltx2.stages.placing.layer_stream import SetAside, streamed

from ..simulated_card import SimulatedCard
from .denoising import stages
from .networks import inputs, random_weight
from .session import Session, rounded

HALF = torch.bfloat16


def loading(session: Session) -> None:
    """A file of a few blocks: from the page cache, and read from the disk; then run layer by layer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transformer.safetensors"
        _write(session, path)
        size = path.stat().st_size
        _load(session, path, "from the page cache", size)
        _load(session, path, "from the page cache, again", size)
        if _forget(path):
            _load(session, path, "from the disk", size)
        session.attempt("layer by layer", partial(_offloaded, session, path), 30 * session.cuda)


def _write(session: Session, path: Path) -> None:
    config = replace(session.sizes.transformer, layers=session.sizes.file_blocks)
    shapes = {name: tensor.shape for name, tensor in Transformer(config, device="meta").state_dict().items()}
    tensors = {
        f"model.diffusion_model.{name}": random_weight(shape, name, session.device, HALF).cpu()
        for name, shape in shapes.items()
    }
    about = {"num_attention_heads": config.heads, "attention_head_dim": config.head_dim}
    about |= {"audio_num_attention_heads": config.audio_heads, "audio_attention_head_dim": config.audio_head_dim}
    about |= {"cross_attention_dim": config.context_width, "audio_cross_attention_dim": config.audio_context_width}
    about |= {"apply_gated_attention": True, "cross_attention_adaln": True, "caption_proj_before_connector": True}
    about |= {"frequencies_precision": "float64", "rope_type": "split"}
    save_file(tensors, path, {"model_version": "2.3.0", "config": json.dumps({"transformer": about})})


def _load(session: Session, path: Path, how: str, size: int) -> None:
    def work():
        return load_transformer(open_checkpoint(path), dtype=HALF, device=session.device)

    seconds = session.time(work, rounds=1, warm=0).seconds
    gigabytes = size / 1e9
    figures = {"GB": rounded(gigabytes), "s": rounded(seconds), "GB/s": rounded(gigabytes / seconds)}
    bus = session.facts.get("host to card GB/s, pinned")
    session.record("load", how, **figures, **({"of pinned": rounded(gigabytes / seconds / bus)} if bus else {}))


def _forget(path: Path) -> bool:
    """Take a file out of the page cache, where the system can."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _offloaded(session: Session, path: Path) -> None:
    """A step whose weights come from main memory, beside one on the card and beside what the bus allows: each layer
    follows its input, or the next block comes while one computes, from the mapped file or from pinned memory."""
    checkpoint = open_checkpoint(path)
    resident = load_transformer(checkpoint, dtype=HALF, device=session.device)
    at_home = load_transformer(checkpoint, dtype=HALF, device="cpu")
    following = load_transformer(checkpoint, dtype=HALF, device="cpu", ops=OFFLOAD_OPS)
    copies = copies_of(session.device) or SimulatedCard()
    rooms = {"next block from the file": 0, "next block from pinned memory": float("inf")}
    chosen = stages(session)
    for name, clip in session.few((chosen[0], chosen[-1])):
        streams = inputs(session, clip)
        own = session.time(lambda streams=streams: resident(*streams))
        session.record("offload", f"{name}, resident", blocks=len(resident.transformer_blocks), **own.figures)
        beside = partial(_beside_resident, session, own=own.seconds, resident=resident, streams=streams)
        beside(f"{name}, layer by layer", network=following)
        for way, room in rooms.items():
            with streamed(at_home, session.device, copies, SetAside(room)) as running:
                beside(f"{name}, {way}", network=running)


def _beside_resident(
    session: Session, case: str, *, own: float, resident: Transformer, streams: tuple, network: nn.Module
) -> None:
    weights = sum(p.nbytes for p in resident.transformer_blocks.parameters()) / 1e9
    rate = session.facts.get("host to card GB/s, pinned") or session.facts.get("host to card GB/s, plain")
    found = session.time(lambda: network(*streams), rounds=2)
    figures = {"weights GB": rounded(weights), "to resident": rounded(found.seconds / own)}
    bound = {"bus allows s": rounded(max(own, weights / rate))} if rate else {}
    worst = float((resident(*streams)[0].float() - network(*streams)[0].float()).abs().max())
    right = {"difference": worst, "right": worst == 0}
    session.record("offload", case, **found.figures, **figures, **bound, **right)
    if worst:
        session.failures.append(f"offload: {case} differs from resident by {worst:.3g}, expected nothing")
