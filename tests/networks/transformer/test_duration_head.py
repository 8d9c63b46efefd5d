"""Duration head: golden, released size, and the rule that makes seconds a frame count."""

from fractions import Fraction

import pytest
import torch

from ltx2.clock import frames_of_predicted_seconds, is_valid_frame_count
from ltx2.config.duration import DurationHeadConfig, duration_config
from ltx2.errors import CheckpointError, RequestError
from ltx2.networks.transformer.duration_head import DurationHead, seconds
from tests.golden import DATA
from tests.golden import upsampler as golden

from ..audio.references import build, duration_metadata, random_inputs, random_weights

SMALL = duration_metadata()


def small(**options):
    module = build("duration_head", SMALL, **options)
    module.load_state_dict(random_weights("duration_head", SMALL, 1))
    return module.eval()


@torch.no_grad()
def test_golden():
    for case, difference in golden.differences(DATA / "upsampler" / "duration_head.safetensors"):
        assert difference < 1e-5, case


def test_released_size():
    tensors = DurationHead(DurationHeadConfig(), device="meta").state_dict()
    assert len(tensors) == 15 and sum(t.numel() for t in tensors.values()) * 2 == 3_806_722


def test_config_from_shapes_and_from_metadata():
    shapes = {f"duration_head.{name}": tuple(t.shape) for name, t in small().state_dict().items()}
    config = duration_config(SMALL, {})
    assert config == duration_config(None, shapes) == duration_config(SMALL["duration_head"], shapes)
    assert duration_config(None, {}) == DurationHeadConfig()
    with pytest.raises(CheckpointError, match="choose the duration head file"):
        duration_config(None, {"duration_head.mlp_out.weight": (1, 16)})
    with pytest.raises(CheckpointError, match="5 heads for a width of 16"):
        duration_config({"num_pooler_heads": 5}, shapes)


@torch.no_grad()
def test_one_modality_is_enough_and_none_is_refused():
    head, inputs = small(), random_inputs("duration_head", SMALL, 3)
    assert (
        head(inputs["video"], inputs["audio"]).shape
        == head(inputs["video"]).shape
        == head(audio=inputs["audio"]).shape
        == (2,)
    )
    with pytest.raises(RequestError, match="neither a video nor an audio context"):
        head()
    assert seconds(head, inputs["video"][:1]) == pytest.approx(head(inputs["video"])[0].item(), rel=1e-5)
    with pytest.raises(RequestError, match="2 prompts, expected one"):
        seconds(head, inputs["video"])


@torch.no_grad()
def test_sixteen_bit_weights_compute_in_float32():
    head, stored, inputs = small(), small(dtype=torch.bfloat16), random_inputs("duration_head", SMALL, 3)
    out = stored(inputs["video"].bfloat16())
    assert out.dtype == torch.float32 and torch.equal(out, head(inputs["video"].bfloat16().float()))


@pytest.mark.parametrize(
    "predicted, fps, frames",
    [
        (5.0, 24, 113),  # 120, down to 8k+1
        (5.05, 24, 121),
        (0.01, 24, 25),  # held at 1 s = 24 frames, 17 would be below it
        (0.01, 25, 25),
        (0.0, Fraction(24000, 1001), 25),
        (99.0, 24, 473),  # held at 20 s = 480 frames
        (4.0, Fraction(24000, 1001), 89),  # 96 frames
    ],
)
def test_frames_of_a_prediction(predicted, fps, frames):
    assert frames_of_predicted_seconds(predicted, Fraction(fps)) == frames and is_valid_frame_count(frames)


def test_limits_of_a_prediction_can_be_chosen():
    assert frames_of_predicted_seconds(30.0, Fraction(24), longest=30) == 713
    assert frames_of_predicted_seconds(0.1, Fraction(24), shortest=2.5) == 65


@pytest.mark.parametrize("damaged", [float("nan"), float("inf")])
def test_damaged_predictions_are_named(damaged):
    with pytest.raises(RequestError, match="predicted length is"):
        frames_of_predicted_seconds(damaged, Fraction(24))
