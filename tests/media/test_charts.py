import numpy as np
import torch

from ltx2.media.charts import BAND_ROWS, GAP, JOIN, WAVE_ROWS, frame_strip, sound_picture
from ltx2.values import Waveform


def test_a_strip_shows_every_frame_in_its_place():
    rows = [np.full((3, 4, 5, 3), 10, np.uint8), np.full((2, 4, 5, 3), 200, np.uint8)]
    strip = np.asarray(frame_strip(rows, scale=2))
    assert strip.shape == (2 * 8 + GAP, 3 * 10 + 2 * GAP, 3)
    assert (strip[:8, :10] == 10).all() and (strip[8 + GAP :, 10 + GAP : 20 + GAP] == 200).all()
    assert (strip[8 + GAP :, 20 + 2 * GAP :] == 255).all()


def test_sound_shows_its_pitch_and_its_joins():
    rate = 24000
    wave = 0.5 * torch.sin(2 * torch.pi * 1000 * torch.arange(rate) / rate)
    picture = np.asarray(sound_picture(Waveform(torch.stack([wave, wave]), rate), joins=[0.5], width=100))
    assert picture.shape == (WAVE_ROWS + BAND_ROWS, 100, 3)
    assert (picture[:, 50] == JOIN).all()
    bright = picture[WAVE_ROWS:, 20].astype(int).sum(1).argmax()
    assert abs((BAND_ROWS - 1 - bright) / (BAND_ROWS - 1) * 4000 - 1000) < 50
    assert picture[:WAVE_ROWS, 20].min() < 255 and (picture[0, 20] == 255).all()
