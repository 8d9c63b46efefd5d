"""Pictures of a latent on its way: what a tiny autoencoder draws is what it draws of the whole film."""

import pytest
import torch

from ltx2.networks.video_vae.tiny_decoder import TinyDecoder
from ltx2.stages.preview import drawn_pictures
from ltx2.values import AVLatent


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    return TinyDecoder().eval().requires_grad_(False)


def test_frames_are_those_of_the_film(decoder):
    video = torch.randn(1, 128, 2, 2, 3)
    film = torch.cat(list(decoder.stream(video)))
    drawn = torch.from_numpy(drawn_pictures(AVLatent(video, None), decoder)).float() / 255
    wanted = torch.cat([film[0], film[-1]], dim=-1).movedim(0, -1).clamp(0, 1)
    assert drawn.shape == (64, 2 * 96, 3) and (drawn - wanted).abs().max() <= 1 / 255 + 1e-6


def test_what_has_no_picture_and_what_is_no_number(decoder):
    assert drawn_pictures(AVLatent(None, torch.zeros(1, 8, 4, 16)), decoder) is None
    assert drawn_pictures(AVLatent(torch.full((2, 128, 1, 1, 1), torch.nan), None), decoder).shape == (32, 32, 3)
