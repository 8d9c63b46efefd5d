"""Models of other families, by the ends of their tensors' names: named, so that people know what they chose."""

from collections.abc import Iterable

# What it is → ends of names that all have to be there; the first that fits counts.
_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a Wan model", ("blocks.0.self_attn.q.weight", "patch_embedding.weight")),
    ("a Wan model", ("blocks.0.attn1.to_q.weight", "condition_embedder.time_embedder.linear_1.weight")),
    ("a HunyuanVideo model", ("txt_in.individual_token_refiner.blocks.0.norm1.weight",)),
    ("a HunyuanVideo model", ("double_blocks.0.img_attn_qkv.weight",)),
    ("a Flux model", ("double_blocks.0.img_attn.qkv.weight",)),
    ("a Stable Diffusion 3 model", ("joint_blocks.0.x_block.attn.qkv.weight",)),
    ("a Stable Diffusion model", ("input_blocks.0.0.weight",)),
    ("a Qwen-Image model", ("transformer_blocks.0.img_mlp.net.0.proj.weight",)),
    ("a Mochi model", ("t5_y_embedder.to_q.weight",)),
    ("a CogVideoX model", ("patch_embed.text_proj.weight", "transformer_blocks.0.norm1.linear.weight")),
    ("a Cosmos model", ("blocks.0.self_attn.q_proj.weight", "x_embedder.proj.1.weight")),
    ("a T5 text encoder", ("block.0.layer.0.SelfAttention.q.weight",)),
    ("a UMT5 text encoder", ("token_embedding.weight", "blocks.0.attn.q.weight")),
    ("a CLIP text encoder", ("text_model.encoder.layers.0.self_attn.q_proj.weight",)),
    ("a tiny autoencoder", ("decoder.1.weight", "decoder.22.bias")),
    ("an upscaler of pictures", ("body.0.rdb1.conv1.weight",)),
    ("an upscaler of pictures", ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight")),
    ("a VAE of Wan", ("decoder.middle.0.residual.0.gamma",)),
    ("a VAE of pictures", ("decoder.mid.block_1.conv1.weight", "decoder.up.0.block.0.conv1.weight")),
)
_ENDS = tuple({end for _, ends in _FAMILIES for end in ends})


def family_of_names(names: Iterable[str]) -> str | None:
    """What other model these tensors are of, with its article; None when it is none of those known."""
    found = {end for name in names if name.endswith(_ENDS) for end in _ENDS if name.endswith(end)}
    return next((what for what, ends in _FAMILIES if found.issuperset(ends)), None)
