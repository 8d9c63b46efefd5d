"""Whatever programs call the modules of an adapter → their official bare names.

What stands in front of a module's own name does not matter: the name begins where a part of one of our networks does.
Text-encoder modules get ``text_encoder.`` in front, so that they are never taken for the transformer's.
"""

import re
from collections.abc import Sequence

TEXT_ENCODER = "text_encoder."
# diffusers' names of whole path segments → official ones
_SEGMENTS = {
    "proj_in": "patchify_proj", "audio_proj_in": "audio_patchify_proj", "time_embed": "adaln_single",
    "audio_time_embed": "audio_adaln_single", "prompt_adaln": "prompt_adaln_single",
    "audio_prompt_adaln": "audio_prompt_adaln_single",
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
    "video_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_video",
    "audio_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_audio", "norm_q": "q_norm", "norm_k": "k_norm",
    "video_connector": "video_embeddings_connector", "audio_connector": "audio_embeddings_connector",
    "text_proj_in": "aggregate_embed",
    "video_text_proj_in": "video_aggregate_embed", "audio_text_proj_in": "audio_aggregate_embed",
}  # fmt: skip
# What the names of the transformer, its connectors and the text projection begin with.
_ROOTS = {
    "transformer_blocks", "patchify_proj", "audio_patchify_proj", "adaln_single", "audio_adaln_single",
    "prompt_adaln_single", "audio_prompt_adaln_single", "av_ca_video_scale_shift_adaln_single",
    "av_ca_audio_scale_shift_adaln_single", "av_ca_a2v_gate_adaln_single", "av_ca_v2a_gate_adaln_single",
    "caption_projection", "audio_caption_projection", "scale_shift_table", "audio_scale_shift_table", "proj_out",
    "audio_proj_out", "keyframes_abs_pos_embedding", "video_embeddings_connector", "audio_embeddings_connector",
    "aggregate_embed", "video_aggregate_embed", "audio_aggregate_embed",
}  # fmt: skip
_TEXT_ROOTS = {"layers", "embed_tokens", "norm"}
# Further segments, by which names whose dots became underscores are taken apart again.
_INNER = {
    "transformer_1d_blocks", "learnable_registers", "attn1", "attn2", "audio_attn1", "audio_attn2",
    "audio_to_video_attn", "video_to_audio_attn", "to_q", "to_k", "to_v", "to_out", "to_gate_logits", "q_norm",
    "k_norm", "ff", "audio_ff", "net", "proj", "emb", "timestep_embedder", "linear", "linear_1", "linear_2",
    "scale_shift_table_a2v_ca_video", "scale_shift_table_a2v_ca_audio", "prompt_scale_shift_table",
    "audio_prompt_scale_shift_table",
}  # fmt: skip
_TEXT_INNER = {
    "self_attn", "q_proj", "k_proj", "v_proj", "o_proj", "mlp", "gate_proj", "up_proj", "down_proj", "input_layernorm",
    "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
}  # fmt: skip
# Segments that say that what follows is of another network than ours.
_TEXT_MARKS = {"text_encoder", "text_encoders", "text_encoder_2", "te", "te1", "te2", "language_model", "gemma"}
_TEXT_FLAT = re.compile(r"(?:lora|lycoris)_te\d?_|text_encoders?_")
_OTHERS = {"vae", "audio_vae", "vocoder", "duration_head", "clip_l", "clip_g"}
_PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "connectors.")
# What PyTorch puts around modules that are compiled, spread over cards or computed anew on the way back.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_LONGEST_FLAT = 100  # words
# Other networks nest blocks like ours in blocks of their own, with such names.
_BLOCKS = {"block", "blocks"}


def official_name(name: str) -> str:
    """A module's official bare name from any of the spellings in use; what is not recognised loses known prefixes
    only."""
    segments = official_segments([segment for segment in name.split(".") if segment not in _WRAPPERS])
    if len(segments) == 1 and segments[0] not in _ROOTS:
        segments = _unflattened(name)
    if any(_is_text_mark(segment) for segment in segments):
        return _from_root(segments, _TEXT_ROOTS, TEXT_ENCODER) or name
    start = next((i for i, segment in enumerate(segments) if segment in _ROOTS), None)
    if start is None and "layers" in segments and {"self_attn", "mlp"} & set(segments):
        return _from_root(segments, _TEXT_ROOTS, TEXT_ENCODER) or name
    if start is None or _OTHERS & set(segments[:start]) or any("block" in one for one in segments[:start]):
        return without_prefixes(name)
    return ".".join(_in_connector(segments[start:]))


def official_segments(segments: Sequence[str]) -> list[str]:
    """Parts of a name as diffusers has them → official ones."""
    return [_SEGMENTS.get(segment, segment) for segment in segments]


def _is_text_mark(segment: str) -> bool:
    return segment in _TEXT_MARKS or segment.startswith("gemma")


def _from_root(segments: list[str], roots: set[str], prefix: str) -> str | None:
    start = next((i for i, segment in enumerate(segments) if segment in roots), None)
    return None if start is None else prefix + ".".join(segments[start:])


def _in_connector(segments: list[str]) -> list[str]:
    if segments[0].endswith("_embeddings_connector") and segments[1:2] == ["transformer_blocks"]:
        return [segments[0], "transformer_1d_blocks", *segments[2:]]
    return segments


def without_prefixes(name: str) -> str:
    """A name less what programs are known to put in front."""
    while prefix := next((one for one in _PREFIXES if name.startswith(one)), None):
        name = name.removeprefix(prefix)
    return name


def _unflattened(name: str) -> list[str]:
    """Path segments of a name whose dots became underscores; the name itself where it is no such name."""
    words = name.split("_")
    if len(words) > _LONGEST_FLAT:
        return [name]
    text = _TEXT_FLAT.match(name) is not None
    roots = _TEXT_ROOTS if text else _ROOTS | set(_SEGMENTS)
    known = _TEXT_ROOTS | _TEXT_INNER if text else _ROOTS | _INNER | set(_SEGMENTS)
    for start in range(len(words)):
        if words[start] in _BLOCKS:
            return [name]  # what follows is inside of another network's blocks
        found = _taken_apart(words[start:], known)
        if found and found[0] in roots:
            return (["text_encoder"] if text else []) + [_SEGMENTS.get(segment, segment) for segment in found]
    return [name]


def _taken_apart(words: list[str], known: set[str]) -> list[str] | None:
    """Words as known segments and numbers, the longest first, or None when that does not come out even."""
    # from the end on: rest[i] is how words[i:] come out
    rest: list[list[str] | None] = [None] * len(words) + [[]]
    for i in reversed(range(len(words))):
        for j in range(len(words), i, -1):
            segment = "_".join(words[i:j])
            if rest[j] is not None and (segment in known or (j == i + 1 and segment.isdecimal())):
                rest[i] = [segment, *rest[j]]
                break
    return rest[0]
