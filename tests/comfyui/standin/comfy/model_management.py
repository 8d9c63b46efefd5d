"""Devices are the CPU; loading applies patches, unloading takes them back, interruption is a flag."""

import torch

CPU = torch.device("cpu")
loaded = []
interrupted = False
load_calls = []


OOM_EXCEPTION = torch.cuda.OutOfMemoryError


class InterruptProcessingException(BaseException):
    pass


def get_torch_device():
    return CPU


text_encoder_device = text_encoder_offload_device = vae_device = vae_offload_device = get_torch_device
unet_offload_device = intermediate_device = get_torch_device


def unet_dtype(device=None, model_params=0, supported_dtypes=(), weight_dtype=None):
    return torch.float32


def unet_manual_cast(weight_dtype, inference_device, supported_dtypes=()):
    return None if weight_dtype == torch.float32 else torch.float32


def vae_dtype(device=None, allowed_dtypes=()):
    return torch.float32


def should_use_bf16(device=None):
    return False


def get_free_memory(device=None):
    return 8 * 1024**3


def free_memory(memory_required, device):
    return []


def soft_empty_cache():
    pass


def load_models_gpu(models, memory_required=0, **_):
    load_calls.append(([type(m.model).__name__ for m in models], memory_required))
    for patcher in models:
        for other in [p for p in loaded if p.model is patcher.model and p is not patcher]:
            other.unpatch()
            loaded.remove(other)
        if patcher not in loaded:
            patcher.patch()
            loaded.append(patcher)


def unload_all_models():
    for patcher in loaded:
        patcher.unpatch()
    loaded.clear()


def throw_exception_if_processing_interrupted():
    global interrupted
    if interrupted:
        interrupted = False
        raise InterruptProcessingException()
