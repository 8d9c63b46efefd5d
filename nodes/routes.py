"""What the page asks the server besides ComfyUI's own routes. The nodes need none of it."""

import base64
import io

import PIL.Image

from . import host
from .continuation import load_state
from .state_list import STATES
from .storyboard import storyboard

ROOT = "/ltx2_continuum"
THUMBNAIL = 320  # pixels of its longer side


def thumbnail(frame) -> str:
    """A frame [H, W, 3] as a small picture in an address of its own."""
    picture = PIL.Image.fromarray(frame)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"


def state_names(query: dict) -> dict:
    """The states there are, newest first."""
    return {"files": STATES.names()}


def state_card(query: dict) -> dict:
    """What a state file holds, with its last frame as a picture. Raises RequestError and ContinuationError."""
    state, shown = load_state(query.get("file", ""))
    frames = state.video_frames
    return shown | {"thumbnail": thumbnail(frames[-1]) if frames is not None and len(frames) else None}


def serve_all() -> None:
    host.serve(f"{ROOT}/states", state_names)
    host.serve(f"{ROOT}/state", state_card)
    host.serve(f"{ROOT}/storyboard", storyboard, "POST")
