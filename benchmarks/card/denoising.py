"""Steps of the transformer: at every size, with more passes, in other forms, compiled and as one graph."""

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ltx2.networks.transformer.block import Skips
from ltx2.networks.transformer.model import Transformer

from .kernels import dispatched, launches
from .networks import few_blocks, inputs, step_flops, transformer
from .session import Session, rounded
from .sizes import Clip

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
BACKENDS |= {"efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}

ROWS_COMPARED = 64  # of queries, with what float32 gives


def rates(session: Session) -> None:
    """The card's own: what all shares are of."""
    side, count = session.sizes.square, session.sizes.copied_bytes
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        session.attempt(f"matmul {str(dtype)[6:]} {side}³", partial(_matmul_rate, session, side, dtype))
    source = torch.empty(count, dtype=torch.uint8, device=session.device)
    target = torch.empty_like(source)
    seconds = session.time(lambda: target.copy_(source), rounds=5).seconds
    session.record("rates", "copy on the card", **{"GB/s": rounded(2 * count / seconds / 1e9)})
    for pinned in (True, False) if session.cuda else (False,):
        host = torch.empty(count, dtype=torch.uint8, pin_memory=pinned)
        host.zero_()
        seconds = session.time(lambda host=host: target.copy_(host, non_blocking=True), rounds=3).seconds
        rate = rounded(count / seconds / 1e9)
        session.facts[f"host to card GB/s, {'pinned' if pinned else 'plain'}"] = rate
        session.record("rates", f"host to card, {'pinned' if pinned else 'plain'}", **{"GB/s": rate})


def _matmul_rate(session: Session, side: int, dtype: torch.dtype) -> None:
    a, b = (torch.randn(side, side, device=session.device).to(torch.bfloat16) for _ in range(2))
    if dtype == torch.bfloat16:
        work = partial(torch.mm, a, b)
    else:
        one = torch.ones((), device=session.device)
        narrow, wide = a.to(dtype), b.to(dtype).t()
        work = partial(torch._scaled_mm, narrow, wide, one, one, out_dtype=torch.bfloat16)
    rate = 2 * side**3 / session.time(work, rounds=9, warm=3).seconds
    if dtype == torch.bfloat16:
        session.facts["matmul rate"] = rate
    session.record("rates", f"matmul {str(dtype)[6:]} {side}³", TFLOPS=rounded(rate / 1e12))


def attentions(session: Session) -> None:
    """Each way of the card to attend, over all tokens of a clip; masked: by a mask of one row for all."""
    config = session.sizes.transformer
    for clip in session.sizes.clips[:: 2 if session.cuda else 1]:
        for masked in session.few((False, True)):
            shape = 1, config.heads, clip.tokens, config.head_dim
            q, k, v = (torch.randn(shape, device=session.device, dtype=torch.bfloat16) for _ in range(3))
            mask = None
            if masked:
                mask = torch.zeros(1, 1, 1, clip.tokens, device=session.device, dtype=torch.bfloat16)
                mask[..., : clip.tokens // 2] = -1
                mask = mask.expand(-1, -1, clip.tokens, -1)
            for name in session.few(("default", *BACKENDS), 2):
                if name == "math" and clip.tokens > 8192:
                    continue
                case = f"{name}, {clip.tokens} tokens{', masked' * masked}"
                session.attempt(case, partial(_attend, session, case, name, (q, k, v, mask)), 5 * session.cuda)


def _attend(session: Session, case: str, name: str, given: tuple) -> None:
    q, k, v, mask = given
    flops = 4 * q.shape[1] * q.shape[2] ** 2 * q.shape[3]
    chosen = list(BACKENDS.values()) if name == "default" else [BACKENDS[name]]
    try:
        with sdpa_kernel(chosen):
            timing = session.time(lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
            found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[:, :, :ROWS_COMPARED]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # this way is not there, or not for this case
        session.record("attention", case, **{"left out": str(error).partition(".")[0][:80]})
        return
    scores = q[:, :, :ROWS_COMPARED].float() @ k.float().mT * q.shape[3] ** -0.5
    scores = scores if mask is None else scores + mask[:, :, :ROWS_COMPARED].float()
    wrong = {"difference": rounded(float((found.float() - scores.softmax(-1) @ v.float()).abs().max()))}
    session.record("attention", case, **timing.figures, **_share(session, flops / timing.seconds), **wrong)


def _share(session: Session, rate: float) -> dict[str, float]:
    """A rate, and its share of the card's own."""
    own = session.facts.get("matmul rate")
    return {"TFLOPS": rounded(rate / 1e12)} | ({"of matmul": round(rate / own, 3)} if own else {})


def _model(session: Session) -> Transformer:
    return session.keep("transformer", lambda: transformer(session.sizes.transformer, session.device))


def stages(session: Session) -> list[tuple[str, Clip]]:
    """Both stages of every clip, the smaller ones first."""
    clips = session.sizes.clips
    found = [(f"{clip} stage {n}", size) for clip in clips for n, size in ((1, clip.half), (2, clip))]
    return sorted(found, key=lambda one: one[1].tokens)


def steps(session: Session) -> None:
    """Seconds a step of the whole model, with all tokens noisy and behind a state (two latent frames known)."""
    model = _model(session)
    weights = sum(p.nbytes for p in model.parameters())
    session.record("step", "weights", **{"GB": rounded(weights / 1e9), "blocks": len(model.transformer_blocks)})
    for name, clip, known in [(*stage, known) for stage in stages(session) for known in (0, 2)]:
        case = f"{name}, {'all noisy' if not known else 'behind a state'}"
        known = min(known, clip.grid[0] - 1)
        session.attempt(case, partial(_step, session, case, model, clip, known), 15 * session.cuda)


def _step(session: Session, case: str, model: Transformer, clip: Clip, known: int = 0, batch: int = 1) -> None:
    streams = inputs(session, clip, known_frames=known, batch=batch)
    timing = session.time(lambda: model(*streams), rounds=3 if clip.tokens < 20000 else 2)
    flops = step_flops(session.sizes.transformer, clip.tokens, clip.sounds, session.sizes.words, batch)
    share = _share(session, flops / timing.seconds)
    session.record("step", case, tokens=clip.tokens, batch=batch, **timing.figures, **share)


def profiles(session: Session) -> None:
    """Kernels of a few blocks, the costliest of them, and how long the card waits between two."""
    model = transformer(few_blocks(session), session.device)
    blocks = len(model.transformer_blocks)
    chosen = stages(session)
    for name, clip in session.few((chosen[0], chosen[-1])):
        for known in session.few((0, 2)):
            case = f"{name}, {'all noisy' if not known else 'behind a state'}"
            streams = inputs(session, clip, known_frames=min(known, clip.grid[0] - 1))
            model(*streams)
            session.wait()
            found = launches(lambda streams=streams: model(*streams), cuda=session.cuda)
            figures = {"kernels": found.count, "a block": rounded(found.count / blocks)}
            times = {"s": rounded(found.seconds), "gaps": round(found.gaps, 3)}
            session.record("kernels", case, **figures, **times)
            for row in found.table():
                session.record("kernels", f"{case}: {row.pop('kernel')}", **row)


def operators(session: Session) -> None:
    """Operators of one block that compute, counted by the dispatcher: what a card without a profiler would say."""
    config = replace(session.sizes.transformer, layers=1)
    model = transformer(config, session.device)
    for known in (0, 2):
        clip = session.sizes.clips[0]
        streams = [
            model._video(*inputs(session, clip, known_frames=min(known, clip.grid[0] - 1))),
            model._audio(*reversed(inputs(session, clip, known_frames=0))),
        ]
        found = dispatched(lambda streams=streams: model.transformer_blocks[0](*streams, Skips()))
        case = f"{clip}, {'all noisy' if not known else 'behind a state'}"
        most = ", ".join(f"{name} {count}" for name, count in found.most_common(8))
        session.record("operators", case, **{"a block": sum(found.values()), "most": most})


def guidance_passes(session: Session) -> None:
    """Two to four guidance passes in one call, beside as many calls of one."""
    model = _model(session)
    for name, clip in session.few(stages(session)[:3]):
        for batch in session.few((1, 2, 4), 2):
            case = f"{name}, {batch} passes at once"
            session.attempt(case, partial(_step, session, case, model, clip, 0, batch), 10 * session.cuda)
