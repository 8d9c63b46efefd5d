"""Audio VAE and vocoder of the lattice world in closed form, in the released layouts (LTX-2.0's vocoder, 24 kHz).

A latent is the mean log-mel energy of 4 bins and 4 frames, left in channel 0, right in channel 1. The vocoder has a
fitted linear score for each tone; two leaky ReLUs limit it to 0…1, and it switches a sine on and off. All behind it
is exact linear algebra: sines are carried by their phase at the start of ever shorter pieces.

Pixel norm and SiLU before a last convolution are made linear by pairs of channels with opposite signs, silu(u) −
silu(−u) = u, and by large constant channels that set the norm.
"""

import math

import torch
from torch import Tensor

from . import world
from .engine import AudioDecoder, AudioEncoder, audio_vae_config, make_vocoder, tiny_audio_vae, vocoder_config
from .latents import AUDIO_MEAN, AUDIO_STD, MEL_BINS, MEL_GROUPS, sound_codes

AUDIO_VAE = tiny_audio_vae()  # the released config with few channels
VOCODER = {
    "resblock": "1",
    "upsample_initial_channel": 128,
    "upsample_rates": [6, 5, 2, 2, 2],
    "upsample_kernel_sizes": [16, 15, 8, 4, 4],
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1]],
    "stereo": True,
    "use_tanh_at_final": False,
}
RATE = 24000
CONSTANT = 32.0  # of the channels that set the norm
FREQUENCIES = (*world.TONES.values(), world.BLIP)
LEVELS = (*[world.TONE_LEVEL] * len(world.TONES), world.BLIP_LEVEL)
TONES = len(FREQUENCIES)
SIDES = 2
SWITCH = 0.9  # the largest value of a switch: of leaky ReLUs with slope 0.1, 1 − 0.1
LEAK = 1.1  # positive and negative part of a signed pair through the leaky ReLU: 1 + 0.1


def networks():
    """Encoder, decoder and vocoder of the engine, with weights in bfloat16's precision."""
    with torch.no_grad():
        config = audio_vae_config(AUDIO_VAE, {})
        encoder, decoder = AudioEncoder(config), AudioDecoder(config)
        vocoder = make_vocoder(vocoder_config(VOCODER, {}))
        for network in (encoder, decoder, vocoder):
            for parameter in network.parameters():
                parameter.requires_grad_(False).zero_()
        _fill_encoder(encoder)
        _fill_decoder(decoder)
        _fill_switches(vocoder)
        _fill_sines(vocoder)
        for network in (encoder, decoder, vocoder):
            for parameter in network.parameters():
                parameter.copy_(parameter.bfloat16().float())
        for network in (encoder, decoder):
            network.per_channel_statistics.get_buffer("std-of-means").fill_(1.0)
            network.per_channel_statistics.get_buffer("mean-of-means").zero_()
    return encoder, decoder, vocoder


def _set(conv, pairs: list[tuple[int, int, float]]) -> None:
    """Weights of the tap that sees its own place: out channel, in channel, value."""
    weight = conv.conv.weight
    row, column = (2, 1) if weight.shape[-1] == 3 else (0, 0)
    for out, given, value in pairs:
        weight[out, given, row, column] = value


SAME = [(0, 0, 1.0), (1, 1, 1.0)]
SIGNED = [(0, 0, 1.0), (1, 0, -1.0), (2, 1, 1.0), (3, 1, -1.0)]


def _unsigned(gain: float) -> list[tuple[int, int, float]]:
    return [(0, 0, gain), (0, 1, -gain), (1, 2, gain), (1, 3, -gain)]


def _norm(width: int, constants: int) -> float:
    """What the pixel norm divides by, when the constants outweigh all else."""
    return math.sqrt(constants * CONSTANT**2 / width)


def _fill_encoder(encoder) -> None:
    """Both sides straight through; the mean of 2 × 2 at each downsampling."""
    _set(encoder.conv_in, [(side, side, 1 / AUDIO_STD) for side in range(SIDES)])
    encoder.conv_in.conv.bias[:SIDES] = -AUDIO_MEAN / AUDIO_STD
    for level in (0, 1):
        for side in range(SIDES):
            encoder.down[level].downsample.conv.weight[side, side, 1:, :2] = 0.25
    _set(encoder.down[1].block[0].nin_shortcut, SAME)
    _set(encoder.down[2].block[0].nin_shortcut, SIGNED)
    encoder.down[2].block[0].nin_shortcut.conv.bias[8:] = CONSTANT
    _set(encoder.conv_out, _unsigned(_norm(32, 24)))


