"""The Gemma language models as ``transformers`` builds them, from tensors that are already at hand.

Only the decoder stack is built: no vision or audio tower, no output head. Nothing is ever downloaded.
Checked against transformers 5.23; names and values against the released configs.
"""

import copy
import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..errors import CheckpointError, MissingPackageError

GEMMA3, GEMMA4 = "gemma3", "gemma4"
RELEASES = {GEMMA3: "Gemma 3 12B (LTX-2, LTX-2.3)", GEMMA4: "Gemma 4 12B LTX (LTX-2.5)"}
SLIDING, FULL = "sliding_attention", "full_attention"
# Every sixth layer sees the whole prompt.
FULL_EVERY = 6
# Frequencies are (period base, and for Gemma 3 the stretch of full-attention positions). A Gemma3TextConfig made from
# bare sizes lacks the stretch, and the encoder would then be silently wrong.
SLIDING_THETA, FULL_THETA, GEMMA3_FULL_FACTOR, GEMMA4_ROTARY_SHARE = 1e4, 1e6, 8.0, 0.25

Shapes = Mapping[str, tuple[int, ...]]


def family_of(shapes: Shapes) -> str:
    """``gemma3`` or ``gemma4`` from bare tensor names; Gemma 4 has a scalar per layer.

    Errors: CheckpointError for another language model.
    """
    if "layers.0.layer_scalar" in shapes:
        return GEMMA4
    if "layers.0.self_attn.q_norm.weight" in shapes and "layers.0.pre_feedforward_layernorm.weight" in shapes:
        return GEMMA3
    raise CheckpointError(
        "the text encoder is neither Gemma 3 nor Gemma 4 (no layers.0.self_attn.q_norm.weight): use the one of your "
        "LTX-2 version, " + " or ".join(RELEASES.values())
    )


def text_config_values(family: str, shapes: Shapes, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Keyword values of the text config: the file's own where it has one, else from tensor shapes.

    config: a Hugging Face config, with or without ``text_config``; shapes: bare names (``layers.0.…``).
    """
    if config:
        # a copy in depth: transformers completes nested rotary settings in place
        return copy.deepcopy(dict(config.get("text_config") or config))
    layers = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("layers."))
    vocabulary, hidden = shapes["embed_tokens.weight"]
    head = shapes["layers.0.self_attn.q_norm.weight"][0]
    values = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": shapes["layers.0.mlp.gate_proj.weight"][0],
        "num_hidden_layers": layers,
        "num_attention_heads": shapes["layers.0.self_attn.q_proj.weight"][0] // head,
        "num_key_value_heads": shapes["layers.0.self_attn.k_proj.weight"][0] // head,
        "head_dim": head,
        "sliding_window": 1024,
        "rms_norm_eps": 1e-6,
    }
    if family == GEMMA3:
        return values | {
            "query_pre_attn_scalar": head,
            "max_position_embeddings": 131072,
            "layer_types": [SLIDING if (i + 1) % FULL_EVERY else FULL for i in range(layers)],
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": GEMMA3_FULL_FACTOR, "rope_theta": FULL_THETA},
                SLIDING: {"rope_type": "default", "rope_theta": SLIDING_THETA},
            },
        }
    # Full-attention layers of Gemma 4 reuse their keys as values, and so have no v_proj.
    full = [i for i in range(layers) if f"layers.{i}.self_attn.v_proj.weight" not in shapes]
    if full:
        full_head = shapes[f"layers.{full[0]}.self_attn.q_norm.weight"][0]
        values["global_head_dim"] = full_head
        values["num_global_key_value_heads"] = shapes[f"layers.{full[0]}.self_attn.k_proj.weight"][0] // full_head
    return values | {
        "max_position_embeddings": 262144,
        "attention_k_eq_v": True,
        "layer_types": [FULL if i in full else SLIDING for i in range(layers)],
        "rope_parameters": {
            FULL: {"rope_type": "proportional", "partial_rotary_factor": GEMMA4_ROTARY_SHARE, "rope_theta": FULL_THETA},
            SLIDING: {"rope_type": "default", "rope_theta": SLIDING_THETA},
        },
    }


def _classes(family: str):
    """Config and model class of the installed transformers."""
    try:
        if family == GEMMA4:
            from transformers.models.gemma4_unified import Gemma4UnifiedTextConfig, Gemma4UnifiedTextModel

            return Gemma4UnifiedTextConfig, Gemma4UnifiedTextModel
        from transformers.models.gemma3 import Gemma3TextConfig, Gemma3TextModel
    except ImportError as error:
        try:
            from transformers import __version__ as installed
        except ImportError:
            installed = "none"
        model = "the Gemma 4 text encoder of LTX-2.5" if family == GEMMA4 else "the Gemma 3 text encoder"
        raise MissingPackageError(
            f"the installed transformers ({installed}) does not know {model}: run pip install --upgrade transformers"
        ) from error
    return Gemma3TextConfig, Gemma3TextModel


def text_config(family: str, shapes: Shapes, config: Mapping[str, Any] | None = None) -> Any:
    """The ``transformers`` text config of a checkpoint; see ``text_config_values``."""
    config_class, _ = _classes(family)
    values = text_config_values(family, shapes, config)
    # transformers 4 spells the rotary settings differently (and 5 still reads the old spelling from old folders).
    if family == GEMMA3 and not config and "rope_parameters" not in inspect.signature(config_class).parameters:
        del values["rope_parameters"]
        values |= {
            "rope_theta": FULL_THETA,
            "rope_local_base_freq": SLIDING_THETA,
            "rope_scaling": {"rope_type": "linear", "factor": GEMMA3_FULL_FACTOR},
        }
    return config_class(**values)


def empty_language_model(family: str, shapes: Shapes, config: Mapping[str, Any] | None = None) -> nn.Module:
    """The decoder stack on the meta device: no memory, no initialisation. Its tensors are to be assigned."""
    _, model_class = _classes(family)
    settings = text_config(family, shapes, config)
    with torch.device("meta"):
        model = model_class(settings)
    return model.eval().requires_grad_(False)


def fill_computed_buffers(model: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """Make what no file stores (rotary frequencies, embedding scale) real after the weights were assigned.

    Frequencies stay float32 whatever the weights are.
    """
    for name, module in list(model.named_modules()):
        if name.rpartition(".")[2].startswith("rotary_emb"):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], type(module)(config=module.config).to(device))
    scale = torch.tensor(model.config.hidden_size**0.5, dtype=torch.float32, device=device)
    model.embed_tokens.register_buffer("embed_scale", scale, persistent=False)
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta and name not in model.state_dict()]
    if left:
        raise MissingPackageError(
            f"the installed transformers wants to compute {left[0]}, which is new: install transformers 5.23"
        )
    return model


def hugging_face_config(metadata: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """The ``gemma_config`` that a single-file encoder carries in its metadata, or None."""
    text = metadata.get("gemma_config")
    if not text:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise CheckpointError(
            f"the gemma_config in the metadata of {name} is not JSON ({error}): get the file again"
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(
            f"the gemma_config in the metadata of {name} is {type(config).__name__}, not an object: get the file again"
        )
    return config
