import pytest
import torch
from torch import nn

from ltx2.checkpoint.lora import read_lora
from ltx2.errors import CheckpointError, RequestError
from ltx2.stages import refinement
from ltx2.stages.refinement import stage_transformer, upsample_video
from ltx2.values import AVLatent


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.fixture
def lora(tiny):
    return read_lora(tiny("2.3")["distilled_lora"])


def test_a_lora_goes_on_a_transformer_of_its_own(models, lora):
    home = models("2.3").transformer
    before = weights(home)
    with stage_transformer(home, [], device="cpu") as same:
        assert same is home
    with stage_transformer(home, [(lora, 0.0)], device="cpu") as same:
        assert same is home
    with stage_transformer(home, [(lora, 0.5)], device="cpu") as changed:
        assert any(not torch.equal(tensor, before[name]) for name, tensor in changed.state_dict().items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in home.state_dict().items())


def test_a_copy_gets_the_lora_on_its_way(models, lora, monkeypatch):
    """What happens where the transformer is brought to another device, here with one device only."""
    home = models("2.3").transformer
    before = weights(home)
    with stage_transformer(home, [(lora, 0.5)], device="cpu") as there:
        expected = weights(there)
    monkeypatch.setattr(refinement, "stays", lambda module, device: False)
    with stage_transformer(home, [(lora, 0.5)], device="cpu") as copied:
        found = weights(copied)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert not any(tensor.numel() for tensor in copied.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in home.state_dict().items())


def test_a_lora_of_another_model_is_told(lora):
    with pytest.raises(CheckpointError, match="fits none"):
        with stage_transformer(nn.Linear(2, 2), [(lora, 1.0)], device="cpu"):
            pass


def test_upsampling_doubles_the_picture_and_keeps_the_sound(models):
    networks = models("2.3")
    latent = AVLatent(torch.randn(2, 128, 2, 1, 3), torch.randn(2, 8, 5, 16))
    reports = []
    statistics = networks.video_decoder.per_channel_statistics
    result = upsample_video(networks.upsampler, statistics, latent, device="cpu", progress=reports.append)
    assert result.video.shape == (2, 128, 2, 2, 6) and result.audio is latent.audio
    alone = upsample_video(networks.upsampler, statistics, AVLatent(latent.video[1:], None), device="cpu")
    assert torch.equal(result.video[1:], alone.video)
    assert [report.done for report in reports] == [0, 1, 2]
    with pytest.raises(RequestError, match="no video latent"):
        upsample_video(networks.upsampler, statistics, AVLatent(None, latent.audio), device="cpu")
