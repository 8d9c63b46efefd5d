"""Gemma 3 in GGUF files: llama.cpp's tensor names and norms. Checked against the gguf package's name tables."""

from types import MappingProxyType

from ..checkpoint.layout import Component
from ..checkpoint.lazy_tensor import HeldTensor
from ..checkpoint.reader import Checkpoint
from ..errors import CheckpointError

ARCHITECTURE = "gemma3"
EMBEDDING = "token_embd.weight"
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_WHOLE = {"token_embd": "embed_tokens", "output_norm": "norm"}


def official_name(name: str) -> str | None:
    """``blk.3.attn_q.weight`` → ``layers.3.self_attn.q_proj.weight``; None for what the encoder does not use (the
    output head)."""
    stem, _, kind = name.rpartition(".")
    if stem in _WHOLE:
        return f"{_WHOLE[stem]}.{kind}"
    parts = stem.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in _LAYER:
        return f"layers.{parts[1]}.{_LAYER[parts[2]]}.{kind}"
    return None


def language_component(checkpoint: Checkpoint) -> Component | None:
    """The language model of llama.cpp's Gemma 3, or None for other files. Raises CheckpointError for another language
    model in that form.

    llama.cpp stores the norms with the 1 added that the model adds itself: it is taken off here.
    """
    if EMBEDDING not in checkpoint.tensors:
        return None
    architecture = checkpoint.metadata.get("general.architecture", ARCHITECTURE)
    if architecture != ARCHITECTURE:
        raise CheckpointError(
            f"{checkpoint} is a language model of kind {architecture[:40]!r} in llama.cpp's form, expected "
            f"{ARCHITECTURE!r}: other ones are read from safetensors alone, such as the release's text encoder file"
        )
    tensors = {}
    for name, tensor in checkpoint.tensors.items():
        official = official_name(name)
        if official is not None:
            norm = official.endswith("norm.weight")
            tensors[official] = HeldTensor(official, tensor.load().float() - 1, tensor.path) if norm else tensor
    return Component("text_encoder", MappingProxyType(tensors), None, None, checkpoint.paths)
