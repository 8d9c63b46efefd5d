"""What a transformer, its connectors and its text projection look like, read from a checkpoint.

Each reader takes the ``transformer`` block of the checkpoint's ``config`` metadata, or None, and the shapes of the
component's tensors under their bare names, or an empty mapping. Where both say something, the tensors are right; where
neither does, the released models' value holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

HIDDEN_STATES = 49  # of both Gemma encoders: the embedding and 48 layers

# Switches of the configuration that no release turns the other way, so that nothing here implements.
_FIXED = {
    "activation_fn": "gelu-approximate", "attention_bias": True, "num_embeds_ada_norm": 1000,
    "num_vector_embeds": None, "dropout": 0.0,
    "norm_elementwise_affine": False, "double_self_attention": False, "only_cross_attention": False,
    "cross_attention_norm": True,
    "upcast_attention": False, "use_linear_projection": False, "qk_norm": "rms_norm",
    "standardization_norm": "rms_norm",
    "positional_embedding_type": "rope", "use_audio_video_cross_attention": True, "av_cross_ada_norm": True,
    "share_ff": False,
}  # fmt: skip


@dataclass(frozen=True)
class RotaryConfig:
    """Rotary positions: pairs are the halves of a head or, ``interleaved``, neighbours; ``double``: powers in
    float64."""

    interleaved: bool = False
    theta: float = 10000.0
    double: bool = True


@dataclass(frozen=True)
class TransformerConfig:
    """The audio-video transformer; the defaults are LTX-2.3's."""

    layers: int = 48
    heads: int = 32
    head_dim: int = 128
    in_channels: int = 128
    out_channels: int = 128
    context_width: int = 4096
    audio_heads: int = 32
    audio_head_dim: int = 64
    audio_in_channels: int = 128
    audio_out_channels: int = 128
    audio_context_width: int = 2048
    caption_channels: int | None = None  # 2.0 projects the context itself, from this width
    gated_attention: bool = True
    text_modulation: bool = True  # the text attention's queries and context have AdaLN rows
    prompt_timesteps: bool = True  # those of the context depend on sigma
    feed_forward_bias: bool = True
    audio_feed_forward_bias: bool = True
    keyframe_embedding: bool = False
    rotary: RotaryConfig = field(default_factory=RotaryConfig)
    max_positions: tuple[float, ...] = (20, 2048, 2048)  # seconds, pixel rows, pixel columns
    audio_max_positions: tuple[float, ...] = (20,)
    middle_positions: bool = True
    timestep_scale: float = 1000.0
    av_gate_timestep_scale: float = 1000.0
    norm_eps: float = 1e-6

    @property
    def width(self) -> int:
        """The width of a video token."""
        return self.heads * self.head_dim

    @property
    def audio_width(self) -> int:
        """The width of an audio token."""
        return self.audio_heads * self.audio_head_dim

    @property
    def block_rows(self) -> int:
        """AdaLN rows of a block: shift, scale and gate of self-attention, feed-forward and (2.3 on) text attention."""
        return 9 if self.text_modulation else 6


@dataclass(frozen=True)
class ConnectorConfig:
    """One of the two connectors between text features and transformer; the defaults are LTX-2.3's for video."""

    heads: int = 32
    head_dim: int = 128
    layers: int = 8
    registers: int = 128
    gated_attention: bool = True
    feed_forward_bias: bool = True
    rotary: RotaryConfig = field(default_factory=RotaryConfig)
    max_position: float = 4096
    norm_eps: float = 1e-6

    @property
    def width(self) -> int:
        """The width of a token."""
        return self.heads * self.head_dim


@dataclass(frozen=True)
class TextProjectionConfig:
    """From the encoder's hidden states to features. ``audio_width`` None: one projection serves both streams (2.0)."""

    hidden_width: int = 3840
    states: int = HIDDEN_STATES
    video_width: int = 4096
    audio_width: int | None = 2048


