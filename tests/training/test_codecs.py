"""The codecs' weights do in the engine's networks what they were made for."""

import pytest
import torch

from training import latents, sound_codec, world
from training.engine import Waveform, decode_audio, encode_waveform, tiny_text
from training.export import CLASS_OF, text_encoder_tensors
from training.meaning import blip_heard, pitch
from training.picture_codec import CellDecoder, CellEncoder, networks


@torch.no_grad()
def test_cells_are_drawn_and_read_as_by_the_whole_networks():
    torch.manual_seed(0)
    cells = CellDecoder(), CellEncoder()
    for network in cells:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    decoder, encoder = cells
    whole_encoder, whole_decoder = networks(decoder, encoder)
    latent = torch.zeros(1, 128, 3, 3, 4)
    latent[:, : latents.VIDEO_CHANNELS] = torch.randn(1, latents.VIDEO_CHANNELS, 3, 3, 4)
    film = whole_decoder(latent)  # [1, 3, 17, 96, 128]
    block = film[0, :, 1:9, 32:64, 64:96].permute(1, 2, 3, 0)
    code = latent[:, : latents.VIDEO_CHANNELS, 1, 1, 2]
    assert torch.allclose(decoder(code)[0], block, atol=1e-5)
    read = whole_encoder(film)
    assert torch.allclose(encoder(block[None])[0], read[0, : latents.VIDEO_CHANNELS, 1, 1, 2], atol=1e-5)
    still = film[0, :, :1, 32:64, 64:96].permute(1, 2, 3, 0).expand(8, -1, -1, -1)
    assert torch.allclose(encoder(still[None])[0], read[0, : latents.VIDEO_CHANNELS, 0, 1, 2], atol=1e-5)
    assert read[:, latents.VIDEO_CHANNELS :].abs().max() == 0


@pytest.mark.parametrize("colour", world.COLOURS)
def test_tones_and_blips_survive_the_sound_codec(colour):
    encoder, decoder, vocoder = sound_codec.networks()
    given = torch.tensor(world.sound(colour, (False, False, True, False), 33), dtype=torch.float32)
    made = decode_audio(decoder, vocoder, encode_waveform(encoder, Waveform(given, 48000)))
    side = made.samples[0].numpy()
    assert abs(pitch(side, made.sample_rate, 0.2, 0.35) - world.TONES[colour]) < 2
    assert 0.16 < side[4800:12000].std() < 0.19
    assert blip_heard(side, made.sample_rate, 16 / 24) and not blip_heard(side, made.sample_rate, 0.3)


def test_words_have_one_class_in_every_form():
    tensors = text_encoder_tensors()
    space = tiny_text.SPACE
    texts = [form for word in CLASS_OF for form in (space + word, space + word.capitalize(), word, word.capitalize())]
    pieces = [text for text, _, _ in tiny_text.pieces(texts)]
    embedding = tensors["model.embed_tokens.weight"]
    for word, number in (("Red", 0), ("scarlet", 0), ("star", 8), ("jumps", 14)):
        for form in (word, space + word):
            assert embedding[pieces.index(form)].argmax() == number == CLASS_OF[word.lower()]
    assert embedding[pieces.index("z")].argmax() == len(set(CLASS_OF.values()))
