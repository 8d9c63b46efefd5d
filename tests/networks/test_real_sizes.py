"""The released models, built without memory, have exactly the tensors of the released files."""

import math

import pytest

from ltx2.config.transformer import connector_config, text_projection_config, transformer_config
from ltx2.networks.transformer.connectors import Connector, TextProjection
from ltx2.networks.transformer.model import Transformer

from .released_shapes import CONFIGS, connector_shapes, projection_shapes, transformer_shapes

TENSORS = {"2.0": (3510, 58), "2.3": (4186, 258), "2.5": (4091, 258)}  # transformer, connectors
PARAMETERS = {"2.0": 18.88e9, "2.3": 18.99e9, "2.5": 18.99e9}


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("version", CONFIGS)
def test_transformer_has_the_released_tensors(version):
    expected = transformer_shapes(version)
    by_config = transformer_config(CONFIGS[version], {})
    assert transformer_config(CONFIGS[version], expected) == by_config
    assert transformer_config(None, expected) == by_config  # a file without metadata
    found = shapes(Transformer(by_config, device="meta"))
    assert found == expected
    assert len(found) == TENSORS[version][0]
    assert sum(map(math.prod, found.values())) == pytest.approx(PARAMETERS[version], rel=1e-3)


@pytest.mark.parametrize("version", CONFIGS)
def test_connectors_have_the_released_tensors(version):
    total = 0
    for stream in ("video", "audio"):
        expected = connector_shapes(version, stream)
        by_config = connector_config(CONFIGS[version], {}, stream)
        assert connector_config(CONFIGS[version], expected, stream) == by_config
        assert connector_config(None, expected, stream) == by_config
        assert shapes(Connector(by_config, device="meta")) == expected
        total += len(expected)
    assert total == TENSORS[version][1]


def test_tensors_under_the_transformer_prefix():
    assert [sum(TENSORS[version]) for version in ("2.3", "2.5")] == [4444, 4349]


@pytest.mark.parametrize("version", CONFIGS)
def test_text_projection_has_the_released_tensors(version):
    expected = projection_shapes(version)
    config = text_projection_config(CONFIGS[version], expected)
    assert config == text_projection_config(None, expected)
    assert (config.hidden_width, config.states) == (3840, 49)
    assert shapes(TextProjection(config, device="meta")) == expected
