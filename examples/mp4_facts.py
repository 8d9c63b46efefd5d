"""How many frames and samples an MP4 holds, read from its tables in the standard library alone."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


@dataclass
class Facts:
    """frames: of the picture; samples: of the sound that is heard, per channel; sample_rate: 0 in a silent film."""

    frames: int = 0
    samples: int = 0
    sample_rate: int = 0


def film_facts(path: Path) -> Facts:
    """Facts of a film. Raises ValueError for what is no MP4."""
    facts = Facts()
    tracks = list(_tracks(path.read_bytes()))
    if not tracks:
        raise ValueError(f"{path} is no MP4 with a picture or sound")
    for track in tracks:
        durations = list(_pairs(track[b"stts"]))
        if track[b"hdlr"][8:12] == b"vide":
            facts.frames = sum(count for count, _ in durations)
        elif track[b"hdlr"][8:12] == b"soun":
            version = track[b"mdhd"][0]
            facts.sample_rate = struct.unpack_from(">I", track[b"mdhd"], 20 if version else 12)[0]
            # what comes first only warms the decoder up; the edit list says how much
            facts.samples = sum(count * length for count, length in durations) - _skipped(track.get(b"elst"))
    return facts


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1:
            length, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        length = length or end - start
        if length < head:
            return
        yield kind, start + head, min(start + length, end)
        start += length


def _tracks(data: bytes) -> Iterator[dict[bytes, bytes]]:
    """The small boxes of each track by kind."""

    def inside(start: int, end: int, found: dict[bytes, bytes]) -> None:
        for kind, first, last in _boxes(data, start, end):
            if kind in CONTAINERS:
                inside(first, last, found)
            elif kind in (b"stts", b"hdlr", b"mdhd", b"elst"):
                found.setdefault(kind, data[first:last])

    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"moov":
            for inner, first, last in _boxes(data, start, end):
                if inner == b"trak":
                    found: dict[bytes, bytes] = {}
                    inside(first, last, found)
                    yield found


def _pairs(table: bytes) -> Iterator[tuple[int, int]]:
    count = struct.unpack_from(">I", table, 4)[0]
    return struct.iter_unpack(">II", table[8 : 8 + 8 * count])


def _skipped(edits: bytes | None) -> int:
    """Samples before the sound that is heard begins."""
    if not edits:
        return 0
    version, count = edits[0], struct.unpack_from(">I", edits, 4)[0]
    step, pattern = (20, ">Qq") if version else (12, ">Ii")
    times = [struct.unpack_from(pattern, edits, 8 + step * number)[1] for number in range(count)]
    return next((time for time in times if time > 0), 0)