def transformer_config(config: dict | None, shapes: Shapes) -> TransformerConfig:
    """Read a transformer. Raises CheckpointError when it is none of ours or has a part that no release has."""
    if shapes and "audio_adaln_single.linear.weight" not in shapes:
        found = "a video-only one, as LTX-Video before LTX-2 is" if "patchify_proj.weight" in shapes else "none"
        raise CheckpointError(
            f"expected an audio-video transformer with audio_adaln_single, found {found}: use an LTX-2 checkpoint"
        )
    config = config or {}
    _check_fixed(config)
    block = "transformer_blocks.0."
    width = _dimension(shapes, "patchify_proj.weight", 0)
    audio_width = _dimension(shapes, "audio_patchify_proj.weight", 0)
    heads, head_dim = _heads(shapes, f"{block}attn1.to_gate_logits.bias", width, config, "", 32, 128)
    audio_heads, audio_head_dim = _heads(
        shapes, f"{block}audio_attn1.to_gate_logits.bias", audio_width, config, "audio_", 32, 64
    )

    def present(name: str, key: str, default: bool) -> bool:
        return name in shapes if shapes else bool(config.get(key, default))

    def size(name: str, axis: int, key: str, default: int) -> int:
        return _dimension(shapes, name, axis) or config.get(key, default)

    if shapes:
        text_modulation = _dimension(shapes, f"{block}scale_shift_table", 0) == 9
        caption_channels = _dimension(shapes, "caption_projection.linear_1.weight", 1)
    else:
        text_modulation = bool(config.get("cross_attention_adaln", not config))
        projected_before = config.get("caption_proj_before_connector", not config)
        caption_channels = None if projected_before else config.get("caption_channels", 3840)
    return TransformerConfig(
        layers=_count(shapes, "transformer_blocks.") or config.get("num_layers", 48),
        heads=heads,
        head_dim=head_dim,
        in_channels=size("patchify_proj.weight", 1, "in_channels", 128),
        out_channels=size("proj_out.weight", 0, "out_channels", 128),
        # not read from the text attention's own tensors: those may be stored packed
        context_width=config.get("cross_attention_dim", heads * head_dim),
        audio_heads=audio_heads,
        audio_head_dim=audio_head_dim,
        audio_in_channels=size("audio_patchify_proj.weight", 1, "audio_in_channels", 128),
        audio_out_channels=size("audio_proj_out.weight", 0, "audio_out_channels", 128),
        audio_context_width=config.get("audio_cross_attention_dim", audio_heads * audio_head_dim),
        caption_channels=caption_channels,
        gated_attention=present(f"{block}attn1.to_gate_logits.weight", "apply_gated_attention", not config),
        text_modulation=text_modulation,
        prompt_timesteps=text_modulation
        and present("prompt_adaln_single.linear.weight", "use_prompt_adaln_single", True),
        feed_forward_bias=present(f"{block}ff.net.0.proj.bias", "ff_bias", True),
        audio_feed_forward_bias=present(f"{block}audio_ff.net.0.proj.bias", "audio_ff_bias", True),
        # a file whose configuration has the embedding but whose tensors lack it means one of zeros
        keyframe_embedding=present("keyframes_abs_pos_embedding", "use_keyframes_abs_pos_embedding", False),
        rotary=_rotary(config),
        max_positions=tuple(config.get("positional_embedding_max_pos", (20, 2048, 2048))),
        audio_max_positions=tuple(config.get("audio_positional_embedding_max_pos", (20,))),
        middle_positions=bool(config.get("use_middle_indices_grid", True)),
        timestep_scale=float(config.get("timestep_scale_multiplier", 1000)),
        av_gate_timestep_scale=float(config.get("av_ca_timestep_scale_multiplier", 1000)),
        norm_eps=float(config.get("norm_eps", 1e-6)),
    )


