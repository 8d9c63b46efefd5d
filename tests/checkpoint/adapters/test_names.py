"""Module names in every spelling in use, for every linear layer of every release."""

import pytest

from ltx2.checkpoint.adapters import names
from ltx2.checkpoint.adapters.names import TEXT_ENCODER, official_name
from ltx2.checkpoint.layout import components
from ltx2.checkpoint.reader import open_checkpoint

VERSIONS = ("2.0", "2.3", "2.5")
DIFFUSERS = {ours: theirs for theirs, ours in names._SEGMENTS.items()}
# The official module and its name at diffusers, in front of which anything may stand.
DOTTED = ("", "diffusion_model.", "model.diffusion_model.", "transformer.", "base_model.model.", "pipe.dit.", "module.",
          "base_model.model.transformer.", "model.", "unet.", "dit.model.")  # fmt: skip
TEXT_FRONTS = ("text_encoder.", "text_encoders.gemma3_12b.transformer.model.", "text_encoder.language_model.",
               "te.model.", "base_model.model.text_encoder.model.")  # fmt: skip
FLAT = ("lora_unet_", "lora_unet_model_", "lora_unet_diffusion_model_", "lora_transformer_", "lycoris_", "lora_dit_",
        "lora_unet_model_diffusion_model_")  # fmt: skip


def modules(tiny, version):
    """Every weight of the transformer, its connectors, the projection and the text encoder."""
    found = components(open_checkpoint(*dict.fromkeys(tiny(version).values())))
    prefixes = {
        "transformer": "", "video_connector": "video_embeddings_connector.",
        "audio_connector": "audio_embeddings_connector.", "text_projection": "", "text_encoder": TEXT_ENCODER,
    }  # fmt: skip
    for name, prefix in prefixes.items():
        for weight, tensor in found[name].tensors.items():
            if weight.endswith(".weight") and len(tensor.shape) == 2:
                yield prefix + weight.removesuffix(".weight")


def at_diffusers(module: str) -> str:
    found = ".".join(DIFFUSERS.get(segment, segment) for segment in module.split("."))
    return found.replace(".transformer_1d_blocks.", ".transformer_blocks.")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_module_in_every_spelling(tiny, version):
    checked = 0
    for module in modules(tiny, version):
        if module.startswith(TEXT_ENCODER):
            bare = module.removeprefix(TEXT_ENCODER)
            spellings = [front + bare for front in TEXT_FRONTS]
            flat = bare.replace(".", "_")
            spellings += [f"{front}{flat}" for front in ("lora_te_", "lora_te1_", "lora_te_model_")]
        else:
            known = (module, at_diffusers(module))
            spellings = [front + name for front in DOTTED for name in known]
            spellings += [front + name.replace(".", "_") for front in FLAT for name in known]
            if "connector" in module:
                spellings.append(f"connectors.{known[1]}")
        for spelling in spellings:
            assert official_name(spelling) == module, spelling
            checked += 1
    assert checked > 500


def test_other_networks_are_not_taken_for_ours():
    for name in (
        "vae.decoder.proj_out", "audio_vae.encoder.proj_out", "text_encoders.gemma.model.vision.blocks.0.proj",
        "some_new_part.0.to_q", "clip_l.transformer_blocks.0.attn1.to_q",
    ):  # fmt: skip
        assert official_name(name) == name
    assert official_name("diffusion_model.some_new_part.0.to_q") == "some_new_part.0.to_q"
    # a connector's block is no block of the transformer, whatever stands in front
    assert official_name("x.y.video_connector.transformer_blocks.0.attn1.to_k").startswith("video_embeddings_connector")


@pytest.mark.parametrize(
    "outer",
    [
        "down_blocks.0.attentions.1", "mid_block.attentions.0", "input_blocks.4.1", "single_blocks.3", "vace_blocks.0",
        "up_blocks.2.motion_modules.0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("inner", ["transformer_blocks.0.attn1.to_q", "proj_out", "proj_in", "audio_proj_out"])
def test_blocks_like_ours_inside_of_blocks_of_other_networks_are_not_ours(outer, inner):
    whole = f"{outer}.{inner}"
    for spelled in (whole, f"unet.{whole}", f"diffusion_model.{whole}"):
        assert official_name(spelled).endswith(whole), spelled
    flat = whole.replace(".", "_")
    for front in ("lora_unet_", "lycoris_", ""):
        assert official_name(front + flat) == front + flat


def test_names_of_any_length_and_kind_are_quick():
    for name in ("_" * 10_000, "transformer_blocks_" * 5_000, "a" * 100_000, ".", "", "..", "transformer_blocks" * 9):
        assert isinstance(official_name(name), str)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_what_pytorch_wraps_modules_in_does_not_count(wrapper):
    for name in ("transformer_blocks.3.attn1.to_q", "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"):
        segments = name.split(".")
        for at in range(len(segments) + 1):
            wrapped = ".".join([*segments[:at], wrapper, *segments[at:]])
            assert official_name(wrapped) == official_name(f"diffusion_model.{wrapped}") == name
