"""Gemma built on meta has the released tensor names and sizes, and the rotary settings that bare configs lack."""

import builtins

import pytest
import torch

from ltx2.errors import CheckpointError, MissingPackageError
from ltx2.text import language_model as lm
from ltx2.tiny import text as tiny_text

LINEAR = {
    "self_attn.o_proj",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
}
NORMS = {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"}


def released_shapes(family):
    """Names and sizes of the 12B encoders."""
    hidden, mlp = 3840, 15360
    shapes = {"embed_tokens.weight": (262208 if family == "gemma3" else 262144, hidden), "norm.weight": (hidden,)}
    for index in range(48):
        full = family == "gemma4" and index % 6 == 5
        head, keys = (512, 1) if full else (256, 8)
        layer = {
            "self_attn.q_proj": (16 * head, hidden),
            "self_attn.k_proj": (keys * head, hidden),
            "self_attn.o_proj": (hidden, 16 * head),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "mlp.gate_proj": (mlp, hidden),
            "mlp.up_proj": (mlp, hidden),
            "mlp.down_proj": (hidden, mlp),
        } | {norm: (hidden,) for norm in NORMS}
        if not full:
            layer["self_attn.v_proj"] = (keys * head, hidden)
        shapes |= {f"layers.{index}.{name}.weight": shape for name, shape in layer.items()}
        if family == "gemma4":
            shapes[f"layers.{index}.layer_scalar"] = (1,)
    return shapes


@pytest.mark.parametrize("family", ["gemma3", "gemma4"])
def test_released_size_on_meta(family):
    shapes = released_shapes(family)
    assert lm.family_of(shapes) == family
    model = lm.empty_language_model(family, shapes)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == shapes
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.sliding_window) == (3840, 48, 1024)
    assert [index for index, kind in enumerate(config.layer_types) if kind == "full_attention"] == list(range(5, 48, 6))
    attention = model.layers[0].self_attn
    assert attention.scaling == (1 / 16 if family == "gemma3" else 1.0)


def test_rotary_frequencies_of_gemma3_have_the_factor():
    model = lm.empty_language_model("gemma3", released_shapes("gemma3") | {"embed_tokens.weight": (8, 3840)})
    with torch.device("meta"):
        model.to_empty(device="meta")
    rotary = lm.fill_computed_buffers(model).rotary_emb
    steps = torch.arange(0, 256, 2) / 256
    torch.testing.assert_close(rotary.full_attention_inv_freq, 1e6**-steps / 8)
    torch.testing.assert_close(rotary.sliding_attention_inv_freq, 1e4**-steps)


def test_rotary_frequencies_of_gemma4():
    model = lm.empty_language_model("gemma4", released_shapes("gemma4") | {"embed_tokens.weight": (8, 3840)})
    rotary = lm.fill_computed_buffers(model).rotary_emb
    full = rotary.full_attention_inv_freq
    assert full.shape == (256,) and full[64:].eq(0).all()  # a quarter of the 512 turns
    torch.testing.assert_close(full[:64], 1e6 ** -(torch.arange(0, 128, 2) / 512))
    torch.testing.assert_close(rotary.sliding_attention_inv_freq, 1e4 ** -(torch.arange(0, 256, 2) / 256))


@pytest.mark.parametrize("family", ["gemma3", "gemma4"])
def test_tiny_shapes_are_what_transformers_builds(family):
    shapes = tiny_text.language_model_shapes(family)
    given = tiny_text.gemma3_config() if family == "gemma3" else tiny_text.gemma4_config()
    built = []
    for config in (None, given):
        model = lm.empty_language_model(family, shapes, config)
        assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == shapes
        built.append(
            {name: tensor for name, tensor in lm.fill_computed_buffers(model).named_buffers() if not tensor.is_meta}
        )
    # what shapes say and what the config says is the same model
    for name, tensor in built[0].items():
        torch.testing.assert_close(tensor, built[1][name])


def test_config_is_not_changed_by_building():
    config = tiny_text.gemma4_config()
    lm.text_config("gemma4", tiny_text.language_model_shapes("gemma4"), config)
    assert config == tiny_text.gemma4_config()


@pytest.mark.parametrize("family", ["gemma3", "gemma4"])
def test_old_transformers_is_one_sentence(family, monkeypatch):
    real = builtins.__import__

    def old(name, *args, **kwargs):
        if name.startswith("transformers.models.gemma"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", old)
    with pytest.raises(
        MissingPackageError, match=rf"transformers \(\d+.*Gemma {family[-1]}.*pip install --upgrade transformers"
    ):
        lm.empty_language_model(family, tiny_text.language_model_shapes(family))


def test_other_language_models_are_refused():
    with pytest.raises(CheckpointError, match="neither Gemma 3 nor Gemma 4"):
        lm.family_of({"embed_tokens.weight": (8, 8), "layers.0.self_attn.q_proj.weight": (8, 8)})


def test_metadata_config_must_be_an_object():
    assert lm.hugging_face_config({}, "x") is None
    for text in ("{", "[1]"):
        with pytest.raises(CheckpointError, match="gemma_config.*gemma.safetensors|gemma.safetensors.*gemma_config"):
            lm.hugging_face_config({"gemma_config": text}, "gemma.safetensors")
