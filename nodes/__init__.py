"""The nodes: sockets in, engine calls, sockets out."""

from . import continuation, native
from .host import ComfyExtension

NODES = [*continuation.NODES, *native.NODES]


class Extension(ComfyExtension):
    async def get_node_list(self):
        return NODES


def comfy_entrypoint() -> Extension:
    return Extension()
