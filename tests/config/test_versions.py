"""Version numbers as they occur in files, and what belongs to them."""

import pytest

from ltx2.config.versions import parse_version, release, version_of_shapes
from ltx2.errors import CheckpointError
from tests.networks.released_shapes import transformer_shapes


@pytest.mark.parametrize(
    "text, version",
    [
        ("2.3.0", (2, 3, 0)),
        ("2.5.0", (2, 5, 0)),
        ("2.3.rc1", (2, 3)),
        ("2.4-rc2", (2, 4)),
        (" 2.5 ", (2, 5)),
        ("", None),
        ("dev", None),
        (None, None),
    ],
)
def test_parse_version(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize(
    "text, steps, blocks, crf, ancestral",
    [
        (None, 40, (29,), 33, False),
        ("2.0.0", 40, (29,), 33, False),
        ("2.1", 40, (29,), 33, False),
        ("2.3.0", 30, (28,), 33, False),
        ("2.4-rc2", 30, (28,), 18, False),
        ("2.5.0", 30, (28,), 18, True),
        ("2.5.3", 30, (28,), 18, True),
    ],
)
def test_defaults_of_a_version(text, steps, blocks, crf, ancestral):
    found = release(parse_version(text))
    assert (found.steps, found.stg_blocks, found.image_crf, found.ancestral_distilled) == (
        steps,
        blocks,
        crf,
        ancestral,
    )


@pytest.mark.parametrize("text", ["1.9", "2.6.0", "3.0"])
def test_unknown_versions_are_refused(text):
    with pytest.raises(CheckpointError, match=text):
        release(parse_version(text))
    with pytest.raises(CheckpointError, match="^transformer of a.safetensors is of"):
        release(parse_version(text), "transformer of a.safetensors")


@pytest.mark.parametrize("version, number", [("2.0", (2, 0)), ("2.3", (2, 3)), ("2.5", (2, 5))])
def test_version_of_shapes(version, number):
    assert version_of_shapes(transformer_shapes(version)) == number


def test_version_of_other_tensors():
    assert version_of_shapes({"transformer_blocks.0.scale_shift_table": (6, 2048)}) is None
