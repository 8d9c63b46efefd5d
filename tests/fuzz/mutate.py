"""Mutations that know the structure of what they change, so that inputs get past the first check and meet the next.

Each takes a source of random numbers and bytes, and gives bytes; the same numbers give the same input.
"""

import copy
import json
import random
import struct
import zlib
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes], bytes]

INTERESTING = (0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
VALUES = (
    None,
    True,
    0,
    -1,
    1,
    3.5,
    -0.0,
    1e308,
    2**31,
    2**64,
    10**40,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../x",
    "\ud800",
    "\0",
    "é😀",
    "x" * 3000,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    [None, "x"],
    "AAAA",
    "!!int",
    "2001-01-01",
)


# --- bytes -----------------------------------------------------------------------------------------------------------


def flip(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 1, 4, 40))) + data[at:]


def remove(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 8, 64)) :]


def repeat(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.choice((1, 8, 100))]
    return data[:start] + piece * rng.choice((2, 3, 20)) + data[start:]


def swap(rng: random.Random, data: bytes) -> bytes:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def number(rng: random.Random, data: bytes) -> bytes:
    """One of the numbers that break readers, in the width and order that files use."""
    if len(data) < 8:
        return insert(rng, data)
    form = rng.choice(("<I", ">I", "<Q", "<H", "B"))
    size = struct.calcsize(form)
    at = rng.randrange(min(len(data) - size + 1, 4096))  # headers lie in front
    value = rng.choice(INTERESTING) % 2 ** (8 * size)
    return data[:at] + struct.pack(form, value) + data[at + size :]


BYTES: tuple[Mutation, ...] = (flip, flip, cut, insert, remove, repeat, swap, number)


# --- JSON ------------------------------------------------------------------------------------------------------------


def changed_value(rng: random.Random, value):
    """A value in which one place was replaced, removed, doubled, renamed or put elsewhere."""
    places: list = []

    def walk(container):
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            places.append((container, key))
            if isinstance(container[key], (dict, list)):
                walk(container[key])

    if isinstance(value, (dict, list)):
        walk(value)
    if not places or rng.random() < 0.02:
        return copy.deepcopy(rng.choice(VALUES))
    container, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice((key.upper(), key[:-1], key + "x", ""))] = container.pop(key)
    elif kind == 2:
        container[key] = [container[key]] * rng.choice((0, 1, 2, 2, 260 if len(places) < 200 else 3))
    elif kind == 3:
        other, name = rng.choice(places)
        container[key] = copy.deepcopy(other[name])
    elif kind == 4 and isinstance(container[key], str) and container[key]:
        container[key] = flip(rng, container[key].encode("utf-8", "surrogatepass")).decode("latin-1")
    else:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def in_json(rng: random.Random, data: bytes) -> bytes:
    try:
        value = json.loads(data)
    except ValueError:
        return flip(rng, data)
    for _ in range(rng.choice((1, 1, 1, 3))):
        value = changed_value(rng, value)
    return json.dumps(value).encode()


# --- containers ------------------------------------------------------------------------------------------------------


def in_safetensors(rng: random.Random, data: bytes) -> bytes:
    """The header changed as JSON, its length made to fit or not."""
    if len(data) < 8:
        return flip(rng, data)
    (length,) = struct.unpack_from("<Q", data)
    header = in_json(rng, data[8 : 8 + length])
    header += b" " * (-len(header) % rng.choice((1, 8)))
    stated = len(header) if rng.random() < 0.95 else rng.choice(INTERESTING)
    return struct.pack("<Q", stated) + header + data[8 + length :]


def png_pieces(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def join_png(pieces: list[tuple[bytes, bytes]]) -> bytes:
    chunks = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in pieces)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def in_png(rng: random.Random, data: bytes) -> bytes:
    """A chunk changed, removed, doubled or moved; checksums fit."""
    pieces = png_pieces(data)
    if not pieces:
        return flip(rng, data)
    at = rng.randrange(len(pieces))
    kind, content = pieces[at]
    what = rng.randrange(6)
    if what == 0:
        del pieces[at]
    elif what == 1:
        pieces[at:at] = [(kind, content)] * rng.choice((1, 2, 70))
    elif what == 2:
        pieces.insert(rng.randrange(len(pieces)), pieces.pop(at))
    elif what == 3:
        pieces[at] = (rng.choice((b"tEXt", b"iTXt", b"IDAT", b"acTL", b"ltXs", b"IEND", b"PLTE")), content)
    elif kind == b"ltXs" and what == 4:
        pieces[at] = (kind, content[:8] + in_safetensors(rng, content[8:]))
    else:
        pieces[at] = (kind, rng.choice(BYTES)(rng, content))
    return join_png(pieces)


def in_lines(rng: random.Random, data: bytes) -> bytes:
    """A line removed, doubled, moved, or one of its words changed."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    what = rng.randrange(6)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines[at:at] = [lines[at]] * rng.choice((1, 2, 50))
    elif what == 2:
        lines.insert(rng.randrange(len(lines)), lines.pop(at))
    elif what == 3:
        lines[at] = b" " * rng.randrange(9) + lines[at].strip()
    else:
        words = lines[at].split(b" ")
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        lines[at] = b" ".join(words)
    return b"\n".join(lines)


WORDS = (
    b"&a",
    b"*a",
    b"&a [*a, *a]",
    b"<<: *a",
    b"!!int",
    b'!!float ""',
    b"!!binary x",
    b"!!python/object:os.system",
    b"{",
    b"[",
    b"- -",
    b"?",
    b"|",
    b">",
    b"---",
    b"...",
    b"%YAML 9.9",
    b"2001-13-01",
    b"0x" + b"9" * 400,
    b"1:2:3",
    b".nan",
    b"-.inf",
    b"~",
    b"'",
    b'"\\ud800"',
    b"\xff",
    b"\t",
    b"x" * 5000,
    b"prompt:",
    b"image:",
    b"@-1",
    b"p.jpg@-1",
    b"../../etc/passwd",
    b"seconds: 1e308",
    b"frames: -8",
    b"fps: 0",
    b"size: 0x0",
)