def _fill_decoder(decoder) -> None:
    _set(decoder.conv_in, SAME)
    for level in (1, 2):
        _set(decoder.up[level].upsample.conv, SAME)
    _set(decoder.up[1].block[0].nin_shortcut, SAME)
    _set(decoder.up[0].block[0].nin_shortcut, SIGNED)
    decoder.up[0].block[0].nin_shortcut.conv.bias[4:] = CONSTANT
    _set(decoder.conv_out, _unsigned(_norm(8, 4) * AUDIO_STD))
    decoder.conv_out.conv.bias[:] = AUDIO_MEAN


def _scores() -> Tensor:
    """Linear scores [17, 7] of mel groups and a constant: −0.5 where a tone is off, 1.5 where it is on."""
    tones, blips = (codes * AUDIO_STD + AUDIO_MEAN for codes in sound_codes())
    generator = torch.Generator().manual_seed(0)
    rows, wanted = [], []

    def show(mel: Tensor, times: int, spread: float, colour: int, blip: float) -> None:
        for _ in range(times):
            rows.append(mel + spread * torch.randn(MEL_GROUPS, generator=generator))
            wanted.append([float(colour == other) for other in range(TONES - 1)] + [blip])

    for colour in range(TONES - 1):
        show(tones[colour], 200, 0.5, colour, 0.0)
        for place, on in ((0, 0.0), (1, 1.0), (2, 1.0), (3, 0.3), (4, 0.0)):
            show(blips[colour, place], 60, 0.4, colour, on)
    show(torch.full((MEL_GROUPS,), -11.5), 200, 0.5, -1, 0.0)
    given = torch.cat([torch.stack(rows), torch.ones(len(rows), 1)], 1).double()
    target = torch.tensor(wanted).double() * 2 - 0.5
    return torch.linalg.solve(given.T @ given + 1e-2 * torch.eye(given.shape[1]), given.T @ target).float()


def _fill_switches(vocoder) -> None:
    """Of each side's tones: score and score − 1, whose leaky ReLUs' difference is a switch."""
    scores, conv = _scores(), vocoder.conv_pre
    bins = MEL_GROUPS * MEL_BINS
    for side in range(SIDES):
        for tone in range(TONES):
            for hinge in (0, 1):
                out = _switch(side, tone) + hinge
                for mel in range(bins):
                    conv.weight[out, side * bins + mel, 3] = scores[mel // MEL_BINS, tone] / MEL_BINS
                conv.bias[out] = scores[-1, tone] - hinge
    conv.bias[2 * SIDES * TONES] = 1.0  # a constant, which takes away what leaks through an open switch


def _switch(side: int, tone: int) -> int:
    return 2 * (side * TONES + tone)


def _phase(side: int, tone: int, part: int) -> int:
    """First channel of the signed pair that holds sine (part 0) or cosine (1) of a tone's phase."""
    return 2 * (2 * (side * TONES + tone) + part)


def _fill_sines(vocoder) -> None:
    """10 ms → six pieces of 40 samples with each tone's phase → five pieces of 8 samples → samples in order."""
    first, second = vocoder.ups[0].weight, vocoder.ups[1].weight  # [in, out, taps]
    for side in range(SIDES):
        for tone in range(TONES):
            turn = 2 * math.pi * FREQUENCIES[tone] / RATE
            for piece in range(6):
                for part, value in enumerate((math.sin(turn * piece * 40), math.cos(turn * piece * 40))):
                    for sign in (0, 1):
                        level = LEVELS[tone] * value * (1 - 2 * sign) / SWITCH
                        out, given = _phase(side, tone, part) + sign, _switch(side, tone)
                        first[given, out, piece + 5] = level
                        first[given + 1, out, piece + 5] = -level
                        first[2 * SIDES * TONES, out, piece + 5] = -0.1 * level
            for piece in range(5):
                for sample in range(8):
                    angle = turn * (piece * 8 + sample)
                    for part, value in enumerate((math.cos(angle), math.sin(angle))):
                        _pair(second, _phase(side, tone, part), 2 * (side * 8 + sample), piece + 5, value)
    for level, (given, shift) in enumerate(((8, 3), (4, 1), (2, 1)), 2):
        kept = given // 2
        for side in range(SIDES):
            for piece in range(2):
                for sample in range(kept):
                    source, out = 2 * (side * given + piece * kept + sample), 2 * (side * kept + sample)
                    _pair(vocoder.ups[level].weight, source, out, piece + shift, 1.0)
    for side in range(SIDES):
        vocoder.conv_post.weight[side, 2 * side, 3] = 1 / 1.01  # its own leaky ReLU has slope 0.01
        vocoder.conv_post.weight[side, 2 * side + 1, 3] = -1 / 1.01


def _pair(weight: Tensor, given: int, out: int, tap: int, value: float) -> None:
    """From one signed pair to another."""
    for sign_in in (0, 1):
        for sign_out in (0, 1):
            weight[given + sign_in, out + sign_out, tap] = value * (1 - 2 * sign_in) * (1 - 2 * sign_out) / LEAK
