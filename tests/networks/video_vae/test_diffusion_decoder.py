"""The diffusion decoder: goldens, names and sizes, small latents, noise, gates of early files."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from ltx2.config.diffusion_decoder import DiffusionDecoderConfig, diffusion_decoder_config
from ltx2.config.video_vae import video_vae_config
from ltx2.errors import CheckpointError, RequestError
from ltx2.networks.video_vae.diffusion_decoder import DiffusionDecoder, fold_gates, pad_latent, patchify, unpatchify
from ltx2.networks.video_vae.model import VideoEncoder
from tests.golden import DATA
from tests.golden import diffusion_decoder as golden

from .diffusion_references import SMALL, random_decoder

ENCODER = {
    "out_channels": 128,
    "base_channels": 128,
    "latent_log_var": "constant",
    "blocks": [["res_x", {"num_layers": 4}], ["compress_space_res", {"multiplier": 2}], ["res_x", {"num_layers": 6}],
               ["compress_time_res", {"multiplier": 2}], ["res_x", {"num_layers": 4}], ["compress_all_res",
               {"multiplier": 2}],
               ["res_x", {"num_layers": 2}], ["compress_all_res", {"multiplier": 1}], ["res_x", {"num_layers": 2}]],
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


def latent(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_golden():
    for path in sorted(Path(DATA / "diffusion_decoder").glob("*.safetensors")):
        differences = dict(golden.differences(path))
        assert len(differences) == 4 and max(differences.values()) <= 1e-5 * 4


def test_released_names_and_sizes():
    decoder = DiffusionDecoder(DiffusionDecoderConfig(), device="meta", dtype=torch.bfloat16)
    state = decoder.state_dict()
    assert len(state) == 310 + 2
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, shape in {
        "conv_in.weight": (2048, 128),
        "det_stages.1.5.attn.qkv.weight": (3072, 1024),
        "det_stages.3.1.mlp.w_down.weight": (512, 2048),
        "det_stages.0.0.attn.q_norm.weight": (64,),
        "upsamples.0.proj.weight": (4096, 2048),
        "upsamples.1.proj.weight": (1024, 1024),
        "upsamples.2.proj.weight": (4096, 512),
        "upsamples.3.proj.bias": (2048,),
        "t_embedder.mlp.0.weight": (384, 256),
        "conv_in_x_t.weight": (256, 48),
        "shared_adaln.proj.weight": (1792, 384),
        "diff_blocks.7.context_proj.weight": (256, 256),
        "diff_blocks.7.scale_shift_table": (7, 256),
        "conv_out.weight": (48, 256),
        "type_emb": (128,),
        "per_channel_statistics.std-of-means": (128,),
    }.items():
        assert shapes[name] == shape
    # The file also holds the encoder: 396 tensors and 1,472,141,794 bytes of bfloat16 in all.
    encoder = VideoEncoder(video_vae_config({"encoder": ENCODER}, {}), device="meta").state_dict()
    state |= {
        f"encoder.{name}": tensor for name, tensor in encoder.items() if not name.startswith("per_channel_statistics")
    }
    assert len(state) == 396 and sum(tensor.numel() for tensor in state.values()) * 2 == 1_472_141_794


def test_config_from_metadata_and_from_shapes():
    released = DiffusionDecoderConfig()
    shapes = {n: tuple(t.shape) for n, t in DiffusionDecoder(released, device="meta").state_dict().items()}
    assert diffusion_decoder_config(None, shapes) == released
    assert diffusion_decoder_config(None, {f"vae.decoder.{n}": s for n, s in shapes.items()}) == released
    metadata = {
        "model_output_type": "v",
        "decoder": {
            "stage_channels": [64, 32, 32, 32, 16],
            "head_dim": 16,
            "in_channels": 8,
            "upsamples": [[[1, 2, 2], 2], [[2, 1, 1], 1], [[2, 2, 2], 1], [[2, 2, 2], 2]],
            "stage5_kernel": [5, 5, 5],
            "default_num_inference_steps": 4,
        },
    }
    config = diffusion_decoder_config(metadata, {"decoder.conv_in.weight": (64, 8)})
    assert (config.output, config.steps, config.kernels[-1], config.type_embedding) == ("v", 4, (5, 5, 5), False)
    assert config.kernels[:-1] == released.kernels[:-1] and config.time_embedding == 384
    small = {n: tuple(t.shape) for n, t in random_decoder().state_dict().items()}
    read = diffusion_decoder_config(None, small)
    assert asdict(replace(read, kernels=SMALL.kernels)) == asdict(SMALL)


def test_wrong_configs_are_one_sentence():
    for changes, message in (
        ({"output": "eps"}, "x0 or v"),
        ({"head_dim": 48}, "head size"),
        ({"depths": (1, 2)}, "depths"),
        ({"channels": (2048, 1024, 512, 512, 128)}, "does not fit itself"),
    ):
        with pytest.raises(CheckpointError, match=message):
            replace(DiffusionDecoderConfig(), **changes)
    with pytest.raises(CheckpointError, match="diffusion VAE"):
        diffusion_decoder_config(None, {"up_blocks.0.conv": (1,)})


def test_geometry():
    config = DiffusionDecoderConfig()
    assert config.smallest_latent == (3, 7, 7) and config.ghost_latents == 2
    assert (config.time_compression, config.space_compression) == (8, 32)
    assert config.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (4, 4, 4), (8, 8, 8))
    pixels = latent(2, 3, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(pixels, 4), 4), pixels)
    assert (
        patchify(pixels, 4)[0, 0, 1, 2, 1 * 16 + 3 * 4 + 2] == pixels[0, 1, 0, 4 + 2, 8 + 3]
    )  # columns vary slower than rows


def test_small_latents_are_padded_and_cropped_back():
    decoder = random_decoder()
    for shape in ((1, 8, 1, 1, 1), (2, 8, 2, 3, 2)):
        small = latent(*shape)
        pixels = decoder(small)
        assert pixels.shape == (shape[0], 3, 8 * shape[2] - 7, 32 * shape[3], 32 * shape[4]) and pixels.isfinite().all()
    small = latent(1, 8, 1, 2, 2)
    padded, crop = pad_latent(small, decoder.config)
    assert padded.shape == (1, 8, 3, 3, 3)
    assert torch.equal(padded[:, :, 2, :2, :2], small[:, :, 0]) and torch.equal(
        padded[:, :, 0, 2, 2], small[:, :, 0, 1, 1]
    )
    noise = latent(*decoder.noise_shape(small), seed=4)
    whole = decoder.denoise(decoder.context(decoder.features(padded)), noise)
    assert torch.equal(decoder(small, noise=noise), whole[:, :, :1, :64, :64]) and torch.equal(
        whole[crop], whole[:, :, :1, :64, :64]
    )
    one = pad_latent(latent(1, 8, 3, 1, 3), decoder.config)
    assert one[1][2] == slice(32, 64)  # half of the missing rows before, the rest behind


def test_noise_is_seeded_and_can_be_given():
    decoder, z = random_decoder(), latent(1, 8, 3, 3, 3)
    assert torch.equal(decoder(z), decoder(z))
    seeded = [decoder(z, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert (
        torch.equal(seeded[0], seeded[1])
        and torch.equal(seeded[0], decoder(z))
        and not torch.equal(seeded[0], seeded[2])
    )
    noise = torch.randn(decoder.noise_shape(z), generator=torch.Generator().manual_seed(0))
    kept = z.clone(), noise.clone()
    assert torch.equal(decoder(z, noise=noise), seeded[0])
    assert torch.equal(z, kept[0]) and torch.equal(noise, kept[1])


def test_low_memory_gives_the_same_pixels(monkeypatch):
    monkeypatch.setattr(
        "ltx2.networks.video_vae.diffusion_decoder.PIECE_ELEMENTS", 2**14
    )  # several pieces of everything
    decoder, z = random_decoder(depths=(1, 1, 1, 1, 1)), latent(1, 8, 3, 3, 7)
    assert (decoder(z) - decoder(z, low_memory=True)).abs().max() < 2e-5


def test_samples_of_a_batch_do_not_touch():
    decoder, z = random_decoder(), latent(2, 8, 3, 3, 3)
    noise = latent(*decoder.noise_shape(z), seed=2)
    both = decoder(z, noise=noise)
    for i in range(2):
        assert (both[i] - decoder(z[i : i + 1], noise=noise[i : i + 1])[0]).abs().max() < 2e-5


def test_wrong_latents_are_one_sentence():
    decoder = random_decoder()
    for bad in (latent(1, 4, 3, 3, 3), latent(8, 3, 3, 3), latent(1, 8, 0, 3, 3)):
        with pytest.raises(RequestError, match=r"expected \[B, 8, T, h, w\]"):
            decoder(bad)
    with pytest.raises(RequestError, match="noise"):
        decoder(latent(1, 8, 3, 3, 3), noise=latent(1, 3, 8, 96, 96))
    with pytest.raises(RequestError, match="steps"):
        decoder(latent(1, 8, 3, 3, 3), steps=0)


def test_gates_of_early_files_become_part_of_the_weights():
    decoder, z = random_decoder(), latent(1, 8, 3, 3, 3)
    generator = torch.Generator().manual_seed(3)
    gated, scaled = {}, {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    for block in ("det_stages.2.1", "diff_blocks.0"):
        layers = {"gate_msa": ("attn.proj.weight", "attn.proj.bias"), "gate_mlp": ("mlp.w_down.weight",)}
        if block.startswith("diff"):
            layers["gate_ctx"] = ("context_proj.weight", "context_proj.bias")
        for gate, names in layers.items():
            gated[f"{block}.{gate}"] = torch.rand(16, generator=generator)
            for name in names:
                shape = (-1, 1) if name.endswith("weight") else (-1,)
                scaled[f"{block}.{name}"] *= gated[f"{block}.{gate}"].view(shape)
    early = {**decoder.state_dict(), **gated, "coarse_head.weight": torch.zeros(3)}
    folded = fold_gates(early)
    assert folded.keys() == scaled.keys() and all(torch.equal(folded[name], scaled[name]) for name in scaled)
    plain = decoder(z)
    decoder.load_state_dict(folded)
    assert not torch.equal(decoder(z), plain)
    assert fold_gates(scaled) == scaled
