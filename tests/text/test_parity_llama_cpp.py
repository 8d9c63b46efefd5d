"""Gemma 3 from a GGUF file that the gguf package writes."""

import pytest
import torch
from safetensors.torch import load_file

from ltx2.errors import CheckpointError
from ltx2.text.gemma import load_text_encoder, run_hidden_states
from ltx2.text.llama_cpp import official_name
from ltx2.text.tokenizer import prompt_ids
from ltx2.tiny import text as tiny_text

gguf = pytest.importorskip("gguf")


def states_of(encoder):
    states = []
    run_hidden_states(
        encoder, torch.tensor([prompt_ids(encoder.tokenizer, "the sea")]), None, lambda i, state: states.append(state)
    )
    return states


@pytest.mark.parametrize("quantized", ["dequantize", "on_use"])
def test_gguf(tiny, tmp_path, quantized):
    source = tiny("2.3")["text_encoder"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, tiny_text.LAYERS)
    path = tmp_path / "gemma-3-12b-it-Q8_0.gguf"
    writer = gguf.GGUFWriter(path, "gemma3")
    for name, tensor in load_file(source).items():
        if name == "spiece_model":
            continue
        # llama.cpp's name for the official one, and its norms
        stored = names.get_name(name, try_suffixes=(".weight",))
        assert official_name(stored) == name.removeprefix("model.")
        values = tensor.float() + (1 if "norm" in name else 0)
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            data = gguf.quantize(values.numpy(), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(stored, data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(stored, values.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="Q8_0.gguf holds no tokenizer"):
        load_text_encoder(path)
    (tmp_path / "tokenizer.model").write_bytes(tiny_text.sentencepiece_proto())
    encoder = load_text_encoder(path, dtype=torch.float32, quantized=quantized)
    same = load_text_encoder(source, dtype=torch.float32)
    for found, expected in zip(states_of(encoder), states_of(same), strict=True):
        assert (found - expected).std() < 0.03 * expected.std()
