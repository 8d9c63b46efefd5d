"""LTX-2 Continuum: ComfyUI's door to the pack. Does nothing where ComfyUI is not the importer."""

import importlib.util

if __package__ and importlib.util.find_spec("comfy_api") is not None:
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["comfy_entrypoint", "WEB_DIRECTORY"]
