"""Damage that a file's header does not show: an end that was never written, and weights that are no numbers.

Both are looked for where it costs next to nothing: the end of a file when it is opened, a few thousand bytes of each
tensor when it is loaded. Holes in the middle: see :mod:`.holes`.
"""

import re
from collections.abc import Iterable, Iterator

import torch

from ...errors import CheckpointError
from ..lazy_tensor import LazyTensor
from ..quantization.packed import FileTensor, QuantizedTensor
from ..weight_file import WeightFile, shown
from .holes import Place, check_places, row_bytes, run_begin, size_of_zeros

TAIL_BYTES = 1 << 20  # of a tensor at a file's end that are looked at
LEAST_ZEROS = 4096  # bytes at a file's end that tell anything
WHOLE_BYTES = 1 << 16  # up to here a tensor is looked through, beyond it at both ends
END_BYTES = 1 << 12
LONG_ROW_BYTES = 1 << 11  # a download that breaks off where such a row ends is a chance that does not count
_NEAR_BYTES = 8  # of a last number, which may be zero
# Differences from a model begin as zeros, and a training that leaves a layer alone leaves them so; the matrices that
# they are multiplied with never do.
_MAY_BE_ZERO = re.compile(r"lora_?(b|up)\b|\.up\.|hada_w|lokr_|oft_|\.diff|\.[ab]2\.", re.IGNORECASE)
_NO_WEIGHTS = (torch.bool, torch.int16, torch.int32, torch.int64)


def check_end(file: WeightFile, places: Iterable[Place]) -> None:
    """Raise CheckpointError where a file of its full length ends in zeros that weights cannot be, as one does that a
    download set aside room for and did not fill. Zeros that begin where a tensor or a long row does are meant: a
    download breaks off elsewhere, or at the first one."""
    count = min(LEAST_ZEROS, file.size)
    if file.view(file.size - count, count).any():
        return
    places = sorted(places, key=lambda item: item[2].offset, reverse=True)
    for name, shape, place in places:
        count = min(place.nbytes, TAIL_BYTES)
        if file.view(place.offset + place.nbytes - count, count).any():
            return
        is_matrix = sum(extent > 1 for extent in shape) > 1 and place.dtype not in _NO_WEIGHTS
        if is_matrix and not _MAY_BE_ZERO.search(name):
            begin = run_begin(file, file.size, 0)
            if _begins_a_row(begin, places):
                return
            zeros = file.size - begin
            raise CheckpointError(
                f"{file.path} ends in {size_of_zeros(zeros)} of zeros, the last of tensor {shown(name)} among them: "
                "its download is not finished, go on with it"
            )
        if count < place.nbytes:
            return


def _begins_a_row(begin: int, places: Iterable[Place]) -> bool:
    """Whether zeros that begin here may be whole tensors or rows of one. places: from the last one to the first."""
    *others, (_, _, first) = places
    for _, shape, place in others:
        row = row_bytes(shape, place.nbytes)
        step = row if row >= LONG_ROW_BYTES else place.nbytes
        if first.offset < begin and place.offset - _NEAR_BYTES <= begin < place.offset + place.nbytes:
            return (place.offset - begin) % step <= _NEAR_BYTES
    return False


def check_loaded(tensor: FileTensor) -> None:
    """Raise CheckpointError for a tensor that is about to be loaded and is damaged: a hole, or numbers that are none.
    Held tensors are taken as they are."""
    if isinstance(tensor, LazyTensor):
        check_finite(tensor)
    check_places(places_of(tensor.name, tensor))


def places_of(name: str, tensor: FileTensor) -> Iterator[Place]:
    """All that is stored of a tensor."""
    if isinstance(tensor, LazyTensor):
        yield name, tensor.shape, tensor
    elif isinstance(tensor, QuantizedTensor):
        for role, part in tensor.parts.items():
            yield name, tensor.shape if role == "weight" else part.shape, part


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
