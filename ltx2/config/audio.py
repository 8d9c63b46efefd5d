"""Shape of the sound networks: the audio VAE, and the vocoders that turn its mel spectrogram into a waveform."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import clock
from ..errors import CheckpointError


@dataclass(frozen=True)
class AudioVaeConfig:
    """Mel spectrogram and audio VAE. Sample rate, window and hop are those of the mel it reads and writes."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    res_blocks: int = 2
    sound_channels: int = 2
    latent_channels: int = 8
    encoder_out_channels: int = 16  # mean and log variance; only the mean is used
    mel_bins: int = 64
    sample_rate: int = clock.MODEL_SAMPLE_RATE
    window_samples: int = 1024
    hop_samples: int = 160

    @property
    def latent_bins(self) -> int:
        """Frequency rows of the latent."""
        return self.mel_bins // clock.MEL_FRAMES_PER_LATENT

    @property
    def feature_channels(self) -> int:
        """Width of one audio token: latent channels times frequency rows, and the length of the statistics."""
        return self.latent_channels * self.latent_bins


@dataclass(frozen=True)
class GeneratorConfig:
    """One stack of transposed convolutions from mel frames to samples.

    snake: anti-aliased snake activations (2.3 on), leaky ReLU otherwise; last: what bounds the output, "tanh", "clamp"
    or "none".
    """

    channels: int = 1024
    rates: tuple[int, ...] = (6, 5, 2, 2, 2)
    kernels: tuple[int, ...] = (16, 15, 8, 4, 4)
    block_kernels: tuple[int, ...] = (3, 7, 11)
    block_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
    mel_channels: int = 128  # mel bins of all sound channels together
    sound_channels: int = 2
    snake: bool = False
    final_bias: bool = True
    last: str = "tanh"

    @property
    def samples_per_frame(self) -> int:
        """Audio samples that one frame of the mel spectrogram becomes."""
        return math.prod(self.rates)


@dataclass(frozen=True)
class BandwidthExtensionConfig:
    """Second generator of 2.3 on: reads the first one's sound as a mel and adds what lies above its band."""

    generator: GeneratorConfig
    input_sample_rate: int = 16_000
    window_samples: int = 512
    hop_samples: int = 80
    mel_bins: int = 64


@dataclass(frozen=True)
class VocoderConfig:
    """Vocoder of a release. extension: None for 2.0; sample_rate: of the sound that comes out."""

    generator: GeneratorConfig
    sample_rate: int
    extension: BandwidthExtensionConfig | None = None


# --- audio VAE -----------------------------------------------------------------------------------------------------


def audio_vae_config(config: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]) -> AudioVaeConfig:
    """Config from the checkpoint's ``audio_vae`` dictionary, or from tensor shapes alone where there is none.

    shapes: official tensor names of the encoder, the decoder or both, bare or with their prefixes.
    Raises CheckpointError for a layout that LTX-2 does not have.
    """
    config = (config or {}).get("audio_vae", config or {})
    params = config.get("model", {}).get("params", {})
    network = params.get("ddconfig", {})
    if not network:
        return _audio_from_shapes(shapes)
    supported = dict(
        norm_type="pixel",
        causality_axis="height",
        attn_resolutions=[],
        mid_block_add_attention=False,
        resamp_with_conv=True,
    )
    for key, only in supported.items():
        value = network.get(key, only)
        if (list(value) if isinstance(only, list) else value) != only:
            raise CheckpointError(
                f"audio VAE config has {key} {value!r}, expected {only!r}: the file is not an LTX-2 audio VAE"
            )
    preprocessing = config.get("preprocessing", {})
    mel, stft = preprocessing.get("mel", {}), preprocessing.get("stft", {})
    if not stft.get("causal", True):
        raise CheckpointError(
            "audio VAE config has a stft that is not causal, expected a causal one: the file is not an LTX-2 audio VAE"
        )
    latent_channels = network.get("z_channels", 8)
    return AudioVaeConfig(
        channels=network.get("ch", 128),
        multipliers=tuple(network.get("ch_mult", (1, 2, 4))),
        res_blocks=network.get("num_res_blocks", 2),
        sound_channels=network.get("in_channels", 2),
        latent_channels=latent_channels,
        encoder_out_channels=latent_channels * (2 if network.get("double_z", True) else 1),
        mel_bins=network.get("mel_bins")
        or mel.get("n_mel_channels")
        or config.get("variables", {}).get("mel_bins")
        or 64,
        sample_rate=params.get("sampling_rate", clock.MODEL_SAMPLE_RATE),
        window_samples=stft.get("filter_length", 1024),
        hop_samples=stft.get("hop_length", 160),
    )


