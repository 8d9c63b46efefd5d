"""Networks of which the host left part in main memory give the same, with LoRAs and with weights that stay quantised.

The machine needs no card: tensors only say that they are on one, and an operation on tensors of two places fails as it
would there.
"""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ltx2.checkpoint.quantization.gguf_blocks import BLOCK_TYPES
from ltx2.checkpoint.quantization.packed import PackedWeight
from ltx2.checkpoint.quantization.tiles import tiled_size
from ltx2.config.transformer import transformer_config

from ..networks.released_shapes import CONFIGS
from . import host_with_card
from .conftest import REAL
from .host_with_card import PLENTY, resolve_request
from .network_calls import calls, noise, one
from .samples import frames
from .second_device import CARD, CPU, Placed
from .shelf import load, loaded_anew, shelf  # noqa: F401

SAME = "as the preset says"
LORA = "refine.distilled_lora_strength=0.8"
FILM = {
    "prompt": "A lake.", "negative_prompt": "", "seconds": 9 / 24, "width": 64, "height": 64, "fps": 24.0,
    "preset": "ltx2_fast",
    "seed": 5, "video_overlap": 1, "audio_overlap": 1,
}  # fmt: skip


@pytest.fixture
def card(pack, monkeypatch):
    """``card(keeps)``: from now on the host finds one and keeps so much of a network there. ``with card.running():
    …``"""

    def give(keeps):
        if keeps != "nothing" and not REAL:
            pytest.skip("the stand-in host moves nothing")
        if keeps == "pages" and not host_with_card.has_pages():
            pytest.skip("this host has no dynamic loading")
        host_with_card.give(monkeypatch, keeps)

    give.running = lambda: host_with_card.running(monkeypatch)
    return give


def in_single_precision(network):
    """The host rounds weights that it patches on the card at random, and those that it patches at use not at all."""
    import comfy.model_management as mm

    placed = any(isinstance(parameter, Placed) for parameter in network.parameters())
    network.float()
    if placed:
        resolve_request(network)
    if hasattr(mm, "archive_model_dtypes"):
        mm.archive_model_dtypes(network)


def close(found, expected, tolerance=1e-4) -> bool:
    return all(
        tensor.device == CARD and torch.allclose(tensor.cpu(), wanted, atol=tolerance, rtol=tolerance)
        for tensor, wanted in zip(found, expected, strict=True)
    )


def places(network) -> set[torch.device]:
    return {tensor.device for tensor in (*network.parameters(), *network.buffers())}


def weights(network) -> dict[str, torch.Tensor]:
    return {name: tensor.cpu().clone() for name, tensor in (*network.named_parameters(), *network.named_buffers())}


CASES = [("2.3", "nothing"), ("2.0", "half"), ("2.5", "half"), ("2.3", "pages")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "version, keeps", CASES if REAL else [(version, "nothing") for version in ("2.0", "2.3", "2.5")]
)
def test_every_network_gives_the_same(run, loaded_anew, shelf, pack, card, version, keeps):  # noqa: F811
    import comfy.model_management as mm

    card(keeps)
    host, merging = pack.nodes.host, pack.ltx2.checkpoint.lora
    lora, parts = shelf(version)["distilled_lora"], loaded_anew(version)
    in_single_precision(parts["model"].patcher.model)
    parts["model"] = run("ApplyLora", model=parts["model"], lora=lora, strength=0.5).args[0]
    differences = merging.read_lora(host.model_path(lora, "loras"))
    for name, (patcher, call) in calls(parts).items():
        network = patcher.model
        before = weights(network)
        with torch.inference_mode():
            expected = call(
                merging.merge_loras(network, [(differences, 0.5)]) if name == "transformer" else network, CPU
            )
        with card.running():
            host.load(patcher)
            if keeps != "pages":
                assert CARD not in places(network) if keeps == "nothing" else CPU in places(network)
                assert keeps == "nothing" or name != "transformer" or CARD in places(network)
            assert close(call(network, CARD), expected), name
            if keeps == "half" and name in ("transformer", "language model", "upsampler"):
                patcher.partially_unload(CPU, patcher.model_size())
                assert close(call(network, CARD), expected), f"{name}, unloaded again in part"
                patcher.partially_load(CARD, PLENTY)
                assert CPU not in places(network) and close(call(network, CARD), expected), f"{name}, loaded as a whole"
            mm.unload_all_models()
            after = weights(network)
        assert all(torch.equal(after[key], before[key]) for key in before), name


