"""The video VAE beside ltx-core and diffusers, on the same random weights."""

import pytest
import torch

from .samples import decoder, encoder, noise, vae_config

pytestmark = pytest.mark.filterwarnings("ignore")
VERSIONS = ("2.0", "2.3")


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def ltx_core(half, config, weights):
    configurators = pytest.importorskip("ltx_core.model.video_vae.model_configurator")
    kind = configurators.VideoEncoderConfigurator if half == "encoder" else configurators.VideoDecoderConfigurator
    model = kind.from_config({"vae": config})
    model.load_state_dict(weights, strict=True)
    model.decode_noise_scale = 0.0
    return model.eval()


def diffusers_config(config) -> dict:
    kinds = {"space": "spatial", "time": "temporal", "all": "spatiotemporal"}
    down = [entry for entry in config["encoder_blocks"] if entry[0] != "res_x"]
    up = [entry for entry in reversed(config["decoder_blocks"]) if entry[0] != "res_x"]
    widths, width = [], config["encoder_base_channels"]
    for _, params in down:
        width *= params["multiplier"]
        widths.append(width)
    decoder_widths, width = [], config["decoder_base_channels"]
    for _, params in reversed(up):
        width *= params["multiplier"]
        decoder_widths.append(width)
    count = len(up)

    def layers(entries):
        return tuple(params["num_layers"] for name, params in entries if name == "res_x")

    return {
        "latent_channels": config["latent_channels"],
        "block_out_channels": tuple(widths),
        "layers_per_block": layers(config["encoder_blocks"]),
        "spatio_temporal_scaling": (True,) * len(down),
        "downsample_type": tuple(kinds[name.split("_")[1]] for name, _ in down),
        "decoder_block_out_channels": tuple(decoder_widths),
        "decoder_layers_per_block": layers(config["decoder_blocks"]),
        "decoder_spatio_temporal_scaling": (True,) * count,
        "decoder_inject_noise": (False,) * (count + 1),
        "upsample_type": tuple(kinds[name.split("_")[1]] for name, _ in up),
        "upsample_residual": tuple(params.get("residual", False) for _, params in reversed(up)),
        "upsample_factor": tuple(params["multiplier"] for _, params in reversed(up)),
        "timestep_conditioning": config["timestep_conditioning"],
        "decoder_causal": False,
        "encoder_spatial_padding_mode": "zeros",
        "decoder_spatial_padding_mode": config.get("spatial_padding_mode", "reflect"),
    }


def diffusers_names(half, config, weights) -> dict:
    blocks = len(config[f"{half}_blocks"])
    renamed = {}
    for name, tensor in weights.items():
        parts = name.replace("res_blocks", "resnets").split(".")
        if parts[0] == "per_channel_statistics":
            continue
        if parts[0] in ("down_blocks", "up_blocks"):
            index = int(parts[1])
            middle = blocks - 1 if half == "encoder" else 0
            if index == middle:
                parts[:2] = ["mid_block"]
            elif index % 2:
                parts[1:2] = [str(index // 2), "downsamplers" if half == "encoder" else "upsamplers", "0"]
            else:
                parts[1] = str(index // 2 - (half == "decoder"))
        name = (
            ".".join(parts)
            .replace("last_time_embedder", "time_embedder")
            .replace("last_scale_shift_table", "scale_shift_table")
        )
        renamed[name] = tensor
    return renamed


def diffusers(half, config, weights):
    library = pytest.importorskip("diffusers.models.autoencoders.autoencoder_kl_ltx2")
    model = getattr(library.AutoencoderKLLTX2Video(**diffusers_config(config)), half)
    model.load_state_dict(diffusers_names(half, config, weights), strict=True)
    return model.eval()


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("frames", (1, 17))
def test_encoder(version, frames):
    config = vae_config(version, layers=(2, 1, 1, 1, 1))
    model = encoder(version, seed=3, layers=(2, 1, 1, 1, 1))
    clip = noise(2, 3, frames, 64, 96, seed=4).clamp(-1, 1)
    latent = model(clip)
    close(latent, ltx_core("encoder", config, model.state_dict())(clip))
    moments = diffusers("encoder", config, model.state_dict())(clip, causal=True)[:, : config["latent_channels"]]
    close(latent, model.per_channel_statistics.normalize(moments))


@pytest.mark.parametrize("version, timestep", [("2.0", False), ("2.3", False), ("2.0", True), ("2.3", True)])
@pytest.mark.parametrize("frames", (1, 4))
def test_decoder(version, timestep, frames):
    more = {"layers": (1, 2, 1, 1, 1), "timestep_conditioning": timestep}
    config, model = vae_config(version, **more), decoder(version, seed=5, **more)
    latent = noise(2, 4, frames, 3, 2, seed=6)
    pixels = model(latent)
    close(pixels, ltx_core("decoder", config, model.state_dict())(latent))
    time = torch.full((2,), 0.05) if timestep else None
    theirs = diffusers("decoder", config, model.state_dict())
    close(pixels, theirs(model.per_channel_statistics.un_normalize(latent), time, causal=False))


@pytest.mark.parametrize("version", VERSIONS)
def test_noise_of_a_conditioned_decoder_is_theirs(version):
    config, model = (
        vae_config(version, timestep_conditioning=True),
        decoder(version, seed=5, timestep_conditioning=True),
    )
    theirs = ltx_core("decoder", config, model.state_dict())
    theirs.decode_noise_scale = 0.025
    latent = noise(1, 4, 2, 2, 2)
    generators = [torch.Generator().manual_seed(7) for _ in range(2)]
    close(model(latent, generator=generators[0]), theirs(latent, generator=generators[1]))


def test_injected_noise_is_theirs():
    config = vae_config("2.0", latent=4)
    for entry in config["decoder_blocks"]:
        if entry[0] == "res_x":
            entry[1]["inject_noise"] = True
    model = decoder("2.0", seed=5, decoder_blocks=config["decoder_blocks"])
    assert "up_blocks.0.res_blocks.0.per_channel_scale1" in model.state_dict()
    latent = noise(1, 4, 2, 2, 2)
    generators = [torch.Generator().manual_seed(7) for _ in range(2)]
    theirs = ltx_core("decoder", config, model.state_dict())
    close(model(latent, generator=generators[0]), theirs(latent, generator=generators[1]))


def test_tiled_decode_is_theirs():
    tiling = pytest.importorskip("ltx_core.model.video_vae.tiling")
    from ltx2.networks.video_vae.tiling import Tiling, tiled_decode

    config, model = vae_config("2.3"), decoder("2.3", seed=8)
    # Square, as ltx-core 1.0.0 scales the tile of the shorter side.
    latent = noise(1, 4, 7, 5, 5)
    theirs = ltx_core("decoder", config, model.state_dict())
    wanted = tiling.TilingConfig(tiling.SpatialTilingConfig(96, 32), tiling.TemporalTilingConfig(24, 8))
    theirs = torch.cat(list(theirs.tiled_decode(latent, wanted)), 2)
    ours = torch.cat(
        list(tiled_decode(model, latent, Tiling(pixels=96, overlap_pixels=32, frames=24, overlap_frames=8))), 2
    )
    close(ours, theirs)
