"""Every tensor of the released transformers and connectors, written down as tables: name → shape, and their
configurations."""

COMMON = {
    "num_layers": 48, "num_attention_heads": 32, "attention_head_dim": 128, "in_channels": 128, "out_channels": 128,
    "cross_attention_dim": 4096, "caption_channels": 3840, "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64,
    "audio_out_channels": 128, "audio_cross_attention_dim": 2048, "connector_attention_head_dim": 128, "norm_eps": 1e-6,
    "positional_embedding_theta": 10000.0, "positional_embedding_max_pos": [20, 2048, 2048],
    "audio_positional_embedding_max_pos": [20],
    "timestep_scale_multiplier": 1000, "av_ca_timestep_scale_multiplier": 1000.0, "use_middle_indices_grid": True,
    "rope_type": "split", "frequencies_precision": "float64", "connector_positional_embedding_max_pos": [4096],
    "activation_fn": "gelu-approximate", "attention_bias": True, "attention_type": "default",
    "norm_elementwise_affine": False,
    "norm_num_groups": 32, "num_embeds_ada_norm": 1000, "num_vector_embeds": None, "dropout": 0.0,
    "double_self_attention": False,
    "only_cross_attention": False, "cross_attention_norm": True, "upcast_attention": False,
    "use_linear_projection": False,
    "qk_norm": "rms_norm", "standardization_norm": "rms_norm", "positional_embedding_type": "rope",
    "av_cross_ada_norm": True,
    "causal_temporal_positioning": True, "use_audio_video_cross_attention": True, "share_ff": False,
}  # fmt: skip
LATER = {
    "connector_num_attention_heads": 32, "connector_num_layers": 8, "audio_connector_num_attention_heads": 32,
    "audio_connector_attention_head_dim": 64, "apply_gated_attention": True, "connector_apply_gated_attention": True,
    "cross_attention_adaln": True, "caption_proj_before_connector": True, "caption_projection_first_linear": False,
    "caption_projection_second_linear": False, "caption_proj_input_norm": False,
}  # fmt: skip
CONFIGS = {
    "2.0": {**COMMON, "connector_num_attention_heads": 30, "connector_num_layers": 2},
    "2.3": {**COMMON, **LATER, "text_encoder_norm_type": "per_token_rms"},
    "2.5": {
        **COMMON,
        **LATER,
        "text_encoder_norm_type": "PER_TOKEN_RMS",
        "ff_bias": False,
        "use_keyframes_abs_pos_embedding": True,
    },
}


def linear(name: str, rows: int, columns: int, bias: bool = True) -> dict:
    return {f"{name}.weight": (rows, columns), **({f"{name}.bias": (rows,)} if bias else {})}


def adaln(name: str, width: int, rows: int) -> dict:
    inner = f"{name}.emb.timestep_embedder.linear"
    return (
        linear(f"{inner}_1", width, 256)
        | linear(f"{inner}_2", width, width)
        | linear(f"{name}.linear", rows * width, width)
    )


def attention(name: str, width: int, context: int, inner: int, gates: int) -> dict:
    shapes = (
        linear(f"{name}.to_q", inner, width)
        | linear(f"{name}.to_k", inner, context)
        | linear(f"{name}.to_v", inner, context)
    )
    shapes |= linear(f"{name}.to_out.0", width, inner) | {
        f"{name}.q_norm.weight": (inner,),
        f"{name}.k_norm.weight": (inner,),
    }
    return shapes | (linear(f"{name}.to_gate_logits", gates, width) if gates else {})


def transformer_shapes(version: str) -> dict[str, tuple[int, ...]]:
    """The transformer's bare names, without the connectors."""
    later, video, audio = version != "2.0", 4096, 2048
    rows, gates = (9, 32) if later else (6, 0)
    out = linear("patchify_proj", video, 128) | linear("audio_patchify_proj", audio, 128)
    out |= linear("proj_out", 128, video) | linear("audio_proj_out", 128, audio)
    out |= {"scale_shift_table": (2, video), "audio_scale_shift_table": (2, audio)}
    out |= adaln("adaln_single", video, rows) | adaln("audio_adaln_single", audio, rows)
    out |= adaln("av_ca_video_scale_shift_adaln_single", video, 4) | adaln(
        "av_ca_audio_scale_shift_adaln_single", audio, 4
    )
    out |= adaln("av_ca_a2v_gate_adaln_single", video, 1) | adaln("av_ca_v2a_gate_adaln_single", audio, 1)
    if later:
        out |= adaln("prompt_adaln_single", video, 2) | adaln("audio_prompt_adaln_single", audio, 2)
    else:
        for name, width in (("caption_projection", video), ("audio_caption_projection", audio)):
            out |= linear(f"{name}.linear_1", width, 3840) | linear(f"{name}.linear_2", width, width)
    if version == "2.5":
        out["keyframes_abs_pos_embedding"] = (1, video)
    for i in range(48):
        block = f"transformer_blocks.{i}."
        out |= attention(f"{block}attn1", video, video, video, gates) | attention(
            f"{block}attn2", video, video, video, gates
        )
        out |= attention(f"{block}audio_attn1", audio, audio, audio, gates) | attention(
            f"{block}audio_attn2", audio, audio, audio, gates
        )
        out |= attention(f"{block}audio_to_video_attn", video, audio, audio, gates)
        out |= attention(f"{block}video_to_audio_attn", audio, video, audio, gates)
        for name, width, bias in (("ff", video, version != "2.5"), ("audio_ff", audio, True)):
            out |= linear(f"{block}{name}.net.0.proj", 4 * width, width, bias) | linear(
                f"{block}{name}.net.2", width, 4 * width, bias
            )
        out |= {f"{block}scale_shift_table": (rows, video), f"{block}audio_scale_shift_table": (rows, audio)}
        out |= {
            f"{block}scale_shift_table_a2v_ca_video": (5, video),
            f"{block}scale_shift_table_a2v_ca_audio": (5, audio),
        }
        if later:
            out |= {
                f"{block}prompt_scale_shift_table": (2, video),
                f"{block}audio_prompt_scale_shift_table": (2, audio),
            }
    return out


def connector_shapes(version: str, stream: str) -> dict[str, tuple[int, ...]]:
    """Bare names of one connector."""
    layers, gates = (2, 0) if version == "2.0" else (8, 32)
    width = 3840 if version == "2.0" else {"video": 4096, "audio": 2048}[stream]
    out = {"learnable_registers": (128, width)}
    for i in range(layers):
        block = f"transformer_1d_blocks.{i}."
        out |= attention(f"{block}attn1", width, width, width, gates)
        out |= linear(f"{block}ff.net.0.proj", 4 * width, width) | linear(f"{block}ff.net.2", width, 4 * width)
    return out


def projection_shapes(version: str) -> dict[str, tuple[int, ...]]:
    """Bare names of the text projection."""
    if version == "2.0":
        return linear("aggregate_embed", 3840, 188160, bias=False)
    return linear("video_aggregate_embed", 4096, 188160) | linear("audio_aggregate_embed", 2048, 188160)
