"""What is measured: the released shapes of LTX-2.3, or the same in miniature for a CPU."""

import json
from dataclasses import dataclass, replace

from ltx2 import clock
from ltx2.config.audio import AudioVaeConfig, VocoderConfig, audio_vae_config, vocoder_config
from ltx2.config.diffusion_decoder import DiffusionDecoderConfig, diffusion_decoder_config
from ltx2.config.transformer import ConnectorConfig, TextProjectionConfig, TransformerConfig
from ltx2.config.video_vae import VideoVaeConfig, video_vae_config
from ltx2.tiny import configs as tiny_configs
from ltx2.tiny import text as tiny_text

FPS = 24
PICTURES = ((768, 512), (1280, 704), (1920, 1088))


@dataclass(frozen=True)
class Clip:
    """A clip by its picture's size and frames, and the grid of its latent."""

    width: int
    height: int
    frames: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        return clock.latent_frames(self.frames), self.height // 32, self.width // 32

    @property
    def tokens(self) -> int:
        """How many tokens the picture has."""
        frames, rows, columns = self.grid
        return frames * rows * columns

    @property
    def sounds(self) -> int:
        """Tokens of the sound that goes with it."""
        return clock.audio_latents(self.frames, clock.parse_fps(FPS), "ceil")

    @property
    def half(self) -> "Clip":
        """What a first stage makes of it: half the size, on the grid."""
        return replace(self, width=-(-self.width // 64) * 32, height=-(-self.height // 64) * 32)

    def __str__(self) -> str:
        return f"{self.width}×{self.height}×{self.frames}"


def _video_vae() -> VideoVaeConfig:
    own = json.loads(json.dumps(tiny_configs.video_vae("2.3")))  # its blocks share their options
    for half in ("encoder", "decoder"):
        own[f"{half}_base_channels"] = 128
        for (_, options), layers in zip(own[f"{half}_blocks"][::2], (4, 6, 4, 2, 2)):
            options["num_layers"] = layers
    return video_vae_config(own, {})


def _vocoder() -> VocoderConfig:
    own = tiny_configs.vocoder("2.3")
    for generator, channels in (("vocoder", 1536), ("bwe", 512)):
        own[generator]["upsample_initial_channel"] = channels
        for few in ("resblock_kernel_sizes", "resblock_dilation_sizes"):
            del own[generator][few]  # as released where nothing is said
    return vocoder_config(own, {})


def gemma3_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Tensors of Gemma 3 12B with so many of its 48 layers, under their bare names."""
    width, heads, key_heads, head, hidden = 3840, 16, 8, 256, 15360
    layer = {
        "self_attn.q_proj": (heads * head, width),
        "self_attn.k_proj": (key_heads * head, width),
        "self_attn.v_proj": (key_heads * head, width),
        "self_attn.o_proj": (width, heads * head),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "mlp.gate_proj": (hidden, width),
        "mlp.up_proj": (hidden, width),
        "mlp.down_proj": (width, hidden),
    }
    norms = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    layer |= dict.fromkeys(norms, (width,))
    shapes = {"embed_tokens.weight": (262208, width), "norm.weight": (width,)}
    for index in range(layers):
        shapes |= {f"layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    return shapes


@dataclass(frozen=True)
class Sizes:
    """Every shape that a run works with. few_blocks: of the transformer where its kinds are compared with each other;
    sample: a clip on which the slower networks are timed; square: side of the matrices that the card's rate is taken
    with; pieces: of frames that the VAE works on at once, None for the whole clip."""

    name: str
    transformer: TransformerConfig
    clips: tuple[Clip, ...]
    few_blocks: int
    words: int
    square: int
    copied_bytes: int
    file_blocks: int
    video_vae: VideoVaeConfig
    pieces: tuple[int | None, ...]
    sample: Clip
    diffusion: DiffusionDecoderConfig
    audio_vae: AudioVaeConfig
    vocoder: VocoderConfig
    language_model: dict[str, tuple[int, ...]]
    projection: TextProjectionConfig
    connectors: tuple[ConnectorConfig, ConnectorConfig]
    prompt_tokens: tuple[int, ...]
    lora_rank: int


def full() -> Sizes:
    """LTX-2.3 as released."""
    return Sizes(
        name="LTX-2.3 22B",
        transformer=TransformerConfig(),
        clips=tuple(Clip(width, height, 121) for width, height in PICTURES),
        few_blocks=8,
        words=1024,
        square=8192,
        copied_bytes=2**30,
        file_blocks=2,
        video_vae=_video_vae(),
        pieces=(8, None, 32, 16, 4, 2, 1),
        sample=Clip(768, 512, 49),
        diffusion=DiffusionDecoderConfig(),
        audio_vae=AudioVaeConfig(),
        vocoder=_vocoder(),
        language_model=gemma3_shapes(48),
        projection=TextProjectionConfig(),
        connectors=(ConnectorConfig(), ConnectorConfig(head_dim=64)),
        prompt_tokens=(128, 1024),
        lora_rank=384,
    )


def miniature() -> Sizes:
    """The same with the widths of tiny checkpoints."""
    head, sound_head, heads = tiny_configs.HEAD, tiny_configs.AUDIO_HEAD, tiny_configs.HEADS
    width, sound_width = tiny_configs.WIDTH, tiny_configs.AUDIO_WIDTH
    return Sizes(
        name="miniature",
        transformer=TransformerConfig(
            layers=2,
            heads=heads,
            head_dim=head,
            context_width=width,
            audio_heads=heads,
            audio_head_dim=sound_head,
            audio_context_width=sound_width,
        ),
        clips=(Clip(128, 64, 9),),
        few_blocks=1,
        words=16,
        square=64,
        copied_bytes=2**16,
        file_blocks=1,
        video_vae=video_vae_config(tiny_configs.video_vae("2.3"), {}),
        pieces=(2, None),
        sample=Clip(64, 64, 9),
        diffusion=diffusion_decoder_config(tiny_configs.diffusion_vae(), {}),
        audio_vae=audio_vae_config(tiny_configs.audio_vae(), {}),
        vocoder=vocoder_config(tiny_configs.vocoder("2.3"), {}),
        language_model=tiny_text.language_model_shapes("gemma3"),
        projection=TextProjectionConfig(tiny_text.HIDDEN, tiny_text.STATES, width, sound_width),
        connectors=tuple(ConnectorConfig(heads=heads, head_dim=d, layers=1) for d in (head, sound_head)),
        prompt_tokens=(8,),
        lora_rank=2,
    )
