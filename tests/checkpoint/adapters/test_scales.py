"""Whatever states an alpha counts: tensors, diffusers' metadata, plain keys, PEFT's own file beside the weights."""

import json

import pytest
import torch

from ltx2.checkpoint.adapters.peft_config import read_peft_config
from ltx2.checkpoint.lora import Scaled, match_lora, merged, read_lora
from ltx2.errors import CheckpointError

from ..files import save

MODULES = ("transformer_blocks.0.attn1.to_q", "transformer_blocks.0.ff.net.0.proj")
RANK = 4


def lora(tmp_path, metadata, *, name="lora", prefix="transformer.", more=(), rank=RANK):
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for module in MODULES:
        tensors[f"{prefix}{module}.lora_A.weight"] = torch.randn(rank, 8, generator=g)
        tensors[f"{prefix}{module}.lora_B.weight"] = torch.randn(16, rank, generator=g)
    return read_lora(save(tmp_path / f"{name}.safetensors", tensors | dict(more), metadata))


def scales(lora) -> list[float]:
    return [lora.differences[module].kind.scale for module in MODULES]


def packed(**values) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in values.items()})}


WAYS = {
    "diffusers": (packed(r=4, lora_alpha=16), [4, 4]),
    "diffusers, as text": (packed(r="4", lora_alpha="16"), [4, 4]),
    "diffusers, nested": ({"lora_adapter_metadata": '{"transformer": {"lora_alpha": 16}}'}, [4, 4]),
    "keys": ({"transformer.r": "4", "transformer.lora_alpha": "16"}, [4, 4]),
    "bare keys": ({"r": "4", "lora_alpha": "16"}, [4, 4]),
    "by the root": (packed(lora_alpha=16, use_rslora=True), [8, 8]),
    "by the root, as text": ({"lora_alpha": "16", "use_rslora": "True"}, [8, 8]),
    "a pattern": (packed(lora_alpha=16, alpha_pattern={"attn1.to_q": 2}), [0.5, 4]),
    "a whole name": (packed(lora_alpha=16, alpha_pattern={MODULES[1]: 2.0}), [4, 0.5]),
    "an anchored pattern": (
        packed(lora_alpha=4, alpha_pattern={r"^transformer_blocks\.\d+\.attn1\.to_q": 2}), [0.5, 1],
    ),
    "part of a name": (packed(lora_alpha=4, alpha_pattern={"o_q": 2}), [1, 1]),
    "the last that matches": (packed(lora_alpha=4, alpha_pattern={r".*\.to_q": 2, "to_q": 8}), [0.5, 1]),
    "alternatives": (packed(lora_alpha=4, alpha_pattern={"(to_q|proj)": 2}), [0.5, 0.5]),
    "a pattern alone": ({"alpha_pattern": '{"to_q": 2}'}, [0.5, 1]),
    "another component": ({"lora_adapter_metadata": '{"text_encoder.lora_alpha": 16}'}, [1, 1]),
    "two components": ({"transformer.lora_alpha": "2", "text_encoder.lora_alpha": "16"}, [0.5, 0.5]),
    "somebody's name for it": ({"adapter_config": '{"peft_type": "LORA", "lora_alpha": 2}'}, [0.5, 0.5]),
    "nothing": ({"license": "lora"}, [1, 1]),
    "what kohya's scripts note about the training": ({"ss_network_alpha": "1", "ss_network_dim": "4"}, [1, 1]),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", ["transformer.", "diffusion_model.", "base_model.model.", ""])
def test_every_way(tmp_path, way, prefix):
    metadata, expected = WAYS[way]
    found = lora(tmp_path, metadata, prefix=prefix)
    assert scales(found) == pytest.approx(expected) and not found.notes


def test_stored_alphas_win(tmp_path):
    more = {f"transformer.{MODULES[0]}.alpha": torch.tensor(2.0)}
    assert scales(lora(tmp_path, packed(lora_alpha=16), more=more)) == [0.5, 4]


@pytest.mark.parametrize(
    "name, others, counts",
    [("adapter_model", 0, True), ("adapter_model-00001", 1, True), ("lora", 0, True), ("lora", 1, False)],
)
def test_the_file_that_peft_writes_beside(tmp_path, name, others, counts):
    """It is of the file that PEFT writes, or of the only one that there is."""
    for number in range(others):
        save(tmp_path / f"other{number}.safetensors", {"x": torch.ones(1)})
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 16}))
    assert scales(lora(tmp_path, {}, name=name, prefix="base_model.model.")) == ([4, 4] if counts else [1, 1])


