"""The nodes: sockets in, engine calls, sockets out."""

from . import (
    bundle,
    conditioning,
    continuation,
    decode,
    denoise,
    drift,
    films,
    frame_rate,
    generate,
    latents,
    loras,
    models,
    native,
    sound,
    story,
    text,
)
from .host import ComfyExtension
from .routes import serve_all
from .shown import telling

# in the order in which a search shows them: what does it all, then what it is made of
MODULES = (
    generate,
    films,
    story,
    sound,
    continuation,
    models,
    loras,
    bundle,
    conditioning,
    drift,
    text,
    latents,
    denoise,
    frame_rate,
    decode,
    native,
)
NODES = [telling(node) for room in MODULES for node in room.NODES]


# before the server starts: older hosts call nothing later
serve_all()


class Extension(ComfyExtension):
    async def get_node_list(self):
        return NODES


def comfy_entrypoint() -> Extension:
    return Extension()