def _audio_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> AudioVaeConfig:
    def half(stem: str, levels: str) -> dict[str, tuple[int, ...]]:
        found = {name.split(f"{stem}.", 1)[1]: tuple(shape) for name, shape in shapes.items() if f"{stem}." in name}
        if not found and any(name.startswith(f"{levels}.") for name in shapes):
            found = {name: tuple(shape) for name, shape in shapes.items()}
        return found if "conv_in.conv.weight" in found else {}

    encoder, decoder = half("encoder", "down"), half("decoder", "up")
    if not encoder and not decoder:
        raise CheckpointError(
            "no audio VAE encoder or decoder among these tensors: choose a file that holds audio_vae weights"
        )
    part, stem, extra = (encoder, "down", 0) if encoder else (decoder, "up", 1)
    widths = _by_index(part, rf"{stem}\.(\d+)\.block\.0\.conv1\.conv\.weight")
    blocks = _by_index(part, rf"{stem}\.0\.block\.(\d+)\.conv1\.conv\.weight")
    # The decoder's own narrowest width need not be its first, and nothing else depends on the unit.
    channels = encoder["conv_in.conv.weight"][0] if encoder else math.gcd(*(shape[0] for shape in widths))
    statistics = next(
        (shape[0] for name, shape in shapes.items() if name.endswith("per_channel_statistics.mean-of-means")), None
    )
    mel_bins = AudioVaeConfig.mel_bins
    if decoder:
        latent_channels = decoder["conv_in.conv.weight"][1]
        mel_bins = statistics // latent_channels * clock.MEL_FRAMES_PER_LATENT if statistics else mel_bins
    else:
        # Whether the encoder writes variances too is told by the statistics, at the released number of mel bins.
        out_channels = encoder["conv_out.conv.weight"][0]
        latent_channels = statistics * clock.MEL_FRAMES_PER_LATENT // mel_bins if statistics else out_channels // 2
    return AudioVaeConfig(
        channels=channels,
        multipliers=tuple(shape[0] // channels for shape in widths),
        res_blocks=len(blocks) - extra,
        sound_channels=encoder["conv_in.conv.weight"][1] if encoder else decoder["conv_out.conv.weight"][0],
        latent_channels=latent_channels,
        encoder_out_channels=encoder["conv_out.conv.weight"][0] if encoder else 2 * latent_channels,
        mel_bins=mel_bins,
    )


def _by_index(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> list[tuple[int, ...]]:
    """Shapes of the numbered tensors that fit a pattern, in order. Raises CheckpointError where one is missing."""
    found = {int(match[1]): tuple(shape) for name, shape in shapes.items() if (match := re.fullmatch(pattern, name))}
    if not found or sorted(found) != list(range(len(found))):
        raise CheckpointError(f"tensors {pattern} are not numbered from 0 on: the file is incomplete or not LTX-2's")
    return [found[index] for index in range(len(found))]


# --- vocoder -------------------------------------------------------------------------------------------------------

# Strides are not in the weights; these are the released pairs of kernel sizes and strides.
_RATES = {
    (16, 15, 8, 4, 4): (6, 5, 2, 2, 2),
    (11, 4, 4, 4, 4, 4): (5, 2, 2, 2, 2, 2),
    (12, 11, 4, 4, 4): (6, 5, 2, 2, 2),
}


def vocoder_config(config: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]) -> VocoderConfig:
    """Config from the checkpoint's ``vocoder`` dictionary, or from tensor shapes alone where there is none.

    shapes: tensor names with the leading ``vocoder.`` stripped once. Raises CheckpointError for an unknown layout.
    """
    config = config or {}
    if "vocoder" in config and "bwe" not in config:
        config = config["vocoder"]  # the whole of the file's metadata
    extended = "bwe" in config if config else "bwe_generator.conv_pre.weight" in shapes
    if not extended:
        generator = _generator(config, shapes, "", kind="1", last="tanh")
        rate = config.get("output_sampling_rate", generator.samples_per_frame * clock.MEL_FRAMES_PER_SECOND)
        return VocoderConfig(generator, sample_rate=rate)
    options = config.get("bwe", {})
    basis = shapes.get("mel_stft.stft_fn.forward_basis", (0, 1, 512))
    mel = shapes.get("mel_stft.mel_basis", (64, 0))
    extension = BandwidthExtensionConfig(
        generator=_generator(options, shapes, "bwe_generator.", kind="AMP1", last="none"),
        input_sample_rate=options.get("input_sampling_rate", 16_000),
        window_samples=options.get("n_fft", basis[-1]),
        hop_samples=options.get("hop_length", 80),
        mel_bins=options.get("num_mels", mel[0]),
    )
    output_rate = options.get("output_sampling_rate", 48_000)
    if output_rate % extension.input_sample_rate or output_rate * extension.hop_samples != (
        extension.input_sample_rate * extension.generator.samples_per_frame
    ):
        raise CheckpointError(
            f"vocoder goes from {extension.input_sample_rate} Hz to {output_rate} Hz by "
            f"{extension.generator.samples_per_frame} samples "
            f"for {extension.hop_samples}, expected a whole factor that both agree on: the vocoder config is damaged"
        )
    return VocoderConfig(
        _generator(config.get("vocoder", {}), shapes, "vocoder.", kind="AMP1", last="clamp"), output_rate, extension
    )


def _generator(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], stem: str, *, kind: str, last: str
) -> GeneratorConfig:
    if not config:
        return _generator_from_shapes(shapes, stem, snake=kind == "AMP1", last=last)
    supported = dict(resblock=kind, stereo=True) | (dict(activation="snakebeta") if kind == "AMP1" else {})
    for key, only in supported.items():
        if config.get(key, only) != only:
            raise CheckpointError(
                f"vocoder config has {key} {config[key]!r}, expected {only!r}: the file is not an LTX-2 vocoder"
            )
    if last != "none":
        last = "tanh" if config.get("use_tanh_at_final", True) else "clamp"
    released = GeneratorConfig()
    generator = GeneratorConfig(
        channels=config.get("upsample_initial_channel", released.channels),
        rates=tuple(config.get("upsample_rates", released.rates)),
        kernels=tuple(config.get("upsample_kernel_sizes", released.kernels)),
        block_kernels=tuple(config.get("resblock_kernel_sizes", released.block_kernels)),
        block_dilations=tuple(map(tuple, config.get("resblock_dilation_sizes", released.block_dilations))),
        mel_channels=shapes.get(f"{stem}conv_pre.weight", (0, released.mel_channels))[1],
        snake=kind == "AMP1",
        final_bias=config.get("use_bias_at_final", True),
        last=last,
    )
    _require_equal_lengths("upsample_rates and upsample_kernel_sizes", generator.rates, generator.kernels)
    _require_equal_lengths(
        "resblock_kernel_sizes and resblock_dilation_sizes", generator.block_kernels, generator.block_dilations
    )
    return generator


