"""Prompt texts: what to keep out of the picture and the sound."""

from ..errors import RequestError

_PICTURE = (
    "low quality, worst quality, blurry, out of focus, grainy, noisy, pixelated, compression artifacts, banding, "
    "overexposed, "
    "underexposed, washed out colours, oversaturated, flicker, strobing, jitter, shaky camera, ghosting, motion "
    "smear, frozen picture, "
    "unnatural motion, warped geometry, melting objects, inconsistent perspective, cartoonish skin, plastic skin, "
    "distorted face, "
    "asymmetric eyes, bad teeth, deformed hands, extra fingers, missing fingers, extra limbs, duplicated people, "
    "wrong proportions"
)
_OVERLAYS = (
    "subtitles, captions, on-screen text, logo, watermark, signature, user interface, blurred box, border, letterbox"
)
_CUTS = "fade from black, fade to black, abrupt cut, slideshow"
_SOUND = (
    "muffled voice, robotic voice, mumbled speech, speech that stops mid-sentence, lips out of sync, clipping, "
    "distortion, hiss, hum, "
    "echo, crackle, silence, off-key music"
)

# Negative prompts by name. "full" is the default where guidance uses one; distilled models use none.
NEGATIVE_PRESETS = {
    "full": ", ".join((_OVERLAYS, _CUTS, _PICTURE, _SOUND)),
    "picture": ", ".join((_OVERLAYS, _CUTS, _PICTURE)),
    "sound": _SOUND,
    "short": "worst quality, blurry, jittery, distorted, watermark, subtitles, muffled sound",
    "none": "",
}


def negative_prompt(text: str = "full") -> str:
    """The negative prompt meant by a preset's name (``full``, ``picture``, ``sound``, ``short``, ``none``) or the text
    itself."""
    return NEGATIVE_PRESETS.get(text.strip().lower(), text)


def check_text(text: str, name: str = "prompt") -> None:
    """Raises RequestError for a text that no tokenizer reads: one with half a character in it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the {name} holds half a character at letter {error.start + 1}: type or copy that place anew"
        ) from error
