"""Sound goldens: mel spectrogram, both halves of the audio VAE, both kinds of vocoder."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from ltx2.config.audio import audio_vae_config, vocoder_config
from ltx2.networks.audio.mel import waveform_to_mel
from ltx2.networks.audio.vae import AudioDecoder, AudioEncoder
from ltx2.networks.audio.vocoder import make_vocoder
from ltx2.values import Waveform

from ._differences import relative

KINDS = ("audio_encoder", "audio_decoder", "mel", "vocoder")


def matches(path: Path, metadata: dict) -> bool:
    return metadata.get("component") in KINDS


def load(path: Path, metadata: dict):
    """What a golden file tests (a function of one input and its name), its inputs and the outputs it must give."""
    tensors = load_file(path)
    weights = {name[len("weight.") :]: tensor for name, tensor in tensors.items() if name.startswith("weight.")}
    inputs = {name[len("input.") :]: tensor for name, tensor in tensors.items() if name.startswith("input.")}
    outputs = {name[len("output.") :]: tensor for name, tensor in tensors.items() if name.startswith("output.")}
    return network(metadata["component"], json.loads(metadata["config"]), weights), inputs, outputs


def network(component: str, config: dict, weights: dict):
    """A function (input, its name) → output, from official names with their prefixes. Weights stay in their stored
    type."""
    if component == "mel":
        mel = audio_vae_config(config, {})
        # The name of an input tells its rate: wave16k, wave44k.
        return lambda waves, name: torch.cat(
            [waveform_to_mel(Waveform(wave, sample_rate_of(name)), mel) for wave in waves]
        )
    if component == "vocoder":
        bare = {name.removeprefix("vocoder."): tensor for name, tensor in weights.items()}
        module = make_vocoder(vocoder_config(config, {name: tuple(t.shape) for name, t in bare.items()}))
    else:
        half = component.removeprefix("audio_")
        bare = {name.removeprefix("audio_vae.").removeprefix(f"{half}."): tensor for name, tensor in weights.items()}
        config = audio_vae_config(config, {name: tuple(t.shape) for name, t in bare.items()})
        module = (AudioEncoder if half == "encoder" else AudioDecoder)(config)
    module.load_state_dict(bare, strict=True, assign=True)
    return lambda x, name: module(x)


def sample_rate_of(name: str) -> int:
    thousands = int(re.search(r"(\d+)k", name)[1])
    return {11: 11_025, 22: 22_050, 44: 44_100, 88: 88_200}.get(thousands, thousands * 1000)


def differences(path: Path):
    """(name, largest difference relative to the output's scale) per output."""
    from .__main__ import metadata_of

    compute, inputs, outputs = load(path, metadata_of(path))
    with torch.no_grad():
        for name, wanted in outputs.items():
            yield f"{path.stem}.{name}", relative(compute(inputs[name], name), wanted)