def write_fp8(path, plain):
    """A checkpoint whose blocks have weights of eight bits."""
    with safe_open(plain, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    for name in [
        name
        for name in tensors
        if ".transformer_blocks." in name and name.endswith("weight") and tensors[name].ndim == 2
    ]:
        scale = tensors[name].float().abs().max() / 448
        tensors |= {name: (tensors[name].float() / scale).to(torch.float8_e4m3fn), f"{name}_scale": scale}
    save_file(tensors, path, metadata)


@pytest.mark.slow
def test_a_film_is_the_same(run, shelf, card, folders):  # noqa: F811
    """Through one node: text, a picture, two stages of a model of eight bits with LoRAs, and sound."""
    names = shelf("2.3")
    checkpoints = folders / "models" / "checkpoints"
    write_fp8(checkpoints / "fp8.safetensors", checkpoints / names["transformer"])

    def made():
        parts = load(run, {**names, "transformer": "fp8.safetensors"})
        model = run("ApplyLora", model=parts["model"], lora=names["distilled_lora"], strength=0.5).args[0]
        settings = run(
            "Preset", preset="ltx2_fast", steps=1, refine_steps=2, sampler=SAME, two_stages=SAME, overrides=LORA
        ).args[0]
        return {**FILM, **parts, "model": model, "image": frames(1, 64, 64), "settings": settings}

    with torch.inference_mode():
        expected = run("Generate", **made()).args
    card("nothing" if not REAL else "pages" if host_with_card.has_pages() else "half")
    given = made()
    with card.running():
        found = run("Generate", **given).args
    assert found[0].device == CPU and torch.allclose(found[0], expected[0], atol=1e-4)
    assert torch.allclose(found[1]["waveform"], expected[1]["waveform"], atol=1e-3)


PACKED = {  # storage format → its parts, of a weight of 64 × 256
    "fp8": lambda: {"weight": noise(64, 256).to(torch.float8_e4m3fn), "scale": torch.tensor(0.5)},
    "int8": lambda: {"weight": (noise(64, 256) * 40).to(torch.int8), "scale": torch.rand(64, 1)},
    "nvfp4": lambda: {
        "weight": torch.arange(64 * 128).view(64, 128).to(torch.uint8), "tensor_scale": torch.tensor(0.25),
        "scale": torch.ones(tiled_size(64, 16)).to(torch.float8_e4m3fn),
    },
    "gguf": lambda: {"weight": torch.tensor([0, 60, *range(32)], dtype=torch.uint8).repeat(64 * 8)},
}  # fmt: skip


@pytest.mark.parametrize("keeps", ["nothing", "half", "pages"])
def test_quantised_weights_of_every_format(pack, card, keeps):
    """All bits of storage stay as they are on the way, and what the dynamic loading has room for stays on the card."""
    import comfy.model_management as mm

    card(keeps)
    host, quantization = pack.nodes.host, pack.ltx2.checkpoint.quantization
    layers, formats = quantization.linear, quantization.formats
    kinds = {
        "fp8": formats.fp8.Fp8(),
        "int8": formats.int8.Int8(64),
        "nvfp4": formats.nvfp4.Nvfp4(),
        "gguf": quantization.gguf_blocks.Gguf(BLOCK_TYPES[8]),
    }
    adapters = pack.ltx2.checkpoint.adapters
    changes = [
        adapters.difference.LoadedDifference(kind, 1.0, parts)
        for kind, parts in (
            (adapters.kinds.low_rank.LowRank(), {"up": noise(64, 80), "down": noise(80, 256)}),
            (adapters.kinds.whole.Whole(), {"difference": noise(64, 256)}),
        )
    ]
    network = torch.nn.ModuleDict(
        {
            name: layers.QuantizedLinear(PackedWeight(form, (64, 256), PACKED[name]()), noise(64), changes)
            for name, form in kinds.items()
        }
    )
    x = noise(3, 256)
    expected = [layer(x) for layer in network.values()]
    pack.nodes.host.adopt(network)
    patcher = host.patcher(network)
    if REAL:
        assert patcher.model_size() == sum(tensor.nbytes for tensor in network.parameters())
    before = weights(network)
    with card.running():
        host.load(patcher)
        assert CPU in places(network)
        for _ in range(2):
            assert close([layer(x.to(CARD)) for layer in network.values()], expected)
        if keeps == "pages":
            assert network.dynamic_vbars[CARD].filled
        mm.unload_all_models()
        after = weights(network)
    assert all(torch.equal(bits(after[key]), bits(before[key])) for key in before)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def test_the_host_patches_layers_and_the_pack_what_blocks_own(run, loaded_anew, pack, folders):  # noqa: F811
    """A LoRA may change tables too, which no loading of the host would patch."""
    model = loaded_anew()["model"]
    network, names = (
        model.patcher.model,
        ("transformer_blocks.0.scale_shift_table", "transformer_blocks.0.attn1.to_q.weight"),
    )
    before = {name: network.get_parameter(name).detach().clone() for name in names}
    differences = {
        f"diffusion_model.{name.removesuffix('.weight')}.diff": torch.ones_like(tensor)
        for name, tensor in before.items()
    }
    save_file(differences, folders / "models" / "loras" / "tables.safetensors")
    once = run("ApplyLora", model=model, lora="tables.safetensors", strength=0.5).args[0]
    twice = run("ApplyLora", model=once, lora="tables.safetensors", strength=1.0).args[0]
    for value, added in ((once, 0.5), (twice, 1.5), (model, 0.0), (once, 0.5), (model, 0.0)):
        pack.nodes.host.load(value.patcher)
        for name in names:
            assert torch.allclose(network.get_parameter(name), before[name] + added, atol=0.02 if added else 0), (
                name,
                added,
            )


@pytest.mark.skipif(not REAL, reason="needs ComfyUI's own upsampler")
@pytest.mark.parametrize("keeps", ["nothing", "half"])
def test_comfyuis_own_upsampler(loaded_anew, shelf, pack, card, keeps):  # noqa: F811
    """Hosts up to 0.28 make it of layers that do not follow their input."""
    from comfy_extras.nodes_hunyuan import LatentUpscaleModelLoader

    card(keeps)
    native = LatentUpscaleModelLoader.execute(shelf("2.3")["spatial_upsampler"]).args[0]
    patcher = pack.nodes.models.upsampler_of(native).patcher
    with torch.inference_mode():
        expected = one(noise(1, 128, 2, 2, 2))(patcher.model, CPU)
    with card.running():
        pack.nodes.host.load(patcher)
        assert CPU in places(patcher.model) and close(one(noise(1, 128, 2, 2, 2))(patcher.model, CARD), expected)


def on_card_always(network) -> int:
    """Bytes that dynamic loading does not leave behind: what is in no layer of the host's kind, and layers of up to 16
    KiB."""
    total = 0
    for layer in network.modules():
        own = sum(tensor.nbytes for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)))
        total += own if own <= 16 * 1024 or not hasattr(layer, "comfy_cast_weights") else 0
    return total


