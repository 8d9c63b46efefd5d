"""Every kind of adapter against matrices made by hand: on plain weights, on kept-quantised ones, at any strength."""

import itertools
import json

import pytest
import torch

from ltx2.checkpoint import models
from ltx2.checkpoint.adapters.kinds import KINDS
from ltx2.checkpoint.lora import Scaled, match_lora, merge_loras, merged, read_lora
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError

from .. import small
from ..files import save
from ..test_build import quantised

MODULE = "transformer_blocks.0.attn1.to_q"
EPS = torch.finfo(torch.float32).eps


def noise(generator, *shape):
    return torch.randn(*shape, generator=generator)


def low_rank(g, rows, columns, alpha):
    up, down = noise(g, rows, 3), noise(g, 3, columns)
    return {"lora_up.weight": up, "lora_down.weight": down}, (alpha / 3 if alpha else 1) * up @ down


def hadamard(g, rows, columns, alpha):
    a, b, c, d = noise(g, rows, 2), noise(g, 2, columns), noise(g, rows, 2), noise(g, 2, columns)
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
    return parts, (alpha / 2 if alpha else 1) * (a @ b) * (c @ d)


def kronecker(g, rows, columns, alpha):
    first, second = noise(g, 2, 4), noise(g, rows // 2, columns // 4)
    return {"lokr_w1": first, "lokr_w2": second}, torch.kron(first, second)  # whole factors have no rank


def kronecker_of_a_product(g, rows, columns, alpha):
    first, a, b = noise(g, 4, 2), noise(g, rows // 4, 2), noise(g, 2, columns // 2)
    parts = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b}
    return parts, (alpha / 2 if alpha else 1) * torch.kron(first, a @ b)


def kronecker_of_products(g, rows, columns, alpha):
    a, b, c, d = noise(g, 2, 3), noise(g, 3, 2), noise(g, rows // 2, 2), noise(g, 2, columns // 2)
    parts = {"lokr_w1_a": a, "lokr_w1_b": b, "lokr_w2_a": c, "lokr_w2_b": d}
    return parts, (alpha / 2 if alpha else 1) * torch.kron(a @ b, c @ d)


def whole(g, rows, columns, alpha):
    difference = noise(g, rows, columns)
    return {"diff": difference}, difference


MADE = (low_rank, hadamard, kronecker, kronecker_of_a_product, kronecker_of_products, whole)
KIND_OF = {"low_rank": "LoRA", "hadamard": "LoHa", "whole": "full difference"}
SIZES = [(8, 8), (16, 8), (32, 32), (8, 32)]


def read(tmp_path, parts, alpha=None, name="lora"):
    tensors = {f"diffusion_model.{MODULE}.{part}": tensor for part, tensor in parts.items()}
    if alpha:
        tensors[f"diffusion_model.{MODULE}.alpha"] = torch.tensor(alpha)
    return read_lora(save(tmp_path / f"{name}.safetensors", tensors))


def changed(lora, weight, strength):
    matched = match_lora(lora, {f"{MODULE}.weight": tuple(weight.shape)}).matched
    return merged(weight, [Scaled(matched[f"{MODULE}.weight"], strength)])


@pytest.mark.parametrize("make", MADE)
def test_a_file_of_each_kind_is_told_where_a_model_is_wanted(tmp_path, make):
    parts, _ = make(torch.Generator().manual_seed(1), 8, 8, None)
    with pytest.raises(CheckpointError, match="is a LoRA and holds no vocoder"):
        models.load_vocoder(open_checkpoint(read(tmp_path, parts).path))


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("alpha", [None, 2.0])
@pytest.mark.parametrize("decomposed", ["no", "rows", "columns", "peft"])
def test_by_hand(tmp_path, make, alpha, decomposed):
    g = torch.Generator().manual_seed(1)
    for number, ((rows, columns), strength) in enumerate(itertools.product(SIZES, (1.0, 0.7, -0.5))):
        weight = noise(g, rows, columns)
        parts, difference = make(g, rows, columns, alpha)
        expected = weight + strength * difference
        if decomposed != "no":
            target = weight + difference
            if decomposed == "columns":
                lengths = noise(g, 1, columns).abs()
                target = target / (target.norm(dim=0, keepdim=True) + EPS) * lengths
            else:
                lengths = noise(g, rows, 1).abs()
                # ComfyUI measures the rows before the change, PEFT after it
                measured = weight if decomposed == "rows" else target
                target = target / (measured.norm(dim=1, keepdim=True) + EPS) * lengths
            parts |= {"lora_magnitude_vector": lengths.flatten()} if decomposed == "peft" else {"dora_scale": lengths}
            expected = weight + strength * (target - weight)
        lora = read(tmp_path, parts, alpha, str(number))
        assert torch.allclose(changed(lora, weight, strength), expected, atol=1e-4, rtol=1e-4)
        kind = KIND_OF.get(make.__name__, "LoKr")
        assert list(lora.kinds) == [{"LoRA": "DoRA"}.get(kind, f"{kind} with DoRA") if decomposed != "no" else kind]


def rotation_by_hand(block: torch.Tensor) -> torch.Tensor:
    skew, identity = block - block.T, torch.eye(len(block))
    return (identity + skew) @ torch.linalg.inv(identity - skew)


@pytest.mark.parametrize("rescaled", [False, True])
def test_turned_blocks(tmp_path, rescaled):
    g = torch.Generator().manual_seed(2)
    for number, (rows, columns, size) in enumerate([(8, 6, 2), (32, 32, 8), (12, 5, 12)]):
        weight, blocks = noise(g, rows, columns), 0.2 * noise(g, rows // size, size, size)
        parts, turned = {"oft_blocks": blocks}, torch.block_diag(*map(rotation_by_hand, blocks)).T @ weight
        if rescaled:
            parts["rescale"] = 1 + 0.1 * noise(g, rows, 1)
            turned = turned * parts["rescale"]
        for strength in (1.0, 0.3):
            found = changed(read(tmp_path, parts, name=f"{number}{strength}"), weight, strength)
            assert torch.allclose(found, weight + strength * (turned - weight), atol=1e-5)
    if not rescaled:  # a turn keeps the length of every column
        assert torch.allclose(turned.norm(dim=0), weight.norm(dim=0), atol=1e-4)


def test_turns_are_limited_by_alpha(tmp_path):
    g = torch.Generator().manual_seed(3)
    weight, blocks = noise(g, 8, 8), noise(g, 2, 4, 4)
    skew = blocks - blocks.transpose(1, 2)
    limited = read(tmp_path, {"oft_blocks": blocks}, 0.5, "limited")
    same = read(tmp_path, {"oft_blocks": blocks * 0.5 / skew.norm()}, name="same")
    assert torch.allclose(changed(limited, weight, 1.0), changed(same, weight, 1.0), atol=1e-5)


def of_peft(folder, parts, **config):
    """A file as PEFT leaves it, its configuration beside it."""
    folder.mkdir(exist_ok=True)
    tensors = {f"base_model.model.{MODULE}.{part}": tensor for part, tensor in parts.items()}
    if config:
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "OFT", "r": 0} | config))
    return read_lora(save(folder / "adapter_model.safetensors", tensors))


