"""LoRA: keys in every spelling, merging with strengths, what fits and what does not."""

import pytest
import torch

from ltx2.checkpoint import models
from ltx2.checkpoint.adapters.kinds.low_rank import LowRank
from ltx2.checkpoint.lora import match_lora, merge_loras, official_name, read_lora, weight_shapes
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError

from . import small
from .files import save
from .test_build import quantised

MODULE = "transformer_blocks.0.attn1.to_q"
GLOBAL = "patchify_proj"
RANK = 2


def factors(seed=0, out=small.WIDTH, into=small.WIDTH):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(RANK, into, generator=generator), torch.randn(out, RANK, generator=generator)


def pair(module: str, down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}


def lora_file(tmp_path, tensors, name="lora"):
    return read_lora(save(tmp_path / f"{name}.safetensors", tensors))


@pytest.fixture
def transformer(tmp_path):
    return models.load_transformer(
        open_checkpoint(save(tmp_path / "model.safetensors", small.prefixed(small.transformer())))
    )


STYLES = {
    "official": ("diffusion_model.{}", "lora_A", "lora_B"),
    "checkpoint": ("model.diffusion_model.{}", "lora_A", "lora_B"),
    "bare": ("{}", "lora_A", "lora_B"),
    "diffusers": ("transformer.{}", "lora_A", "lora_B"),
    "peft": ("base_model.model.{}", "lora_A", "lora_B"),
    "peft with prefix": ("base_model.model.diffusion_model.{}", "lora_A.default", "lora_B.default"),
    "down and up": ("diffusion_model.{}", "lora_down", "lora_up"),
    "dots": ("{}", "lora.down", "lora.up"),
    "underscores": ("lora_unet_{}", "lora_down", "lora_up"),
}


@pytest.mark.parametrize("style", STYLES)
def test_every_spelling_changes_the_same_weight(tmp_path, transformer, style):
    prefix, a, b = STYLES[style]
    module = prefix.format(MODULE.replace(".", "_") if style == "underscores" else MODULE)
    down, up = factors()
    lora = lora_file(
        tmp_path, {f"{module}.{a}.weight": down, f"{module}.{b}.weight": up, f"{module}.alpha": torch.tensor(1.0)}
    )
    match = match_lora(lora, weight_shapes(transformer))
    assert set(match.matched) == {f"{MODULE}.weight"} and not match.unmatched
    before = transformer.get_submodule(MODULE).weight.clone()
    changed = merge_loras(transformer, [(lora, 0.5)])
    expected = before + 0.5 * (1 / RANK) * up @ down
    assert torch.allclose(changed.get_submodule(MODULE).weight, expected, atol=1e-6)
    assert torch.equal(transformer.get_submodule(MODULE).weight, before)


def test_names_of_diffusers():
    known = {
        "transformer.proj_in": "patchify_proj",
        "transformer.audio_time_embed.emb.timestep_embedder.linear_1": (
            "audio_adaln_single.emb.timestep_embedder.linear_1"
        ),
        "transformer.av_cross_attn_video_a2v_gate.linear": "av_ca_a2v_gate_adaln_single.linear",
        "transformer.transformer_blocks.3.attn1.norm_q": "transformer_blocks.3.attn1.q_norm",
        "transformer.transformer_blocks.3.audio_a2v_cross_attn_scale_shift_table": (
            "transformer_blocks.3.scale_shift_table_a2v_ca_audio"
        ),
        "connectors.video_connector.transformer_blocks.1.attn1.to_q": (
            "video_embeddings_connector.transformer_1d_blocks.1.attn1.to_q"
        ),
        "connectors.video_text_proj_in": "video_aggregate_embed",
        "diffusion_model.transformer_blocks.7.ff.net.0.proj": "transformer_blocks.7.ff.net.0.proj",
    }
    assert {name: official_name(name) for name in known} == known


def test_whole_differences_of_weights_biases_and_tables(tmp_path, transformer):
    whole, bias, table = torch.randn(small.WIDTH, small.WIDTH), torch.randn(small.WIDTH), torch.randn(2, small.WIDTH)
    tensors = {f"{MODULE}.diff": whole, f"{MODULE}.diff_b": bias, "scale_shift_table.diff": table}
    lora = lora_file(tmp_path, small.prefixed(tensors, "diffusion_model."))
    changed = merge_loras(transformer, [(lora, 2.0)])
    for name, added in ((f"{MODULE}.weight", whole), (f"{MODULE}.bias", bias), ("scale_shift_table", table)):
        assert torch.allclose(changed.get_parameter(name), transformer.get_parameter(name) + 2 * added, atol=1e-6)


def test_several_at_strengths_share_what_they_leave(tmp_path, transformer):
    pairs = [factors(1), factors(2)]
    loras = [lora_file(tmp_path, pair(MODULE, down, up), str(i)) for i, (down, up) in enumerate(pairs)]
    changed = merge_loras(transformer, [(loras[0], 1.0), (loras[1], -0.25)])
    expected = transformer.get_submodule(MODULE).weight + pairs[0][1] @ pairs[0][0] - 0.25 * pairs[1][1] @ pairs[1][0]
    assert torch.allclose(changed.get_submodule(MODULE).weight, expected, atol=1e-6)
    for (name, old), (_, new) in zip(transformer.named_parameters(), changed.named_parameters()):
        assert (old.data_ptr() == new.data_ptr()) == (name != f"{MODULE}.weight"), name
        assert old is not new  # moving one network must not move the other
    assert changed.config is not None and not torch.equal(small.run(changed), small.run(transformer))