def test_little_of_a_released_transformer_has_to_be_on_the_card(pack):
    config = transformer_config(CONFIGS["2.3"], {})
    network = pack.ltx2.networks.transformer.model.Transformer(
        config, ops=pack.nodes.host.OPS, device="meta", dtype=torch.bfloat16
    )
    patcher = pack.nodes.host.patcher(network)
    assert not REAL or patcher.model_size() == sum(tensor.nbytes for tensor in network.parameters())
    assert on_card_always(network) < 13e6
    blocks = network.transformer_blocks
    for name, linear in [(name, layer) for name, layer in blocks.named_modules() if isinstance(layer, torch.nn.Linear)]:
        parts = {
            "weight": torch.empty_like(linear.weight, dtype=torch.float8_e4m3fn),
            "scale": torch.empty((), device="meta"),
        }
        packed = PackedWeight(pack.ltx2.checkpoint.quantization.formats.fp8.Fp8(), tuple(linear.weight.shape), parts)
        rows, columns = linear.weight.shape
        factors = {"up": linear.weight.new_empty(rows, 384), "down": linear.weight.new_empty(384, columns)}
        change = pack.ltx2.checkpoint.adapters.difference.LoadedDifference(None, 1.0, factors)
        stem, _, last = name.rpartition(".")
        setattr(
            blocks.get_submodule(stem),
            last,
            pack.ltx2.checkpoint.quantization.linear.QuantizedLinear(packed, linear.bias, [change]),
        )
    pack.nodes.host.adopt(network)
    assert on_card_always(network) < 13e6


def test_the_card_refuses_what_was_left_behind(pack, card):
    card("nothing")
    layer = torch.nn.Linear(4, 4)
    with card.running(), pytest.raises(RuntimeError, match="same device"):
        layer(torch.ones(1, 4).to(CARD))
    with card.running():
        assert layer.to(CARD)(torch.ones(1, 4).to(CARD)).device == CARD
