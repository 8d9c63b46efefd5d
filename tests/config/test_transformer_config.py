"""Reading configurations: what is refused, and what decides when metadata and tensors disagree."""

import pytest

from ltx2.config.transformer import connector_config, text_projection_config, transformer_config
from ltx2.errors import CheckpointError
from tests.networks.released_shapes import CONFIGS, connector_shapes, transformer_shapes


def test_other_models_are_refused():
    with pytest.raises(CheckpointError, match="audio-video transformer"):
        transformer_config(None, {"patchify_proj.weight": (2048, 128)})
    with pytest.raises(CheckpointError, match="found none"):
        transformer_config(None, {"blocks.0.weight": (1, 1)})


@pytest.mark.parametrize(
    "key, value", [("activation_fn", "geglu"), ("qk_norm", "layer_norm"), ("share_ff", True), ("rope_type", "none")]
)
def test_parts_that_no_release_has_are_refused(key, value):
    with pytest.raises(CheckpointError, match=key):
        transformer_config({**CONFIGS["2.3"], key: value}, {})


def test_keyframe_embedding_promised_but_absent_means_none():
    shapes = transformer_shapes("2.5")
    del shapes["keyframes_abs_pos_embedding"]
    assert not transformer_config(CONFIGS["2.5"], shapes).keyframe_embedding


def test_missing_keys_have_the_loader_defaults():
    config = transformer_config({"num_layers": 3}, {})
    assert config.layers == 3
    assert not config.rotary.interleaved and not config.rotary.double
    assert config.av_gate_timestep_scale == 1000
    assert not config.text_modulation and config.caption_channels == 3840


def test_interleaved_rotation_is_read():
    assert transformer_config({**CONFIGS["2.0"], "rope_type": "interleaved"}, {}).rotary.interleaved


def test_theta_is_the_transformers_own():
    config = {**CONFIGS["2.3"], "positional_embedding_theta": 5000.0}
    assert transformer_config(config, {}).rotary.theta == 5000
    assert connector_config(config, connector_shapes("2.3", "video")).rotary.theta == 10000


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(CheckpointError, match="3840 wide"):
        connector_config({"connector_num_attention_heads": 7}, connector_shapes("2.0", "video"))


def test_text_projection_without_its_tensors_is_refused():
    with pytest.raises(CheckpointError, match="text_embedding_projection"):
        text_projection_config(None, {"video_aggregate_embed.weight": (4096, 188160)})
    with pytest.raises(CheckpointError, match="no multiple"):
        text_projection_config(None, {"aggregate_embed.weight": (3840, 188161)})
