"""Small sound networks and upsamplers under official names: configs, random weights, and the published packages that
run them.

The published packages are imported inside the functions, so that the rest serves without them.
"""

import copy
import importlib.util
import math
import sys
import types
from contextlib import contextmanager

import torch

from ltx2.config.audio import audio_vae_config, vocoder_config
from ltx2.config.duration import duration_config
from ltx2.config.upsampler import upsampler_config
from ltx2.networks.audio.vae import AudioDecoder, AudioEncoder
from ltx2.networks.audio.vocoder import make_vocoder
from ltx2.networks.transformer.duration_head import DurationHead
from ltx2.networks.video_vae.latent_upsampler import LatentUpsampler


def audio_metadata(channels=128, multipliers=(1, 2, 4), res_blocks=2, latent_channels=8, mel_bins=64) -> dict:
    network = dict(
        ch=channels,
        ch_mult=list(multipliers),
        num_res_blocks=res_blocks,
        in_channels=2,
        out_ch=2,
        z_channels=latent_channels,
        double_z=True,
        resolution=256,
        mel_bins=mel_bins,
        attn_resolutions=[],
        mid_block_add_attention=False,
        norm_type="pixel",
        causality_axis="height",
        dropout=0.0,
    )
    stft = dict(filter_length=1024, hop_length=160, win_length=1024, causal=True)
    preprocessing = dict(audio=dict(sampling_rate=16000), mel=dict(n_mel_channels=mel_bins), stft=stft)
    return {
        "audio_vae": {
            "model": {"params": {"sampling_rate": 16000, "ddconfig": network}},
            "preprocessing": preprocessing,
        }
    }


_BLOCKS = dict(stereo=True, resblock_kernel_sizes=[3, 7, 11], resblock_dilation_sizes=[[1, 3, 5]] * 3)
_AMP = dict(_BLOCKS, resblock="AMP1", activation="snakebeta", use_bias_at_final=False, use_tanh_at_final=False)


def vocoder_20_metadata(channels=1024) -> dict:
    rates = dict(upsample_rates=[6, 5, 2, 2, 2], upsample_kernel_sizes=[16, 15, 8, 4, 4])
    return {"vocoder": dict(_BLOCKS, resblock="1", upsample_initial_channel=channels, **rates)}


def vocoder_23_metadata(channels=1536, extension_channels=512) -> dict:
    first = dict(
        upsample_initial_channel=channels, upsample_rates=[5, 2, 2, 2, 2, 2], upsample_kernel_sizes=[11, 4, 4, 4, 4, 4]
    )
    second = dict(
        upsample_initial_channel=extension_channels,
        upsample_rates=[6, 5, 2, 2, 2],
        upsample_kernel_sizes=[12, 11, 4, 4, 4],
    )
    rates = dict(
        input_sampling_rate=16000, output_sampling_rate=48000, hop_length=80, n_fft=512, win_size=512, num_mels=64
    )
    return {
        "vocoder": {"vocoder": {**_AMP, **first}, "bwe": {**_AMP, **second, **rates, "apply_final_activation": False}}
    }


def short_vocoder_23_metadata() -> dict:
    """Like 2.3 in kind, with fewer stages and a shorter window: a few hundred kilobytes."""
    metadata = copy.deepcopy(vocoder_23_metadata(8, 8))
    metadata["vocoder"]["vocoder"] |= dict(upsample_rates=[16, 10], upsample_kernel_sizes=[32, 20])
    metadata["vocoder"]["bwe"] |= dict(upsample_rates=[16, 15], upsample_kernel_sizes=[32, 31], n_fft=128, win_size=128)
    return metadata


def upsampler_metadata(
    channels=128, width=1024, blocks=4, *, spatial=True, temporal=False, scale=2.0, rational=False
) -> dict:
    return dict(
        _class_name="LatentUpsampler",
        in_channels=channels,
        mid_channels=width,
        num_blocks_per_stage=blocks,
        dims=3,
        spatial_upsample=spatial,
        temporal_upsample=temporal,
        spatial_scale=scale,
        rational_resampler=rational,
    )


UPSAMPLERS = {
    "x2_plain": dict(),
    "x2_rational": dict(rational=True),
    "x1.5": dict(rational=True, scale=1.5),
    "temporal_x2": dict(spatial=False, temporal=True, scale=1.0, rational=True),
    "both_x2": dict(temporal=True),
}