def connector_config(config: dict | None, shapes: Shapes, stream: str = "video") -> ConnectorConfig:
    """Read the ``video`` or ``audio`` connector. Raises CheckpointError when the parts do not fit together."""
    config = config or {}
    block = "transformer_1d_blocks.0."
    video = (
        {"num_attention_heads": 30, "attention_head_dim": 128, "num_layers": 2}
        if config
        else {"num_attention_heads": 32, "attention_head_dim": 128, "num_layers": 8}
    )
    own = {key: config.get(f"connector_{key}", value) for key, value in video.items()}
    if stream == "audio":
        audio = own if config else {**own, "attention_head_dim": 64}
        own = {key: config.get(f"audio_connector_{key}", value) for key, value in audio.items()}
    gated = (
        f"{block}attn1.to_gate_logits.weight" in shapes
        if shapes
        else bool(config.get("connector_apply_gated_attention", not config))
    )
    if shapes and not gated and not config:
        own["num_attention_heads"] = 30
    width = _dimension(shapes, "learnable_registers", 1)
    heads, head_dim = _heads(
        shapes,
        f"{block}attn1.to_gate_logits.bias",
        width,
        own,
        "",
        own["num_attention_heads"],
        own["attention_head_dim"],
    )
    return ConnectorConfig(
        heads=heads,
        head_dim=head_dim,
        layers=_count(shapes, "transformer_1d_blocks.") or own["num_layers"],
        registers=_dimension(shapes, "learnable_registers", 0) or 128,
        gated_attention=gated,
        feed_forward_bias=f"{block}ff.net.0.proj.bias" in shapes
        if shapes
        else bool(config.get("connector_ff_bias", True)),
        # only the transformer's own theta can be set
        rotary=replace(_rotary(config), theta=RotaryConfig.theta),
        max_position=config.get("connector_positional_embedding_max_pos", [4096])[0],
    )


def text_projection_config(config: dict | None, shapes: Shapes) -> TextProjectionConfig:
    """Read the projection of hidden states. Raises CheckpointError when its tensors are of another kind."""
    config = config or {}
    single = shapes.get("aggregate_embed.weight")
    if single is not None:
        width, flat = single
        return TextProjectionConfig(width, _states(flat, width), width, None)
    video, audio = (shapes.get(f"{stream}_aggregate_embed.weight") for stream in ("video", "audio"))
    if video is None or audio is None:
        raise CheckpointError(
            "expected aggregate_embed.weight or video_ and audio_aggregate_embed.weight, found neither: "
            "load a checkpoint with text_embedding_projection tensors"
        )
    flat = video[1]
    hidden = config.get("caption_channels")
    if not hidden or flat % hidden:
        hidden = flat // HIDDEN_STATES
    return TextProjectionConfig(hidden, _states(flat, hidden), video[0], audio[0])


def _states(flat: int, hidden: int) -> int:
    states, rest = divmod(flat, hidden)
    if rest:
        raise CheckpointError(
            f"the text projection takes {flat} numbers, which is no multiple of the encoder's width {hidden}"
        )
    return states


def _check_fixed(config: dict) -> None:
    for key, expected in _FIXED.items():
        if config.get(key, expected) != expected:
            raise CheckpointError(
                f"the transformer's configuration has {key} {config[key]!r}, expected {expected!r} as in every release"
            )


def _rotary(config: dict) -> RotaryConfig:
    kind = config.get("rope_type", "split")
    if kind not in ("split", "interleaved"):
        raise CheckpointError(f"the configuration has rope_type {kind!r}, expected split or interleaved")
    double = config.get("frequencies_precision", "float32" if config else "float64") == "float64"
    return RotaryConfig(kind == "interleaved", float(config.get("positional_embedding_theta", 10000.0)), double)


def _dimension(shapes: Shapes, name: str, axis: int) -> int | None:
    shape = shapes.get(name)
    return None if shape is None else shape[axis]


def _count(shapes: Shapes, prefix: str) -> int:
    """One more than the highest number after ``prefix``; 0 without such tensors."""
    numbers = (name[len(prefix) :].split(".", 1)[0] for name in shapes if name.startswith(prefix))
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


def _heads(
    shapes: Shapes, gate: str, width: int | None, config: dict, prefix: str, heads: int, head_dim: int
) -> tuple[int, int]:
    """Number and width of heads: one gate a head tells, else the configuration, else the release's number."""
    heads = _dimension(shapes, gate, 0) or config.get(f"{prefix}num_attention_heads", heads)
    if width is None:
        return heads, config.get(f"{prefix}attention_head_dim", head_dim)
    if width % heads:
        raise CheckpointError(
            f"the tensors are {width} wide, which {heads} {prefix.replace('_', ' ')}heads do not divide"
        )
    return heads, width // heads
