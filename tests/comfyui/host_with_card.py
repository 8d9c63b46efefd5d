"""The host as it runs with a card that has room for part of a network, on a machine without one (see second_device).

KEEPS says what it may keep there. ``nothing``: as with --novram, all that it can leave behind stays in main memory;
``half`` of every network, the rest is brought at use; ``pages``: its dynamic loading (0.12 on), which fills what room
there is while a network runs and brings the rest each time.
"""

import array
from contextlib import contextmanager

import torch

from . import second_device
from .conftest import REAL
from .second_device import CARD, CPU, Placed

PLENTY = 10**12


class Pages:
    """Stands for the host's native library of virtual memory on a card: ranges that are filled as long as there is
    room."""

    room = 400_000  # bytes for each network: some of a tiny one's weights

    def __init__(self, size, device):
        self.end, self.filled = 0, {}  # start of a range → its bytes

    def prioritize(self, *_):
        pass

    def alloc(self, size):
        self.end += size
        return self, self.end - size, size

    def loaded_size(self):
        return sum(len(page) for page in self.filled.values())

    def free_memory(self, size):
        freed = self.loaded_size()
        self.filled.clear()
        return freed

    @staticmethod
    def fault(reserved):
        """A sign that stays the same while the range is filled, or None without room."""
        pages, start, size = reserved
        if start not in pages.filled:
            if pages.loaded_size() + size > Pages.room:
                return None
            pages.filled[start] = torch.empty(size, dtype=torch.uint8, device=CARD)
        return array.array("I", [start])

    @staticmethod
    def tensor(reserved, device):
        pages, start, _ = reserved
        return pages.filled[start]


class _NoBuffer:
    """Stands for pinned memory, of which there is none."""

    size = 0

    def __init__(self, *_, **__):
        pass


def give(monkeypatch, keeps: str) -> None:
    """The host finds a card. keeps: see above; the stand-in moves nothing, so it keeps nothing there."""
    import comfy.model_management as mm

    monkeypatch.setattr(
        mm, "get_free_memory", lambda device=None, torch_free_too=False: (PLENTY, 0) if torch_free_too else PLENTY
    )
    for name in ("get_torch_device", "text_encoder_device", "vae_device"):
        monkeypatch.setattr(mm, name, lambda: CARD)
    for name in ("unet_dtype", "vae_dtype", "lora_compute_dtype"):
        monkeypatch.setattr(mm, name, lambda *_, **__: torch.float32, raising=False)
    monkeypatch.setattr(mm, "unet_manual_cast", lambda *_, **__: None)
    monkeypatch.setattr(mm, "should_use_bf16", lambda *_, **__: False)
    if REAL:
        _keep(monkeypatch, mm, keeps)


@contextmanager
def running(monkeypatch):
    """The card can be used, in the way that a host runs its nodes, until the block ends."""
    import comfy.model_management as mm

    with second_device.card(monkeypatch), torch.inference_mode():
        yield
        mm.unload_all_models()


def has_pages() -> bool:
    import comfy.model_patcher

    return hasattr(comfy.model_patcher, "ModelPatcherDynamic")


def resolve_request(network: torch.nn.Module) -> None:
    """Parameters that can be moved as they are, as the dynamic loading does with some; a Parameter of this machine
    cannot."""
    for layer in network.modules():
        for name, parameter in layer._parameters.items():
            if parameter is not None:
                layer._parameters[name] = torch.nn.Parameter(Placed(parameter.detach(), CPU), requires_grad=False)


def _keep(monkeypatch, mm, keeps):
    import comfy.ldm.modules.attention

    monkeypatch.setattr(
        comfy.ldm.modules.attention, "optimized_attention", comfy.ldm.modules.attention.attention_pytorch
    )
    monkeypatch.setattr(mm, "vram_state", mm.VRAMState.NO_VRAM if keeps == "nothing" else mm.VRAMState.NORMAL_VRAM)
    if keeps == "half":
        load = mm.LoadedModel.model_load
        monkeypatch.setattr(
            mm.LoadedModel, "model_load", lambda self, *_, **how: load(self, self.model.model_size() / 2, **how)
        )
    elif keeps == "pages":
        _fill_pages(monkeypatch)


def _fill_pages(monkeypatch):
    import comfy.memory_management
    import comfy.model_patcher
    import comfy.pinned_memory
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar
    import comfy_aimdo.torch

    def patcher(network, **devices):
        resolve_request(network)
        return comfy.model_patcher.ModelPatcherDynamic(network, **devices)

    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", patcher)
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    for name, value in (("ModelVBAR", Pages), ("vbar_fault", Pages.fault), ("vbar_unpin", lambda reserved: None)):
        monkeypatch.setattr(comfy_aimdo.model_vbar, name, value)
    monkeypatch.setattr(comfy_aimdo.torch, "aimdo_to_tensor", Pages.tensor)
    monkeypatch.setattr(comfy_aimdo.host_buffer, "HostBuffer", _NoBuffer)
    for name in ("pin_memory", "get_pin"):
        monkeypatch.setattr(comfy.pinned_memory, name, lambda *_, **__: None)