def duration_metadata(video=64, audio=32, width=16, queries=1, heads=4, hidden=16) -> dict:
    head = dict(pooler_hidden_dim=width, num_queries=queries, num_pooler_heads=heads, mlp_hidden=hidden)
    return {"transformer": {"cross_attention_dim": video, "audio_cross_attention_dim": audio}, "duration_head": head}


def build(component: str, metadata: dict, **options):
    """Our network for a component, from metadata alone."""
    if component in ("audio_encoder", "audio_decoder"):
        network = AudioEncoder if component == "audio_encoder" else AudioDecoder
        return network(audio_vae_config(metadata["audio_vae"], {}), **options)
    if component == "vocoder":
        return make_vocoder(vocoder_config(metadata["vocoder"], {}), **options)
    if component == "upsampler":
        return LatentUpsampler(upsampler_config(metadata, {}), **options)
    return DurationHead(duration_config(metadata, {}), **options)


PREFIXES = dict(
    audio_encoder="audio_vae.encoder.",
    audio_decoder="audio_vae.decoder.",
    vocoder="vocoder.",
    duration_head="duration_head.",
)


def random_weights(component: str, metadata: dict, seed: int) -> dict:
    """Random tensors under bare official names, of a size that keeps signals in range; filters and bases are the true
    ones."""
    generator = torch.Generator().manual_seed(seed)
    module = build(component, metadata)
    last_gain = 0.03 if "bwe" in metadata.get("vocoder", {}) else 0.25
    weights = {}
    for name, tensor in module.state_dict().items():
        leaf, shape = name.rsplit(".", 1)[-1], tensor.shape
        if leaf in ("filter", "forward_basis", "inverse_basis", "mel_basis", "kernel"):
            value = tensor.clone()
        elif leaf == "std-of-means":
            value = 0.5 + torch.rand(shape, generator=generator)
        elif "norm" in name and leaf == "weight":
            value = 1 + 0.1 * torch.randn(shape, generator=generator)
        elif len(shape) > 1:
            fan = shape[0] * shape[2] / 4 if "ups." in name and "upsampler" not in name else math.prod(shape[1:])
            gain = 0.3 if ".convs" in name else last_gain if "conv_post" in name else 1.0
            value = torch.randn(shape, generator=generator) * (gain / math.sqrt(fan))
        else:
            value = 0.2 * torch.randn(shape, generator=generator)
        weights[name] = value.bfloat16().float()
    return weights


def random_inputs(component: str, metadata: dict, seed: int) -> dict:
    generator = torch.Generator().manual_seed(1000 + seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    if component == "audio_encoder":
        return {"mel": 3 * noise(1, 2, 43, 64) - 4, "mel_short": noise(1, 2, 4, 64) - 4}
    if component == "audio_decoder":
        return {"latent": noise(2, metadata["audio_vae"]["model"]["params"]["ddconfig"]["z_channels"], 5, 16)}
    if component == "vocoder":
        return {"mel": noise(1, 2, 7, 64) - 2, "mel_loud": 12 * noise(1, 2, 5, 64)}
    if component == "upsampler":
        return {"x": noise(1, metadata["in_channels"], 3, 4, 6)}
    widths = metadata["transformer"]
    return {
        "video": noise(2, 7, widths["cross_attention_dim"]),
        "audio": noise(2, 5, widths["audio_cross_attention_dim"]),
    }


# --- published packages --------------------------------------------------------------------------------------------


@contextmanager
def _without_torchaudio():
    """ltx-core imports torchaudio for its mel alone, which is compared elsewhere."""
    absent = importlib.util.find_spec("torchaudio") is None
    if absent:
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    try:
        yield
    finally:
        if absent:
            del sys.modules["torchaudio"]


def _filled(module, weights: dict, absent=()):
    missing, unexpected = module.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not any(part in name for part in absent)]
    assert not missing and not unexpected, f"names differ: missing {missing[:4]}, unexpected {unexpected[:4]}"
    return module.eval()


