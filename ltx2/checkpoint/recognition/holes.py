"""Holes in a download: room that was set aside in the middle of a file and never filled, though the file has its length
and its end.

Weights that are zeros on purpose come in whole rows or whole tensors. A hole begins and ends where a piece of the
download did, which is in the middle of a row but for a chance that does not count, with weights right beside it. So
runs of zeros are looked for where that costs next to nothing – where the file system says that it keeps nothing, and
at one place in every half MiB (more often in small tensors) of what is about to be read anyway – and judged by where
they begin and end.
"""

import contextlib
import mmap
import os
from collections.abc import Iterable, Iterator

import numpy as np

from ...errors import CheckpointError
from ..lazy_tensor import LazyTensor
from ..weight_file import WeightFile, shown

STEP_BYTES = 1 << 19  # from one look to the next; downloads come in pieces of a MiB and more
LOOK_BYTES = 512
_LEAST_LOOKS = 16  # at a tensor, of smaller ones down to every 4 KiB
LEAST_BYTES = 1 << 16  # of zeros that can be a hole
_READ_BYTES = 1 << 18
_MEASURED_BYTES = 1 << 28
_BESIDE_BYTES = 1024  # looked at beside a run of zeros
_LEAST_FULL = 0.75  # of the numbers there: of thinned out weights any stretch may be zeros
_NEAR = 16  # numbers at a row's ends that may happen to be zeros
_LEAST_ROW_BYTES = 1024  # of what is a row of a tensor of more than two dimensions
_MOST_SPOTS = 256

# name and shape of what a tensor stands for (of a part beside it: its own shape), and where it lies
Place = tuple[str, tuple[int, ...], LazyTensor]


def check_sparse(file: WeightFile, places: Iterable[Place]) -> None:
    """Raise CheckpointError for a hole that the file system knows of, without reading what is around it."""
    spots = list(_unkept(file))
    if not spots:
        return
    for place in places:
        tensor = place[2]
        for begin, end in spots:
            at, until = max(begin, tensor.offset), min(end, tensor.offset + tensor.nbytes)
            if at < until:
                _check_run(place, at)


