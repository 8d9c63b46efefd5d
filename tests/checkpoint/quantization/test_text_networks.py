"""Everything that a prompt goes through, quantised and kept so: no step takes its type from how weights are stored."""

import json

import pytest
import torch
from safetensors import safe_open

from ltx2.checkpoint.models import load_connectors, load_text_projection
from ltx2.checkpoint.quantization.linear import QuantizedLinear
from ltx2.checkpoint.quantization.tiles import tiled_size
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.networks.layers.ops import compute_dtype
from ltx2.text.gemma import encode, encoder_files, load_text_encoder

from ..files import save

E4M3 = torch.float8_e4m3fn
PARTS = ("text_embedding_projection.", "model.diffusion_model.video_embeddings_connector.", "model.layers.",
         "model.diffusion_model.audio_embeddings_connector.")  # fmt: skip


def about(kind: str) -> torch.Tensor:
    return torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)


def plain_fp8(weight):
    return {"weight": weight.to(E4M3)}


def scaled_fp8(weight):
    scale = weight.abs().max() / 448
    return {"weight": (weight / scale).to(E4M3), "weight_scale": scale}


def int8(weight):
    scale = weight.abs().amax(1, keepdim=True) / 127
    return {
        "weight": (weight / scale).round().to(torch.int8),
        "weight_scale": scale,
        "comfy_quant": about("int8_tensorwise"),
    }


def mxfp8(weight):
    if any(extent % 32 for extent in weight.shape):
        return {"weight": weight}
    blocks = tiled_size(len(weight), weight.shape[1] // 32)
    return {
        "weight": (weight * 2**8).to(E4M3),
        "weight_scale": torch.full((blocks,), 127 - 8, dtype=torch.uint8),
        "comfy_quant": about("mxfp8"),
    }


CODECS = ("vae.", "audio_vae.", "vocoder.")


def quantised(source, folder, pack):
    """A file with the linear layers of the text networks packed, without what no prompt goes through."""
    with safe_open(source, "pt") as file:
        tensors, metadata = (
            {name: file.get_tensor(name) for name in file.keys() if not name.startswith(CODECS)},
            file.metadata(),
        )
    for name in list(tensors):
        weight = tensors[name]
        if name.startswith(PARTS) and name.endswith(".weight") and weight.ndim == 2:
            del tensors[name]
            stem = name.removesuffix("weight")
            tensors |= {stem + part: tensor for part, tensor in pack(weight.float()).items()}
    return save(folder / f"{pack.__name__}-{source.name}", tensors, metadata)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
@pytest.mark.parametrize("pack", [plain_fp8, scaled_fp8, int8, mxfp8])
def test_a_prompt_through_kept_weights(tiny, tmp_path, pack, version):
    files = tiny(version)
    model, text = (quantised(files[role], tmp_path, pack) for role in ("transformer", "text_encoder"))
    opened = open_checkpoint(model, encoder_files(text))
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        found, expected = (contexts(opened, text, dtype, mode) for mode in ("on_use", "dequantize"))
        assert found.video.dtype == expected.video.dtype == dtype
        assert torch.allclose(found.video, expected.video, atol=tolerance, rtol=tolerance)
        assert torch.allclose(found.audio, expected.audio, atol=tolerance, rtol=tolerance)


def contexts(opened, text, dtype, mode):
    """What a prompt becomes with the weights of ``opened`` and of the encoder's file ``text``, kept in this way."""
    options = {"dtype": dtype, "quantized": mode}
    encoder = load_text_encoder(text, **options)
    projection, connectors = load_text_projection(opened, **options), load_connectors(opened, **options)
    kept = [layer for layer in projection.modules() if isinstance(layer, QuantizedLinear)]
    assert (len(kept) > 0) == (mode == "on_use")
    for network in (projection, *connectors, encoder.model):
        assert compute_dtype(network) == dtype
    return encode(encoder, projection, connectors, ["a lake at night"])[0]


def test_what_a_network_computes_in():
    linear = torch.nn.Linear(4, 4, dtype=torch.float16)
    assert compute_dtype(linear) == torch.float16
    stored = torch.nn.Module()
    stored.weight = torch.nn.Parameter(torch.zeros(4).to(E4M3), requires_grad=False)
    assert compute_dtype(stored) == torch.bfloat16
    assert compute_dtype(torch.nn.Sequential(stored, linear)) == torch.float16
    assert compute_dtype(torch.nn.Sequential()) == torch.bfloat16
