"""What belongs together: parts of different LTX-2 releases fit by their shapes and make noise, so they are refused with
a sentence."""

from ..ltx2.errors import RequestError
from .sockets import ContextValue, ModelValue, TextEncoderValue, VideoVaeValue

SECOND_SPACE = (2, 3)  # its video VAE came with latents of its own, which 2.5 shares


def check_text_encoder(model: ModelValue, text_encoder: TextEncoderValue) -> None:
    """Raises RequestError for a text encoder that was loaded for a model of another release."""
    if _release(text_encoder.version) != _release(model.version):
        raise RequestError(
            f"the text encoder was loaded for LTX-{_release(text_encoder.version)}, the model is LTX-{_release(model.version)}: connect this "
            "model to Load LTX-2 Text Encoder"
        )


def context_for(model: ModelValue, given: ContextValue | None):
    """The engine's text context of an encoded prompt, or None. Raises RequestError for one that another release's text
    encoder made."""
    if given is None:
        return None
    if _release(given.version) != _release(model.version):
        raise RequestError(
            f"the prompt was encoded for LTX-{_release(given.version)}, the model is LTX-{_release(model.version)}: load the text encoder for "
            "this model and encode the prompt with it"
        )
    return given.context


def text_lora_notes(model: ModelValue, given: TextEncoderValue | ContextValue | None) -> tuple[str, ...]:
    """What to tell where LoRAs on a model also change networks of the text, and the text was encoded without them."""
    lacking = [] if given is None else [path.name for path, _ in set(model.text_loras) - set(given.loras)]
    return tuple(
        f"LoRA {name} also changes how prompts are encoded, and this prompt was encoded without it: connect the model with the LoRA to "
        "Load LTX-2 Text Encoder"
        for name in sorted(lacking)
    )


def check_same_release(model: ModelValue, version: tuple[int, ...]) -> None:
    """Raises RequestError when a clip of one release is to be refined by a model of another."""
    if _release(version) != _release(model.version):
        raise RequestError(
            f"the clip was made with LTX-{_release(version)}, the model is LTX-{_release(model.version)}: use the same release"
        )


def check_video_vae(video_vae: VideoVaeValue, version: tuple[int, ...]) -> None:
    """Raises RequestError for a video VAE whose latents are not those of a model of this version."""
    if not version or video_vae.first_space is None or video_vae.first_space == (version < SECOND_SPACE):
        return
    found, wanted = ("LTX-2.0", "LTX-2.3 or 2.5") if video_vae.first_space else ("LTX-2.3 or 2.5", "LTX-2.0")
    raise RequestError(
        f"{video_vae} is of {found}, the clip's model is LTX-{_release(version)}: load the video VAE of {wanted}"
    )


def _release(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version[:2]))