def from_ltx_core(component: str, metadata: dict, weights: dict):
    """The same network of ltx-core 1.0.0 with these weights."""
    with _without_torchaudio():
        from ltx_core.model.audio_vae import model_configurator as audio
        from ltx_core.model.upsampler.model_configurator import LatentUpsamplerConfigurator
    configurators = dict(
        audio_encoder=audio.AudioEncoderConfigurator,
        audio_decoder=audio.AudioDecoderConfigurator,
        vocoder=audio.VocoderConfigurator,
        upsampler=LatentUpsamplerConfigurator,
    )
    # its interpolation filter is computed, not stored
    return _filled(configurators[component].from_config(metadata), weights, absent=("resampler.",))


def from_diffusers(component: str, metadata: dict, weights: dict):
    """The same network of diffusers, as a function; latents are normalised on either side here, as it expects them
    raw."""
    if component in ("audio_encoder", "audio_decoder"):
        return _diffusers_audio(component, metadata, weights)
    if component == "vocoder":
        return _diffusers_vocoder(metadata["vocoder"], weights)
    if component == "upsampler":
        from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel

        module = LTX2LatentUpsamplerModel(
            in_channels=metadata["in_channels"],
            mid_channels=metadata["mid_channels"],
            num_blocks_per_stage=metadata["num_blocks_per_stage"],
            spatial_upsample=metadata["spatial_upsample"],
            temporal_upsample=metadata["temporal_upsample"],
            rational_spatial_scale=metadata["spatial_scale"],
            use_rational_resampler=metadata["rational_resampler"],
        )
        return _filled(module, weights)
    from diffusers.pipelines.ltx2.duration_head import LTX2DurationHead

    widths, head = metadata["transformer"], metadata["duration_head"]
    module = LTX2DurationHead(widths["cross_attention_dim"], widths["audio_cross_attention_dim"], *head.values())
    renamed = {}
    for name, tensor in weights.items():
        if "in_proj" in name:
            for letter, part in zip("qkv", tensor.chunk(3)):
                renamed[f"attention_pooler.to_{letter}.{name.rsplit('_', 1)[-1]}"] = part
        else:
            renamed[name.replace("cross_attn.out_proj", "to_out")] = tensor
    return _filled(module, renamed)


def _diffusers_audio(component: str, metadata: dict, weights: dict):
    from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio

    options = metadata["audio_vae"]["model"]["params"]["ddconfig"]
    channels = options["z_channels"]
    vae = AutoencoderKLLTX2Audio(
        base_channels=options["ch"],
        ch_mult=tuple(options["ch_mult"]),
        num_res_blocks=options["num_res_blocks"],
        latent_channels=channels,
        mel_bins=options["mel_bins"],
    )
    half = getattr(vae, component.removeprefix("audio_"))
    _filled(half, {name: tensor for name, tensor in weights.items() if "statistics" not in name})
    # [channels, 1, rows]: the statistics run over channels, and within a channel over frequency rows
    mean, std = (weights[f"per_channel_statistics.{name}-of-means"].view(channels, 1, -1) for name in ("mean", "std"))
    if component == "audio_encoder":
        return lambda mel: (half(mel)[:, :channels] - mean) / std
    return lambda latent: half(latent * std + mean)


def _diffusers_vocoder(options: dict, weights: dict):
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

    words = dict(ups="upsamplers", resblocks="resnets", conv_pre="conv_in", conv_post="conv_out", act_post="act_out")
    renamed = {}
    for name, tensor in weights.items():
        parts = [words.get(part, part) for part in name.split(".")]
        renamed[".".join(part for part in parts if part != "lowpass")] = tensor

    def sizes(part, prefix=""):
        names = {"hidden_channels": "upsample_initial_channel", "upsample_factors": "upsample_rates"}
        names["upsample_kernel_sizes"] = "upsample_kernel_sizes"
        return {f"{prefix}{ours}": part[theirs] for ours, theirs in names.items()}

    if "bwe" not in options:
        return _filled(LTX2Vocoder(**sizes(options)), renamed)
    # by default it does not bound the first generator's sound; the official code does
    module = LTX2VocoderWithBWE(**sizes(options["vocoder"]), **sizes(options["bwe"], "bwe_"), final_act_fn="clamp")
    known = module.state_dict()
    return _filled(
        module, {name: tensor for name, tensor in renamed.items() if name in known or "inverse_basis" not in name}
    )