def check_places(places: Iterable[Place]) -> None:
    """Raise CheckpointError for a hole in tensors that are about to be read."""
    for place in places:
        tensor = place[2]
        if tensor.file.mapping is None or tensor.nbytes < LOOK_BYTES:
            continue
        raw = tensor.file.view(tensor.offset, tensor.nbytes).numpy()
        passed, step = 0, max(8 * LOOK_BYTES, min(STEP_BYTES, tensor.nbytes // _LEAST_LOOKS))
        looks = (*range(0, tensor.nbytes - LOOK_BYTES, step), tensor.nbytes - LOOK_BYTES)
        _ask_for(tensor, looks)
        for at in looks:
            if at >= passed and not raw[at : at + LOOK_BYTES].any():
                passed = _check_run(place, tensor.offset + at) - tensor.offset


def _ask_for(tensor: LazyTensor, looks: Iterable[int]) -> None:
    """Have the system bring in what is looked at, all at once: one after the other, a disk far away takes minutes."""
    mapping = tensor.file.mapping
    if mapping is None or not hasattr(mmap, "MADV_WILLNEED"):
        return
    with contextlib.suppress(OSError):  # a system that does not
        for at in looks:
            begin = (tensor.offset + at) // mmap.PAGESIZE * mmap.PAGESIZE
            mapping.madvise(mmap.MADV_WILLNEED, begin, tensor.offset + at + LOOK_BYTES - begin)


def _unkept(file: WeightFile) -> Iterator[tuple[int, int]]:
    """Begin and end of what the file system keeps no bytes of, where it says so."""
    if file.mapping is None or not hasattr(os, "SEEK_HOLE"):
        return
    try:
        with open(file.path, "rb", buffering=0) as opened:
            end = 0
            for _ in range(_MOST_SPOTS):
                begin = opened.seek(end, os.SEEK_HOLE)
                if begin >= file.size:
                    return
                end = _data_after(opened.fileno(), begin, file.size)
                if end - begin >= LEAST_BYTES:
                    yield begin, end
    except OSError:  # a file system that does not say
        return


def _data_after(descriptor: int, begin: int, size: int) -> int:
    try:
        return os.lseek(descriptor, begin, os.SEEK_DATA)
    except OSError:  # nothing but a hole is left
        return size


def _check_run(place: Place, at: int) -> int:
    """Judge the run of zeros around a byte of the file. Returns where it ends, at most the tensor's end."""
    name, shape, tensor = place
    file, first, last = tensor.file, tensor.offset, tensor.offset + tensor.nbytes
    begin, end = run_begin(file, at, first), _run_end(file, at, last)
    row = row_bytes(shape, tensor.nbytes)
    # scales of one byte may lie in tiles, where rows begin and end nowhere
    if not row or (tensor.dtype.itemsize == 1 and tensor.name.endswith("scale")):
        return end
    if _breaks_off(tensor, begin, row, begin - _BESIDE_BYTES) or _breaks_off(tensor, end, row, end):
        whole_end = _run_end(file, at, file.size) if end == last else end
        length = whole_end - (run_begin(file, at, 0) if begin == first else begin)
        if length >= max(LEAST_BYTES, 2 * row):
            raise CheckpointError(
                f"{file.path} holds {size_of_zeros(length)} of zeros in the middle of its weights (of tensor "
                f"{shown(name)}): its download is not finished there, go on with it or get the file again"
            )
    return end


def row_bytes(shape: tuple[int, ...], nbytes: int) -> int:
    """Bytes of a row, the innermost one that is not short. 0: of one row, or none that can be told, any part may be
    zeros on purpose."""
    extents = [extent for extent in shape if extent != 1]
    rows = extents[0] if len(extents) > 1 else 1
    for extent in extents[1:-1]:
        rows = rows * extent if nbytes >= rows * extent * _LEAST_ROW_BYTES else rows
    return nbytes // rows if rows > 1 and nbytes % rows == 0 else 0


def _breaks_off(tensor: LazyTensor, edge: int, row: int, beside: int) -> bool:
    """Whether zeros begin or end in the middle of a row, where numbers stand on the other side (from ``beside`` on)."""
    into = (edge - tensor.offset) % row
    near = min(_NEAR * tensor.dtype.itemsize, row // 4)
    begins = beside < edge
    # zeros of a row's last numbers come before rows of zeros, those of its first numbers after them
    within = 0 < into < row - near if begins else near < into
    if not tensor.offset < edge < tensor.offset + tensor.nbytes or not within:
        return False
    # columns of padding: the row with these numbers has as many zeros on that side as the one before or after it, but
    # for those that its last numbers happen to be; of a first or last row that cannot be told
    start, count = (edge - row + near, row - into - near) if begins else (edge - into + row, into - near)
    inside = tensor.offset <= start and start + count <= tensor.offset + tensor.nbytes
    if not inside or not tensor.file.view(start, count).any():
        return False
    return _is_full(tensor, beside)


def size_of_zeros(nbytes: int) -> str:
    """How many, as people say it; they are measured up to a bound."""
    if nbytes >= _MEASURED_BYTES:
        return f"more than {_MEASURED_BYTES >> 20} MiB"
    return f"{nbytes / 2**20:.0f} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:.0f} KiB"


def run_begin(file: WeightFile, at: int, first: int) -> int:
    """Where the zeros before a byte begin, at least ``first``."""
    first = max(first, at - _MEASURED_BYTES)
    while at > first:
        start = max(first, at - _READ_BYTES)
        found = np.flatnonzero(file.view(start, at - start).numpy())
        if len(found):
            return start + int(found[-1]) + 1
        at = start
    return first


def _run_end(file: WeightFile, at: int, last: int) -> int:
    """Where the zeros from a byte on end, at most ``last``."""
    last = min(last, at + _MEASURED_BYTES)
    while at < last:
        count = min(_READ_BYTES, last - at)
        found = np.flatnonzero(file.view(at, count).numpy())
        if len(found):
            return at + int(found[0])
        at += count
    return last


def _is_full(tensor: LazyTensor, begin: int) -> bool:
    """Whether the bytes of a tensor from one of the file on hold numbers all over, rather than one here and there."""
    size = tensor.dtype.itemsize
    until = min(begin + _BESIDE_BYTES, tensor.offset + tensor.nbytes)
    begin = max(begin, tensor.offset)
    begin += (tensor.offset - begin) % size
    count = (until - begin) // size
    if count < _NEAR:
        return False
    found = tensor.file.view(begin, count * size).numpy().reshape(count, size).any(axis=1)
    return bool(found.mean() >= _LEAST_FULL)