def test_whole_kronecker_factors_of_peft_are_scaled_by_the_rank_that_it_states(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LOKR", "r": 32, "alpha": 8}))
    parts = {"lokr_w1": torch.ones(2, 2), "lokr_w2": torch.ones(8, 4)}
    path = tmp_path / "adapter_model.safetensors"
    found = read_lora(save(path, {f"base_model.model.{MODULES[0]}.{part}": t for part, t in parts.items()}))
    matched = match_lora(found, {f"{MODULES[0]}.weight": (16, 8)}).matched[f"{MODULES[0]}.weight"]
    assert torch.equal(merged(torch.zeros(16, 8), [Scaled(matched, 1.0)]), torch.full((16, 8), 0.25))


DAMAGED = (
    "{not json", "[]", "null", '"text"', "[" * 100_000, '{"transformer.lora_alpha": "nine"}', '{"lora_alpha": null}',
    '{"lora_alpha": NaN}',
    '{"lora_alpha": 1e308}', '{"lora_alpha": 1e999}', '{"lora_alpha": [1]}', '{"lora_alpha": {}}',
    '{"lora_alpha": true}', '{"lora_alpha": 4, "alpha_pattern": 5}', '{"lora_alpha": 4, "alpha_pattern": {"(a+)+": 1}}',
    '{"lora_alpha": 4, "alpha_pattern": {"' + ".*" * 50 + '": 1}}', '{"lora_alpha": 4, "alpha_pattern": {"((": 1}}',
)  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: text[:40])
def test_damaged_metadata_is_noted_and_does_not_count(tmp_path, text):
    found = lora(tmp_path, {"lora_adapter_metadata": text})
    assert scales(found) == [1, 1]
    expected = text != '{"lora_alpha": null}'
    assert bool(found.notes) == expected and all("\n" not in note and len(note) < 200 for note in found.notes)
    assert not expected or "lora.safetensors" in found.notes[0]


def test_patterns_of_a_file_cannot_take_long(tmp_path):
    slow = {"(.*)*x": 1, "(a|a)*b": 1, ".*.*.*.*": 2, ".+a.+a.+a.+a": 3, "(\\w+)+": 1, "a" * 10_000: 1}
    configs = read_peft_config(tmp_path / "x.safetensors", {"alpha_pattern": json.dumps(slow), "lora_alpha": "4"})
    for _ in range(50):
        configs.alpha_of("a" * 200 + ".b")
    assert configs.notes


@pytest.mark.parametrize("alpha", [torch.tensor(torch.nan), torch.ones(2), torch.tensor(torch.inf)], ids=str)
def test_stored_alphas_that_are_no_numbers(tmp_path, alpha):
    with pytest.raises(CheckpointError, match="no number"):
        lora(tmp_path, {}, more={f"transformer.{MODULES[0]}.alpha": alpha})


def test_alphas_beyond_any_use_are_refused_and_whole_factors_are_not_read(tmp_path):
    for value, words in ((torch.tensor(1e30), "of 1e.30, expected at most"), (torch.tensor(True), "of BOOL")):
        with pytest.raises(CheckpointError, match=words):
            lora(tmp_path, {}, more={f"transformer.{MODULES[0]}.alpha": value}, name=str(value.dtype))
    with pytest.raises(CheckpointError, match="of I64, expected floating-point"):
        lora(tmp_path, {}, more={"transformer.x.lora_A.weight": torch.ones(2, 2).long()}, name="whole")


def test_an_alpha_may_be_of_any_type_of_numbers_and_of_any_shape_of_one(tmp_path):
    types = (torch.float8_e4m3fn, torch.bfloat16, torch.float64, torch.uint8, torch.int8, torch.int32, torch.int64)
    for number, dtype in enumerate(types):
        shape = ((), (1,), (1, 1))[number % 3]
        more = {f"transformer.{MODULES[0]}.alpha": torch.full(shape, 2).to(dtype)}
        assert scales(lora(tmp_path, {}, more=more, name=str(number))) == [0.5, 1]


@pytest.mark.parametrize("alpha", [torch.tensor(9999999999), torch.tensor(torch.inf, dtype=torch.float16)])
def test_an_alpha_that_nothing_is_scaled_by_may_be_anything(tmp_path, alpha):
    """Of whole factors: a rank of 9999999999 stands for them in files of ai-toolkit, which fp16 cannot hold."""
    first, second = torch.randn(2, 2), torch.randn(4, 4)
    module = f"diffusion_model.{MODULES[0]}"
    whole = {f"{module}.lokr_w1": first, f"{module}.lokr_w2": second, f"{module}.alpha": alpha}
    found = read_lora(save(tmp_path / "a.safetensors", whole))
    matched = match_lora(found, {f"{MODULES[0]}.weight": (8, 8)}).matched[f"{MODULES[0]}.weight"]
    assert torch.allclose(merged(torch.zeros(8, 8), [Scaled(matched, 1.0)]), torch.kron(first, second))
    product = {f"{module}.lokr_w1": first, f"{module}.lokr_w2_a": second[:, :1], f"{module}.lokr_w2_b": second[:1]}
    with pytest.raises(CheckpointError, match="the LoRA is damaged"):
        read_lora(save(tmp_path / "b.safetensors", product | {f"{module}.alpha": alpha}))


def test_an_alpha_of_zero_is_told(tmp_path):
    (note,) = lora(tmp_path, {}, more={f"transformer.{MODULES[0]}.alpha": torch.tensor(0.0)}.items()).notes
    assert note == "lora.safetensors: the alpha of 1 of its 2 weights is 0, so that they change nothing"