SERIES = {"use_cayley_neumann": True, "peft_version": "0.21.2"}
TURNS = {  # what the configuration says → the matrix of a skew-symmetric one
    "exact": ({"use_cayley_neumann": False}, lambda i, q: (i - q) @ torch.linalg.inv(i + q)),
    "five terms": (SERIES, lambda i, q: i + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q),
    "three terms": (SERIES | {"num_cayley_neumann_terms": 3}, lambda i, q: i + 2 * q + 2 * q @ q + q @ q @ q),
    "two terms": (SERIES | {"num_cayley_neumann_terms": 2}, lambda i, q: i + 2 * q),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("shared", [False, True])
def test_columns_turned_as_peft_turns_them(tmp_path, turn, shared):
    config, matrix = TURNS[turn]
    g = torch.Generator().manual_seed(5)
    weight, stored = noise(g, 6, 12), 0.3 * noise(g, 1 if shared else 3, 6)  # blocks of 4: 6 numbers above the diagonal
    matrices = []
    for numbers in stored.expand(3, 6):
        upper = torch.zeros(4, 4)
        upper[0, 1:], upper[1, 2:], upper[2, 3:] = numbers[:3], numbers[3:5], numbers[5:]
        matrices.append(matrix(torch.eye(4), upper - upper.T))
    turned = weight @ torch.block_diag(*matrices).T
    lora = of_peft(tmp_path, {"oft_R.weight": stored}, **config)
    for strength in (1.0, 0.4):
        assert torch.allclose(changed(lora, weight, strength), weight + strength * (turned - weight), atol=1e-5)


def test_turns_of_peft_are_limited_where_the_configuration_says_so(tmp_path):
    weight, numbers = noise(torch.Generator().manual_seed(6), 5, 8), torch.full((2, 6), 0.5)
    found = of_peft(tmp_path / "a", {"oft_R.weight": numbers}, use_cayley_neumann=False, coft=True, eps=0.3)
    norm = (2 * 6 * 0.25) ** 0.5
    same = of_peft(tmp_path / "b", {"oft_R.weight": numbers * 0.3 / 2**0.5 / norm}, use_cayley_neumann=False)
    assert torch.allclose(changed(found, weight, 1.0), changed(same, weight, 1.0), atol=1e-6)


def test_butterflies(tmp_path):
    """Bᵢ by the permutation that the paper has: half blocks with even numbers first, in groups that double."""
    g = torch.Generator().manual_seed(7)
    weight, blocks, lengths = noise(g, 6, 16), 0.5 * noise(g, 3, 4, 4, 4), 1 + 0.1 * noise(g, 6, 1)
    orders = [list(range(16)), [], []]
    for level in (1, 2):
        for group in range(0, 8, 2 << level):  # in half blocks of two columns
            halves = [*range(group, group + (2 << level), 2), *range(group + 1, group + (2 << level), 2)]
            orders[level] += [2 * half + column for half in halves for column in (0, 1)]
    whole, identity = torch.eye(16), torch.eye(4)
    for order, stored in zip(orders, blocks):
        skews = [(block - block.T) / 2 for block in stored]
        turn = torch.block_diag(*((identity - q) @ torch.linalg.inv(identity + q) for q in skews))
        whole = turn[order][:, order] @ whole
    turned = weight @ whole.T * lengths
    assert torch.allclose((weight @ whole.T).norm(dim=1), weight.norm(dim=1), atol=1e-4)
    lora = of_peft(tmp_path, {"boft_R": blocks, "boft_s": lengths})
    assert list(lora.kinds) == ["BOFT"]
    for strength in (1.0, -0.5):
        assert torch.allclose(changed(lora, weight, strength), weight + strength * (turned - weight), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [*MADE, "oft", "dora"])
def test_kept_quantised_weights_change_as_plain_ones_do(tmp_path, make):
    """Exactly: the difference meets the dequantised weight, and nothing is rounded back into the storage format."""
    g = torch.Generator().manual_seed(4)
    stored, dense = quantised(small.transformer())
    if make == "oft":
        parts = {"oft_blocks": 0.2 * noise(g, 4, 8, 8)}
    else:
        parts, _ = (low_rank if make == "dora" else make)(g, 32, 32, None)
        parts |= {"dora_scale": noise(g, 32, 1).abs()} if make == "dora" else {}
    lora = read(tmp_path, parts)
    checkpoint = open_checkpoint(save(tmp_path / "model.safetensors", small.prefixed(stored)))
    kept = models.load_transformer(checkpoint, dtype=torch.float32, quantized="on_use")
    for loras in ([(lora, 0.6)], [(lora, 0.6), (lora, -0.3)]):
        expected = dense[f"{MODULE}.weight"]
        for _, strength in loras:
            expected = changed(lora, expected, strength)  # one after the other
        at_load = models.load_transformer(checkpoint, dtype=torch.float32, quantized="on_use", loras=loras)
        plain = models.load_transformer(checkpoint, dtype=torch.float32, loras=loras)
        for network in (merge_loras(kept, loras), at_load):
            layer = network.get_submodule(MODULE)
            assert torch.allclose(layer.dense("cpu", torch.float32), expected, atol=1e-5)
            half = layer.dense("cpu", torch.bfloat16).float()
            assert (half - expected).abs().max() < 0.02 * expected.abs().max()
        assert torch.allclose(plain.get_submodule(MODULE).weight, expected, atol=1e-5)
        assert torch.allclose(small.run(at_load), small.run(plain), atol=1e-4)


def test_every_kind_has_files_of_its_own():
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 5
    endings = [ending for kind in KINDS for ending in kind.endings]
    assert len(endings) == len(set(endings))


WRONG = {
    "an integer factor": ({"lora_up.weight": torch.ones(8, 2, dtype=torch.int32), "lora_down.weight": torch.ones(2, 8)},
                          "floating-point"),
    "half a product": ({"hada_w1_a": torch.ones(8, 2), "hada_w1_b": torch.ones(2, 8)}, "one half"),
    "products of two sizes": ({"hada_w1_a": torch.ones(8, 2), "hada_w1_b": torch.ones(2, 8),
                               "hada_w2_a": torch.ones(6, 2), "hada_w2_b": torch.ones(2, 8)}, "different size"),
    "no second factor": ({"lokr_w1": torch.ones(2, 2)}, "one half"),
    "ranks": ({"lokr_w1": torch.ones(2, 2), "lokr_w2_a": torch.ones(4, 3), "lokr_w2_b": torch.ones(2, 4)}, "ranks"),
    "four dimensions": ({"lokr_w1": torch.ones(2, 2), "lokr_w2": torch.ones(4, 4, 1, 1)}, "expected a matrix"),
    "blocks that are not square": ({"oft_blocks": torch.ones(2, 4, 3)}, "square blocks"),
    "butterflies": ({"oft_blocks": torch.ones(3, 2, 4, 4)}, "which is not read here: get it as a plain LoRA"),
    "a bias of the first factor": ({"lora_up.weight": torch.ones(8, 2), "lora_down.weight": torch.ones(2, 8),
                                    "lora_down.bias": torch.ones(2)}, "a bias in its first factor"),
    "a rescale of another size": ({"oft_blocks": torch.ones(2, 4, 4), "rescale": torch.ones(7, 1)}, "a number a row"),
    "two kinds": ({"diff": torch.ones(8, 8), "oft_blocks": torch.ones(2, 4, 4)}, "expected one kind"),
    "lengths of nothing": ({"diff": torch.ones(8, 8), "dora_scale": torch.ones(0)}, "a number a row or column"),
    "lengths of another size": ({"diff": torch.ones(8, 8), "dora_scale": torch.ones(7, 1)}, "the model has 8 × 8"),
    "numbers that are none": ({"diff": torch.full((8, 8), torch.nan)}, "not finite in diffusion_model"),
    "infinite numbers": ({"lokr_w1": torch.full((2, 2), torch.inf), "lokr_w2": torch.ones(4, 4)}, "not finite"),
    "GLoRA": ({"a1.weight": torch.ones(8, 2), "b1.weight": torch.ones(2, 8)}, "holds GLoRA"),
    "Tucker": ({"lora_mid.weight": torch.ones(2, 2, 1, 1), "lora_up.weight": torch.ones(8, 2),
                "lora_down.weight": torch.ones(2, 8)}, "lora_mid"),
    "IA3": ({"ia3_l": torch.ones(8)}, "IA³"),
    "PEFT's OFT": ({"oft_R.weight": torch.ones(2, 6)}, "put its adapter_config.json beside it"),
    "PEFT's OFT of no block": ({"oft_R.weight": torch.ones(2, 5)}, "upper triangles of square blocks"),
    "PEFT's first OFT": ({"oft_r": torch.ones(2, 4, 4)}, "OFT as PEFT stored it before 0.14"),
    "an embedding's OFT": ({"oft_embedding_R.weight": torch.ones(2, 6)}, "OFT of an embedding"),
    "BOFT of odd blocks": ({"boft_R": torch.ones(2, 2, 3, 3)}, "no order of columns"),
    "BOFT of another size": ({"boft_R": torch.zeros(1, 3, 4, 4), "boft_s": torch.ones(8, 1)}, "the model has 8 × 8"),
    "replaced weights": ({"set_weight": torch.ones(8, 8)}, "set_weight"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_applied_is_named(tmp_path, what):
    parts, said = WRONG[what]
    with pytest.raises(CheckpointError) as caught:
        changed(read(tmp_path, parts), torch.ones(8, 8), 1.0)
    text = str(caught.value)
    assert said in text and "lora.safetensors" in text and "\n" not in text and len(text) < 300 + len(str(tmp_path))
    assert not text.endswith(".")
