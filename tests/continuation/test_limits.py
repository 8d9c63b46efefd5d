"""What a hostile state may cost: memory and work grow with its size alone, and everything refused is refused early.

Memory is measured, not time: a budget of some megabytes for inputs of 100 KB, beside what their pictures need.
"""

import base64
import io
import json
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from ltx2.continuation import StateLimits, attachment_bytes, load_attachment_bytes
from ltx2.continuation.frame_files import decode_frame, encode_png, png_chunk
from ltx2.continuation.strict_json import check_plain, parse_json, shown
from ltx2.errors import ContinuationError

from .test_codec import full_state
from .vectors import formula_frame

SIZE = 100_000
BUDGET = 50 * 2**20


def envelope(payload: str) -> bytes:
    return f'{{"kind": "ltx2.v1", "payload": {payload}}}'.encode()


def long_keys() -> str:
    """Long names above many values: a reader that writes out the name of each place needs their product."""
    inner = f'"{"k" * 20_000}": [{",".join("1" for _ in range(20_000))}]'
    return f'{{"schema_version": 1, "metadata": {{"{"m" * 20_000}": {{{inner}}}}}}}'


def png_of(width, height, image=b"\0", extra=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"".join((*png_chunk(b"IHDR", header), extra, *png_chunk(b"IDAT", image), *png_chunk(b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + body


def frames(*pngs: bytes) -> str:
    texts = ",".join(f'"{base64.b64encode(png).decode()}"' for png in pngs)
    return f'{{"schema_version": 1, "video": {{"frames_b64": [{texts}]}}}}'


def text_bomb() -> bytes:
    packed = zlib.compress(b"x" * 1_000_000, 9)
    chunks = b"".join(b"".join(png_chunk(b"zTXt", b"k%d\0\0" % i, packed)) for i in range(60))
    return png_of(8, 8, zlib.compress(b"\0" * 25 * 8), chunks)


HOSTILE = {
    "long keys above many values": long_keys(),
    "many empty lists": f"[{'[],' * 33_000}[]]",
    "many empty objects": f'{{"schema_version": 1, "x": [{"{}," * 33_000}{{}}]}}',
    "deep": "[" * SIZE,
    "deep objects": '{"a":' * 20_000,
    "deep but closed": "[" * 900 + "]" * 900,
    "a long number": f'{{"segment_index": {"9" * SIZE}}}',
    "a long fraction": f'{{"video_position_offset_sec": 0.{"1" * SIZE}}}',
    "a long exponent": f'{{"video_position_offset_sec": 1e{"9" * 1000}}}',
    "a long text": f'{{"schema_version": "{"x" * SIZE}"}}',
    "a list for a number": f'{{"schema_version": [{"0," * 50_000}0]}}',
    "wide characters": f'{{"schema_version": 1, "metadata": {{"x": "{"é" * 30_000}😀"}}}}',
    "escapes": '"' + '\\"' * 50_000,
    "many frames": f'{{"schema_version": 1, "video": {{"frames_b64": [{"0," * 50_000}0]}}}}',
    "frames that are none": frames(*[b""] * 200),
    "a picture larger than its bytes": frames(png_of(6000, 6000)),
    "texts that unpack": frames(text_bomb()),
}


@pytest.mark.parametrize("strict", (True, False), ids=("strict", "lenient"))
@pytest.mark.parametrize("name", HOSTILE)
def test_small_inputs_stay_cheap(name, strict):
    data = envelope(HOSTILE[name])
    assert len(data) <= 2.5 * SIZE
    tracemalloc.start()
    try:
        try:
            load_attachment_bytes(data, "x.json", strict=strict)
        except ContinuationError as error:
            assert len(str(error)) <= 300 and str(error).isprintable()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < BUDGET


def calls_of(work) -> int:
    """Python calls, of builtins too, that a piece of work makes: the same on every machine."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("shape", ("flat", "nested", "objects"))
def test_the_work_of_checking_grows_with_the_count_of_values(shape):
    def value(count):
        if shape == "flat":
            return list(range(count))
        if shape == "nested":
            return [[[i] for i in range(count // 2)]]
        return {f"k{i}": {"x": i} for i in range(count // 2)}

    small, large = (calls_of(lambda n=n: check_plain({"x": value(n)}, "p", depth=1)) for n in (1000, 10_000))
    assert large < 11 * small


def test_values_are_counted_before_they_take_memory():
    text = f'{{"x": [{"[]," * 2_000_000}[]]}}'
    tracemalloc.start()
    try:
        with pytest.raises(ContinuationError, match="more than 200000 values"):
            parse_json(text, "file")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    commas = json.dumps({"workflow": ',[{"' * 500_000})  # what stands inside of texts does not count
    assert parse_json(commas, "file")["workflow"].startswith(",[")
    for open_text in ('"' + '\\"' * 600_000, '"' + "\\" * 1_100_001):
        with pytest.raises(ContinuationError, match="not JSON"):
            parse_json(open_text, "file")


def test_values_are_counted_when_writing_too():
    value = [1]
    for _ in range(14):
        value = [value] * 10  # the same list again and again: small in memory, endless on paper
    with pytest.raises(ContinuationError, match="more than 200000 values|nested deeper"):
        full_state(metadata={"x": value}).to_continuation_state()
    circle = {}
    circle["x"] = circle
    with pytest.raises(ContinuationError, match="nested deeper"):
        full_state(metadata=circle).to_continuation_state()


def test_the_place_is_named_and_stays_short():
    with pytest.raises(ContinuationError, match=r"^metadata\.a\[1\]\.b is nan"):
        check_plain({"a": [0, {"b": float("nan")}]}, "metadata")
    with pytest.raises(ContinuationError) as caught:
        check_plain({"k" * 60_000: {"k" * 60_000: {1}}}, "metadata")
    assert len(str(caught.value)) < 200


VALUES = (
    None,
    True,
    5,
    10**5000,
    1.5,
    float("nan"),
    "x" * 10**6,
    b"x" * 10**6,
    {"a": [[[[1]]]]},
    [1] * 10**5,
    object(),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_shown_short(value):
    assert len(shown(value)) <= 60


def test_deep_values_are_shown_without_recursion():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    assert shown(deep) == "[[…]]" and len(shown({"a": deep})) < 60


def test_a_frame_of_many_side_chunks_or_scans():
    _, note = decode_frame(text_bomb(), "frame")  # read, without a look at its texts
    assert not note
    with pytest.raises(ContinuationError, match="cannot hold 6000x6000 px"):
        decode_frame(png_of(6000, 6000, zlib.compress(b"\0")), "frame")
    file = io.BytesIO()
    Image.fromarray(formula_frame(0, 64, 64)).save(file, "JPEG", progressive=True)
    assert decode_frame(file.getvalue(), "frame")[1] == "a JPEG, which is lossy"
    data = file.getvalue()
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(ContinuationError, match="scans"):
        decode_frame(data[:-2] + data[scan:-2] * 100 + data[-2:], "frame")
    with pytest.raises(ContinuationError, match="chunks"):
        decode_frame(png_of(8, 8, extra=b"".join(png_chunk(b"IDAT", b"")) * 140_000), "frame")


@pytest.mark.parametrize("size", ((1, 1), (3, 500), (257, 129)))
@pytest.mark.parametrize("colour", (0, 255))
def test_plain_pictures_hold_in_few_bytes(size, colour):
    """The smallest honest files: none is taken for one that is too short for its size."""
    height, width = size
    frame = np.full((height, width, 3), colour, np.uint8)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in frame), 9)
    for data in (encode_png(frame), png_of(width, height, packed)):
        assert np.array_equal(decode_frame(data, "frame")[0], frame)


def test_pixels_of_all_frames_are_counted_before_they_are_decoded():
    data = attachment_bytes(full_state(), "safetensors")
    with pytest.raises(ContinuationError, match="px in the frames so far, expected at most 20000"):
        load_attachment_bytes(data, limits=StateLimits(total_pixels=20_000))
