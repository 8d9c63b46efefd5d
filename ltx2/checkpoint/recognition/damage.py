"""Damage that a file's header does not show: an end that was never written, and weights that are no numbers.

Both are looked for where it costs next to nothing: the end of a file when it is opened, a few thousand bytes of each
tensor when it is loaded.
"""

import re
from collections.abc import Iterable

import torch

from ...errors import CheckpointError
from ..lazy_tensor import LazyTensor
from ..weight_file import WeightFile, shown

TAIL_BYTES = 1 << 20  # of a tensor at a file's end that are looked at
LEAST_ZEROS = 4096  # bytes at a file's end that tell anything
MEASURED_BYTES = 1 << 28  # of zeros, for the message
WHOLE_BYTES = 1 << 16  # up to here a tensor is looked through, beyond it at both ends
END_BYTES = 1 << 12
# Differences from a model begin as zeros, and a training that leaves a layer alone leaves them so; the matrices that
# they are multiplied with never do.
_MAY_BE_ZERO = re.compile(r"lora_?(b|up)\b|\.up\.|hada_w|lokr_|oft_|\.diff|\.[ab]2\.", re.IGNORECASE)
_NO_WEIGHTS = (torch.bool, torch.int16, torch.int32, torch.int64)


def check_end(file: WeightFile, tensors: Iterable[tuple[str, tuple[int, ...], LazyTensor]]) -> None:
    """Raise CheckpointError where a file of its full length ends in zeros that weights cannot be, as one does that a
    download set aside room for and did not fill. tensors: name, shape of what it stands for, and where it lies."""
    count = min(LEAST_ZEROS, file.size)
    if file.view(file.size - count, count).any():
        return
    for name, shape, place in sorted(tensors, key=lambda item: item[2].offset, reverse=True):
        count = min(place.nbytes, TAIL_BYTES)
        if file.view(place.offset + place.nbytes - count, count).any():
            return
        is_matrix = sum(extent > 1 for extent in shape) > 1 and place.dtype not in _NO_WEIGHTS
        if is_matrix and not _MAY_BE_ZERO.search(name):
            raise CheckpointError(
                f"{file.path} ends in {_zeros_at_end(file)} of zeros, the last of tensor {shown(name)} among them: its "
                "download is not finished, go on with it"
            )
        if count < place.nbytes:
            return


def _zeros_at_end(file: WeightFile) -> str:
    """How many, as people say it."""
    end = file.size
    while file.size - end < MEASURED_BYTES and end:
        count = min(TAIL_BYTES, end)
        found = file.view(end - count, count).nonzero()
        if len(found):
            end -= count - 1 - int(found[-1])
            return _size(file.size - end)
        end -= count
    return f"more than {_size(file.size - end)}"


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**20:.0f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:.0f} KiB"


def check_finite(tensor: LazyTensor) -> None:
    """Raise CheckpointError where weights hold NaN or infinity, in all of a small tensor or at the ends of a large
    one."""
    if not tensor.dtype.is_floating_point:
        return
    size = tensor.dtype.itemsize
    places = [(0, tensor.nbytes)] if tensor.nbytes <= WHOLE_BYTES else [(0, END_BYTES), (-END_BYTES, END_BYTES)]
    for at, count in places:
        begin = tensor.offset + at % tensor.nbytes if at else tensor.offset
        # a view of a type larger than a byte has to begin at a multiple of it
        raw = tensor.file.view(begin, count) if begin % size == 0 else tensor.file.read(begin, count)
        values = raw.view(tensor.dtype)
        if not torch.isfinite(values if size > 1 else values.float()).all():
            raise CheckpointError(
                f"{shown(tensor.file.name)} holds NaN or infinity in tensor {shown(tensor.name, 120)}, expected "
                "numbers: it is damaged or was converted wrongly, get it again"
            )
