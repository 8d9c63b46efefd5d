"""Features of hidden states and the connectors behind them."""

import pytest
import torch

from ltx2.errors import RequestError
from tests.golden import DATA
from tests.golden import connectors as golden

from .samples import STATES, small_config, small_text_path, text_states

torch.set_grad_enabled(False)


@pytest.mark.parametrize(
    "path", sorted((DATA / "transformer").glob("connector_*.safetensors")), ids=lambda path: path.stem
)
def test_golden(path):
    for name, difference in golden.differences(path):
        assert difference <= 5e-6, name


@pytest.mark.parametrize("version", ["2.0", "2.3"])
def test_states_in_any_order_give_the_same_features(version):
    config = small_config(version)
    projection = small_text_path(config)["text_embedding_projection"]
    states, mask = text_states(config)
    accumulator = projection.accumulator(mask)
    for index in reversed(range(STATES)):
        accumulator.add(index, states[..., index])
    for a, b in zip(accumulator.features(), projection(states, mask)):
        assert torch.equal(a, b)
        assert not a[mask == 0].any()


def test_nothing_of_the_padding_is_kept():
    config = small_config("2.3")
    projection = small_text_path(config)["text_embedding_projection"]
    states, mask = text_states(config)
    accumulator = projection.accumulator(mask)
    accumulator.add(0, states[..., 0])
    kept = [
        value for value in vars(accumulator).values() if isinstance(value, torch.Tensor) and value.is_floating_point()
    ]
    assert sum(t.numel() for t in kept) == int(mask.sum()) * config["caption_channels"] * STATES
    spoiled = states.masked_fill(mask[:, :, None, None] == 0, float("nan"))
    for a, b in zip(projection(spoiled, mask), projection(states, mask)):
        assert torch.equal(a, b)


def test_padding_on_the_other_side_gives_the_same_context():
    config = small_config("2.3")
    modules = small_text_path(config)
    states, mask = text_states(config)
    connector = modules["video_embeddings_connector"]
    features = modules["text_embedding_projection"](states, mask)[0]
    count = int(mask[0].sum())
    moved = features[:1].roll(count, 1)
    torch.testing.assert_close(
        connector(moved, mask[:1].roll(count, 1)), connector(features, mask)[:1], atol=5e-6, rtol=0
    )


def test_an_empty_prompt_is_registers_alone():
    config = small_config("2.0")
    modules = small_text_path(config)
    states, mask = text_states(config, valid=(0, 3))
    features = modules["text_embedding_projection"](states, mask)[0]
    context = modules["video_embeddings_connector"](features, mask)
    assert torch.isfinite(context).all()


def test_wrong_states_are_refused():
    config = small_config("2.3")
    projection = small_text_path(config)["text_embedding_projection"]
    states, mask = text_states(config)
    accumulator = projection.accumulator(mask)
    with pytest.raises(RequestError, match="missing"):
        accumulator.features()
    accumulator.add(0, states[..., 0])
    with pytest.raises(RequestError, match="hidden state 0"):
        accumulator.add(0, states[..., 0])
    with pytest.raises(RequestError, match="expected one of 3"):
        accumulator.add(1, states[:, :5, :, 1])