def test_merging_at_load_is_the_same(tmp_path, transformer):
    down, up = factors()
    lora = lora_file(tmp_path, pair(MODULE, down, up))
    loaded = models.load_transformer(open_checkpoint(tmp_path / "model.safetensors"), loras=[(lora, 0.7)])
    merged = merge_loras(transformer, [(lora, 0.7)])
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), merged.parameters()))


def test_half_precision_sums_are_rounded_once(tmp_path):
    path = save(
        tmp_path / "model.safetensors", small.prefixed({n: t.bfloat16() for n, t in small.transformer().items()})
    )
    network = models.load_transformer(open_checkpoint(path))
    down, up = factors()
    lora = lora_file(tmp_path, pair(MODULE, down, up))
    expected = (network.get_submodule(MODULE).weight.float() + 0.3 * up @ down).bfloat16()
    found = merge_loras(network, [(lora, 0.3)]).get_submodule(MODULE).weight
    assert found.dtype == torch.bfloat16 and torch.allclose(found.float(), expected.float(), rtol=2**-8)


def test_quantised_weights(tmp_path):
    stored, dense = quantised(small.transformer())
    checkpoint = open_checkpoint(save(tmp_path / "model.safetensors", small.prefixed(stored)))
    down, up = factors()
    lora = lora_file(tmp_path, pair(MODULE, down, up) | pair(GLOBAL, factors(into=8)[0], up))
    wanted = dense[f"{MODULE}.weight"] + 0.5 * up @ down
    kept = models.load_transformer(checkpoint, dtype=torch.float32, quantized="on_use")
    merged = merge_loras(kept, [(lora, 0.5)])
    at_load = models.load_transformer(checkpoint, dtype=torch.float32, quantized="on_use", loras=[(lora, 0.5)])
    plain = models.load_transformer(checkpoint, dtype=torch.float32, loras=[(lora, 0.5)])
    for network in (merged, at_load):
        layer = network.get_submodule(MODULE)
        assert torch.allclose(layer.dense("cpu", torch.float32), wanted, atol=1e-6)
        assert torch.allclose(small.run(network), small.run(plain), atol=1e-5)
    assert merged.get_submodule(MODULE).weight.data_ptr() == kept.get_submodule(MODULE).weight.data_ptr()
    assert torch.allclose(kept.get_submodule(MODULE).dense("cpu", torch.float32), dense[f"{MODULE}.weight"])
    twice = merge_loras(merged, [(lora, 0.5)]).get_submodule(MODULE).dense("cpu", torch.float32)
    assert torch.allclose(twice, dense[f"{MODULE}.weight"] + up @ down, atol=1e-6)
    biased = merge_loras(kept, [(lora_file(tmp_path, {f"{MODULE}.diff_b": torch.ones(len(up))}), 0.5)]).get_submodule(
        MODULE
    )
    assert torch.allclose(biased.bias, kept.get_submodule(MODULE).bias + 0.5, atol=1e-6)


def test_what_fits_is_reported(tmp_path, transformer):
    down, up = factors()
    lora = lora_file(tmp_path, pair(MODULE, down, up) | pair("transformer_blocks.47.attn1.to_q", down, up))
    match = match_lora(lora, weight_shapes(transformer))
    assert match.unmatched == ("transformer_blocks.47.attn1.to_q",)
    assert str(match) == f"1 of 2 LoRA weights fit the model; not in the model: {match.unmatched[0]}"
    assert match_lora(lora, list(weight_shapes(transformer))).matched.keys() == match.matched.keys()
    found = match.matched[f"{MODULE}.weight"]
    assert found.kind == LowRank(1.0) and found.rank == RANK
    assert torch.equal(found.parts["up"].load(), up) and torch.equal(found.parts["down"].load(), down)


def test_connectors_take_their_part(tmp_path):
    checkpoint = open_checkpoint(
        save(tmp_path / "model.safetensors", small.prefixed(small.transformer() | small.connectors()))
    )
    down, up = factors()
    name = "transformer_1d_blocks.0.attn1.to_q"
    lora = lora_file(tmp_path, small.prefixed(pair(name, down, up), "diffusion_model.video_embeddings_connector."))
    video, audio = models.load_connectors(checkpoint, loras=[(lora, 1.0)])
    before, same = models.load_connectors(checkpoint)
    assert torch.allclose(video.get_submodule(name).weight, before.get_submodule(name).weight + up @ down, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(audio.parameters(), same.parameters()))


@pytest.mark.parametrize(
    "tensors, part",
    [
        (pair("unet.down", torch.ones(2, 4), torch.ones(4, 2)), "fits none of the model's weights"),
        (pair(MODULE, torch.ones(2, 64), torch.ones(64, 2)), "of 64 × 64, the model has 32 × 32"),
        ({f"{MODULE}.lora_A.weight": torch.ones(2, 32)}, "one half"),
        (pair(MODULE, torch.ones(2, 32), torch.ones(32, 3)), "ranks disagree"),
        (pair(MODULE, torch.ones(0, 32), torch.ones(32, 0)), "ranks disagree"),
        (
            pair(MODULE, torch.ones(2, 32), torch.ones(32, 2)) | {f"{MODULE}.alpha": torch.tensor(torch.nan)},
            "no number",
        ),
        ({f"{MODULE}.weight": torch.ones(2)}, "it is a model"),
        ({f"{MODULE}.alpha": torch.ones(1)}, "no LoRA weights"),
    ],
)
def test_loras_that_do_not_fit(tmp_path, transformer, tensors, part):
    with pytest.raises(CheckpointError) as caught:
        merge_loras(transformer, [(lora_file(tmp_path, tensors), 1.0)])
    assert part in str(caught.value) and "lora.safetensors" in str(caught.value) and "\n" not in str(caught.value)
