"""Reference voices: speech that an ID-LoRA hears while it makes a clip, so that people in it speak with that voice.

A voice lies before the clip, at times below 0. Its tokens stand behind the sound's own, clean, and are dropped at the
end.
"""

from collections.abc import Sequence

import torch

from ... import clock
from ...checkpoint.lora import Lora
from ...checkpoint.lora_purpose import DUB, purpose_of
from ...errors import RequestError
from ...values import VoiceCondition

# What ID-LoRAs were trained with, about, and what says little or is beyond the models' time.
USUAL_SECONDS, SHORTEST, LONGEST = 5, 1, clock.WINDOW_SECONDS
_SHORT, _LONG = 3, 10  # outside of these the likeness suffers
STRONGEST = 20.0  # identity guidance


def voice_positions(latents: int, *, device: torch.device | str) -> torch.Tensor:
    """Positions [1, 1, T, 2] float32 of a voice's tokens in seconds: their own, moved so that the last one ends one
    audio latent before the clip begins."""
    spans = [clock.audio_latent_span(index) for index in range(latents)]
    gap = clock.audio_latent_span(1)[1] - clock.audio_latent_span(1)[0]
    shift = spans[-1][1] + gap
    moved = [[float(edge - shift) for edge in span] for span in spans]
    return torch.tensor(moved, dtype=torch.float32, device=device)[None, None]


def check_voice(voice: VoiceCondition | None, *, audio_latents: int, own_sound: bool) -> tuple[str, ...]:
    """What is to be told of the voice of a clip with so many audio latents, one sentence each. Raises RequestError for
    one that cannot be, before anything is encoded. own_sound: the clip's sound is given already."""
    if voice is None:
        return ()
    if not audio_latents:
        raise RequestError("a voice is given for a silent film: leave audio_latents out, or the voice")
    if own_sound:
        raise RequestError("a voice and a sound of one's own are given, which is heard as it is: leave one of them out")
    if not 0 <= voice.identity <= STRONGEST:
        raise RequestError(f"identity of the voice is {voice.identity:g}, expected 0 (off) to {STRONGEST:g}, such as 3")
    if voice.sound is None:
        return ()
    seconds = float(voice.sound.seconds)
    if not voice.sound.samples.any():
        raise RequestError(f"the voice is silent ({seconds:.2f} s, all 0): give about {USUAL_SECONDS} s of speech")
    if seconds < SHORTEST:
        raise RequestError(
            f"the voice has {seconds:.2f} s, expected {SHORTEST} s or more: give about {USUAL_SECONDS} s of speech"
        )
    if seconds > LONGEST:
        raise RequestError(
            f"the voice has {seconds:.2f} s, expected at most {LONGEST} s: cut it to about {USUAL_SECONDS} s of speech"
        )
    if _SHORT <= seconds <= _LONG or voice.keeps_sound:
        return ()
    return (f"the voice has {seconds:.2f} s, ID-LoRAs were trained with about {USUAL_SECONDS} s: it may be less alike",)


def voice_lora_notes(voice: VoiceCondition | None, loras: Sequence[Lora]) -> tuple[str, ...]:
    """Whether a voice is given that no LoRA among these was made to take up. loras: those that take up something."""
    if voice is None:
        return ()
    if voice.keeps_sound:
        dubs = not loras or any(purpose_of(lora).kind == DUB for lora in loras)
        return () if dubs else (f"{loras[0].path.name} is not known as a LoRA that dubs: see ltx2 inspect",)
    if any(lora.takes_voice for lora in loras):
        return ()
    return ("a voice is given but no ID-LoRA is loaded: the model was not trained to take it up",)
