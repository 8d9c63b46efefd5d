"""Files that other programs quantised: named with what to use instead, and nothing of ours is taken for one."""

import pytest
import torch

from ltx2.checkpoint.models import load_transformer
from ltx2.checkpoint.quantization.foreign import _SIGNATURES, INSTEAD, foreign_quantization
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError

from .. import small
from ..files import save

LAYER = "transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize("what, ends", _SIGNATURES, ids=lambda value: str(value))
@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
def test_each_is_named(tmp_path, what, ends, prefix):
    tensors = small.prefixed(small.transformer(), prefix)
    del tensors[f"{prefix}{LAYER}.weight"]
    tensors |= {f"{prefix}{LAYER}{end}": torch.zeros(4, dtype=torch.uint8) for end in ends}
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(save(tmp_path / "a.safetensors", tensors))
    text = str(caught.value)
    assert f"is quantised by {what} ({prefix}{LAYER}" in text and INSTEAD in text and "incomplete" not in text
    assert "\n" not in text and len(text) < 300 + len(str(tmp_path))


def test_nothing_of_ours_is_one(tiny):
    for version in ("2.0", "2.3", "2.5"):
        for path in set(tiny(version).values()):
            assert foreign_quantization(open_checkpoint(path).tensors) is None, path


@pytest.mark.parametrize(
    "beside",
    [
        "weight_zero_point", "zeros", "scale", "scales", "weight.scale", "weight_quantizer", "svd_up", "svd_down",
        "quant_map", "lut", "weight_codebook_2", "w_outliers", "input_quantizer._amax_scale",
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
def test_what_an_unknown_quantiser_puts_beside_a_weight_is_not_taken_for_an_incomplete_file(tmp_path, beside, prefix):
    tensors = small.prefixed(small.transformer(), prefix)
    tensors[f"{prefix}{LAYER}.{beside}"] = torch.ones(4)
    with pytest.raises(CheckpointError, match="quantised in a way that is not known here: use the bf16") as caught:
        load_transformer(open_checkpoint(save(tmp_path / "a.safetensors", tensors)))
    assert beside.split(".")[0] in str(caught.value)


def test_other_tensors_too_many_or_too_few_still_are(tmp_path):
    tensors = small.prefixed(small.transformer())
    for number, more in enumerate(("transformer_blocks.9.attn1.to_q.weight", "scale_of_everything", "x.scale")):
        path = save(tmp_path / f"{number}.safetensors", tensors | {f"model.diffusion_model.{more}": torch.ones(2)})
        with pytest.raises(CheckpointError, match="incomplete or for another version"):
            load_transformer(open_checkpoint(path))