def _require_equal_lengths(names: str, first: Sequence, second: Sequence) -> None:
    if len(first) != len(second) or not first:
        raise CheckpointError(
            f"vocoder config has {len(first)} and {len(second)} {names}, expected as many of each: the config is "
            "damaged"
        )


def _generator_from_shapes(
    shapes: Mapping[str, tuple[int, ...]], stem: str, *, snake: bool, last: str
) -> GeneratorConfig:
    here = {name[len(stem) :]: tuple(shape) for name, shape in shapes.items() if name.startswith(stem)}
    if "conv_pre.weight" not in here or "conv_post.weight" not in here:
        raise CheckpointError("no vocoder among these tensors: choose a file that holds vocoder weights")
    kernels = tuple(shape[2] for shape in _by_index(here, r"ups\.(\d+)\.weight"))
    if kernels not in _RATES:
        raise CheckpointError(
            f"vocoder has upsampling kernels {list(kernels)}, which no release has, and the file carries no config "
            "that names their "
            "strides: use a file with its metadata"
        )
    blocks = _by_index(here, r"resblocks\.(\d+)\.convs1\.0\.weight")
    per_stage = len(blocks) // len(kernels)
    layers = len(_by_index(here, r"resblocks\.0\.convs1\.(\d+)\.weight"))
    return GeneratorConfig(
        channels=here["conv_pre.weight"][0],
        rates=_RATES[kernels],
        kernels=kernels,
        block_kernels=tuple(shape[2] for shape in blocks[:per_stage]),
        block_dilations=(tuple(range(1, 2 * layers, 2)),) * per_stage,
        mel_channels=here["conv_pre.weight"][1],
        sound_channels=here["conv_post.weight"][0],
        snake=snake,
        final_bias="conv_post.bias" in here,
        last=last,
    )
