"""Contexts that were encoded before, kept by the caller for as long as the caller likes."""

import hashlib
from collections import OrderedDict

import torch
from torch import nn

from ..values import TextContext
from .context_folder import ContextFolder, KeptContext

# A context of the released models is 12 to 16 MB. Prompts that come again – the negative one, and the one that is tried
# with another seed – come soon; a story of many segments asks for most of its prompts once.
DEFAULT_LIMIT_BYTES = 128 * 2**20
DEFAULT_LIMIT_CONTEXTS = 8


class ContextCache:
    """Contexts by model identity and prompt; the longest unused go first when one of the limits is reached.

    Kept on the CPU, so that the cache costs no memory where the models run. folder: keeps them for later runs too.
    Surrounding blanks of a prompt do not matter.
    """

    def __init__(
        self,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        limit_contexts: int = DEFAULT_LIMIT_CONTEXTS,
        folder: ContextFolder | None = None,
    ):
        self.limit_bytes, self.limit_contexts, self.folder = limit_bytes, limit_contexts, folder
        self._contexts: OrderedDict[tuple[str, str], KeptContext] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    @property
    def bytes(self) -> int:
        """How much memory the contexts take."""
        return sum(_bytes(kept.context) for kept in self._contexts.values())

    def find(self, identity: str, prompt: str, device: torch.device | str = "cpu") -> TextContext | None:
        """The context of a prompt on ``device``, or None."""
        key = (identity, prompt.strip())
        if key not in self._contexts:
            kept = None if self.folder is None else self.folder.find(identity, prompt)
            if kept is None:
                return None
            self._hold(key, kept)
        self._contexts.move_to_end(key)
        return self._contexts[key].context.to(device)

    def note(self, identity: str, prompt: str) -> tuple[bool, str | None]:
        """Whether a prompt's context is known, and what is to be told of it (see ``keep``)."""
        kept = self._contexts.get((identity, prompt.strip()))
        if kept is not None:
            return True, kept.note
        return (False, None) if self.folder is None else self.folder.note(identity, prompt)

    def keep(self, identity: str, prompt: str, context: TextContext, note: str | None = None) -> None:
        """Remember the context of a prompt; the longest unused go where there is no room. note: what is to be told of
        the prompt each time."""
        kept = KeptContext(context.to("cpu"), note)
        self._hold((identity, prompt.strip()), kept)
        if self.folder is not None:
            self.folder.keep(identity, prompt, kept)

    def _hold(self, key: tuple[str, str], kept: KeptContext) -> None:
        self._contexts[key] = kept
        self._contexts.move_to_end(key)
        while len(self) > 1 and (self.bytes > self.limit_bytes or len(self) > self.limit_contexts):
            self._contexts.popitem(last=False)


def _bytes(context: TextContext) -> int:
    return sum(tensor.nbytes for tensor in (context.video, context.audio) if tensor is not None)


# Values looked at per tensor; a fine-tuned or merged weight differs nearly everywhere.
SAMPLES = 64


@torch.inference_mode()
def fingerprint(*modules: nn.Module | None) -> str:
    """A short digest of names, shapes and sampled values of all weights: equal for equal weights, cheap for large
    ones."""
    digest = hashlib.sha256()
    samples = []
    for module in modules:
        for name, tensor in module.state_dict().items() if module is not None else ():
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}\0".encode())
            flat = tensor.reshape(-1)
            step = max(1, flat.numel() // SAMPLES)
            # Bytes, so that every storage type (8-bit ones too) is compared alike.
            samples.append(flat[::step][:SAMPLES].contiguous().view(torch.uint8).reshape(-1))
        digest.update(b"|")
    by_device: dict[torch.device, list[torch.Tensor]] = {}
    for sample in samples:
        by_device.setdefault(sample.device, []).append(sample)
    for _, group in sorted(by_device.items(), key=lambda item: str(item[0])):
        digest.update(torch.cat(group).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
