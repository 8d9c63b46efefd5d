"""Compiled blocks: one graph without breaks for all blocks and all sizes, and the same velocities."""

import copy

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from ltx2.networks.transformer.model import StreamInput

from .samples import inputs, small_config, small_transformer


def streams_of(given, tokens: int | None = None):
    """Both streams; tokens: that many of the picture."""
    video = dict(given["video"])
    if tokens is not None:
        video |= {name: video[name][:, :tokens].contiguous() for name in ("latent", "timesteps")}
        video["positions"] = video["positions"][:, :, :tokens]
    return StreamInput(**video), StreamInput(**given["audio"])


@torch.no_grad()
def test_one_graph_for_all_blocks_and_sizes():
    """Two timesteps or one, some tokens more or fewer: what was compiled first does for all."""
    torch._dynamo.reset()
    config = small_config("2.3")
    plain, compiled = small_transformer(config), small_transformer(config)
    counter = CompileCounterWithBackend("eager")
    compiled.compile_blocks(backend=counter, fullgraph=True)
    compiled.least_compiled_tokens = 18  # of both clips
    for case, tokens in (("first_frame", None), ("plain", None), ("plain", 12), ("first_frame", 9)):
        given = streams_of(inputs(config, case=case), tokens)
        for found, expected in zip(compiled(*given), plain(*given)):
            torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
    assert counter.frame_count == 1
    copied = copy.deepcopy(compiled)  # as for the LoRA of one stage
    copied.transformer_blocks[1].attn1.to_q.weight.mul_(2)
    given = streams_of(inputs(config, case="plain"))
    assert not torch.equal(copied(*given)[0], compiled(*given)[0]) and counter.frame_count == 1
    compiled.least_compiled_tokens = 37
    assert torch.equal(compiled(*given)[0], plain(*given)[0])
    assert list(compiled.state_dict()) == list(plain.state_dict())
