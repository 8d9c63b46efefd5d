"""Reading safetensors: sound files give what was saved, broken ones one sentence and nothing else."""

import errno
import json
import os
import random
import resource
import struct

import pytest
import torch

from ltx2.checkpoint import lazy_tensor
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.checkpoint.safetensors_header import DTYPES
from ltx2.errors import CheckpointError

from .files import header_bytes, one, save, write


def refused(path, *parts: str) -> str:
    """The one sentence that a file is refused with."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint = open_checkpoint(path)
        for tensor in checkpoint.tensors.values():
            tensor.load()
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and ": " in message and len(message) < 600, message
    for part in parts:
        assert part in message, message
    return message


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype_comes_back(tmp_path, dtype):
    if dtype.itemsize == 1 and dtype.is_floating_point:
        given = torch.tensor([[0.5, 1.0, 2.0]]).to(dtype)
        assert torch.equal(
            open_checkpoint(save(tmp_path / "a.safetensors", {"x": given})).tensors["x"].load().float(), given.float()
        )
        return
    given = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    tensor = open_checkpoint(save(tmp_path / "a.safetensors", {"x": given})).tensors["x"]
    assert tensor.shape == (2, 3) and tensor.dtype == dtype
    for loaded in (tensor.load(), tensor.load(mapped=False)):
        assert loaded.dtype == dtype and torch.equal(loaded, given)


def test_loading_converts_floats_alone(tmp_path):
    tensors = {"x": torch.randn(3, 2), "n": torch.arange(4), "none": torch.empty(0, 5), "one": torch.tensor(2.5)}
    found = open_checkpoint(save(tmp_path / "a.safetensors", tensors)).tensors
    assert found["x"].load(dtype=torch.bfloat16).equal(tensors["x"].bfloat16())
    assert found["n"].load(dtype=torch.bfloat16).equal(tensors["n"])
    assert found["none"].load().shape == (0, 5) and found["one"].load() == 2.5


def test_a_mapped_tensor_can_be_written_without_touching_the_file(tmp_path):
    path = save(tmp_path / "a.safetensors", {"x": torch.zeros(4)})
    before = path.read_bytes()
    open_checkpoint(path).tensors["x"].load().add_(1)
    assert path.read_bytes() == before


def test_tensors_at_odd_places_are_read(tmp_path):
    header = {"a": one("U8", (1,), (0, 1)), "x": one("F32", (2,), (1, 9))}
    path = write(tmp_path / "a.safetensors", header, b"\1" + struct.pack("<2f", 3, 4))
    assert open_checkpoint(path).tensors["x"].load().tolist() == [3, 4]


def test_several_files_count_in_order(tmp_path):
    first = save(tmp_path / "1.safetensors", {"x": torch.ones(1), "y": torch.ones(1)}, {"model_version": "2.3.0"})
    second = save(
        tmp_path / "2.safetensors",
        {"x": torch.zeros(1), "z": torch.zeros(1)},
        {"model_version": "2.5.0", "license": "text"},
    )
    together = open_checkpoint([first], second)
    assert together.paths == (first, second) and set(together.tensors) == {"x", "y", "z"}
    assert together.tensors["x"].load() == 1 and together.metadata == {"model_version": "2.3.0", "license": "text"}
    assert [len(file.tensors) for file in together.files] == [2, 2]
    assert str(together) == "1.safetensors (and 1 more)"


# --- F1 to F10: what a header may not be
# ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 7])
def test_too_short_for_a_length(tmp_path, size):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\x10" * size)
    refused(path, f"{size} bytes", "at least 8")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 1000, 9])
def test_header_length_out_of_range(tmp_path, length):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}      ")
    refused(path, str(length))


def test_only_a_length(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 0))
    refused(path)


@pytest.mark.parametrize(
    "raw, part",
    [
        (b"[]", "starts with"),
        (b" {}", "starts with"),
        (b"{", "starts"),
        (b'{"a\xff": 1}', "UTF-8"),
        (b"{nonsense}", "not JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "not JSON"),
        (b'{"a":1' + b"0" * 5000 + b"}", "not JSON"),
        (b'{"a":NaN}', "describes"),
    ],
    ids=["list", "space", "brace", "utf8", "json", "deep", "digits", "nan"],
)
def test_header_is_not_a_json_object(tmp_path, raw, part):
    refused(write(tmp_path / "a.safetensors", raw), part if part != "starts" else "")


def test_names_twice(tmp_path):
    entry = json.dumps(one())
    refused(write(tmp_path / "a.safetensors", f'{{"x":{entry},"y":{entry},"x":{entry}}}'), "x twice")
    refused(write(tmp_path / "b.safetensors", f'{{"__metadata__":{{"k":"1","k":"2"}},"x":{entry}}}'), "k twice")


@pytest.mark.parametrize(
    "offsets",
    [
        (-1, 7),
        (8, 0),
        (0, 9),
        (0, 2**63),
        (0, 2**70),
        (1, 9),
        (0,),
        (0, 4, 8),
        (0.0, 8.0),
        (True, 8),
        ("0", "8"),
        (None, None),
    ],
    ids=str,
)
def test_ranges(tmp_path, offsets):
    refused(write(tmp_path / "a.safetensors", {"x": one(offsets=offsets)}), "tensor x")


def test_overlap_hole_and_trailing_bytes(tmp_path):
    refused(write(tmp_path / "a.safetensors", {"x": one(), "y": one(offsets=(4, 12))}, b"\0" * 12), "over bytes of")
    refused(
        write(tmp_path / "b.safetensors", {"x": one(), "y": one(offsets=(12, 20))}, b"\0" * 20), "4 bytes of no tensor"
    )
    refused(write(tmp_path / "c.safetensors", {"x": one(offsets=(4, 12))}, b"\0" * 12), "no tensor")
    refused(write(tmp_path / "d.safetensors", {"x": one()}, b"\0" * 9), "1 bytes after its last tensor")
    refused(write(tmp_path / "e.safetensors", {}, b"\0"), "after its last tensor")


def test_many_tensors_over_one_range(tmp_path):
    refused(write(tmp_path / "a.safetensors", {f"x{i}": one() for i in range(2000)}), "over bytes of")


@pytest.mark.parametrize(
    "entry",
    [
        one(shape=(3,)),
        one(shape=(2, 2**40)),
        one(shape=(2**62, 2**62)),
        one(shape=(-2,)),
        one(shape=(2.0,)),
        one(shape=(True, 2)),
        one(shape=[1] * 17 + [2]),
        one("F4"),
        one("Q8"),
        one(7),
        {"dtype": "F32", "shape": [2]},
        {**one(), "more": 1},
        7,
        None,
        [],
        {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]},
    ],
    ids=str,
)
def test_shape_dtype_and_fields(tmp_path, entry):
    refused(write(tmp_path / "a.safetensors", {"x": entry}), "tensor x")


@pytest.mark.parametrize("metadata", [{"a": 1}, {"a": None}, {"a": {}}, [], "text", 3], ids=str)
def test_metadata_is_strings(tmp_path, metadata):
    refused(write(tmp_path / "a.safetensors", {"__metadata__": metadata, "x": one()}), "metadata")


def test_too_much_metadata(tmp_path):
    refused(
        write(tmp_path / "a.safetensors", {"__metadata__": {"a": "x" * 1_000_001}, "x": one()}), "1000002 characters"
    )


def test_a_huge_header_of_something_else_is_not_taken_apart(tmp_path):
    raw = b'{"x":[' + b"[],\n" * 10_000_000 + b"1]}"
    path = tmp_path / "a.safetensors"
    path.write_bytes(header_bytes(raw))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "for 0 tensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kB


# --- F11 to F13: other files, replaced files, links
# ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "first, parts",
    [
        (b"PK\x03\x04", ("zip archive", "get the model as .safetensors or .gguf")),
        (b"\x80\x02}q\x00.", ("pickle", "can run any program")),
        (b"GGUF\x03\0\0\0", ("GGUF", "rename it to end in .gguf")),
        (b"lmgg\1\0\0\0\0", ("GGML",)),
        (b"\x08\x07\x12\x07pytorch\0", ("ONNX",)),
        (b"\x89PNG\r\n\x1a\n", ("PNG", "choose the model's file")),
        (b"\0\0\0\x20ftypisom\0", ("a video",)),
        (b"Rar!\x1a\x07\0", ("RAR archive", "unpack")),
        (b"version https://git-lfs.github.com/spec/v1\n", ("Git LFS", "git lfs pull")),
    ],
    ids=["zip", "pickle", "gguf", "ggml", "onnx", "png", "mp4", "rar", "lfs"],
)
def test_other_kinds_of_file_are_named(tmp_path, first, parts):
    path = tmp_path / "model.safetensors"
    path.write_bytes(first + b"\0" * 100)
    refused(path, *parts, ".safetensors")


@pytest.mark.parametrize("before", [b"", b"\n\n \t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"], ids=repr)
@pytest.mark.parametrize(
    "answer, what",
    [
        ("<!DOCTYPE html>", "a web page"),
        ("<HTML lang=en>", "a web page"),
        ("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "<?xml version"),
        ('{"error": "Access to model x is restricted"}', "Access to model"),
        ("Invalid username or password.", "Invalid username"),
        ("Доступ запрещён, войдите", "Доступ"),
    ],
)
def test_what_a_server_answered_is_not_taken_for_a_damaged_model(tmp_path, before, answer, what):
    path = tmp_path / "model.safetensors"
    for length in (0, 400, 460, 470, 3000):  # the bytes that are looked at may end within a letter
        path.write_bytes(before + answer.encode() + "ж".encode() * length)
        refused(path, what, "download it again, signed in")


def test_downloads_that_were_broken_off_are_named_wherever_they_end(tmp_path):
    whole = save(tmp_path / "a.safetensors", {f"x{i}": torch.ones(50) for i in range(9)}).read_bytes()
    header = 8 + struct.unpack_from("<Q", whole)[0]
    path = tmp_path / "b.safetensors"
    for size in (16, header - 1, header, header + 1, header + 200, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, f"is {size} bytes long, expected {header if size < header else len(whole)}", "go on with it")


@pytest.mark.parametrize(
    "ending", [".aria2", ".st", ".lftp-pget-status", ".part", ".crdownload", ".incomplete", ".!qB"]
)
def test_what_a_download_leaves_beside_its_file_is_told(tmp_path, ending):
    whole = save(tmp_path / "a.safetensors", {"x": torch.ones(50)}).read_bytes()
    path = tmp_path / "b.safetensors"
    (tmp_path / f"b.safetensors{ending}").write_bytes(whole[:100])
    fills = ending in (".aria2", ".st", ".lftp-pget-status")  # the others have the numbers in them
    if not fills:
        refused(path, f"b.safetensors{ending} beside it says", "go on with it")  # there is no file yet
    path.touch()
    refused(path, f"b.safetensors{ending} beside it says", "go on with the download")
    path.write_bytes(whole)
    if fills:
        refused(path, f"b.safetensors{ending} beside it says", "go on with the download")
    else:  # a second download of what is there
        assert open_checkpoint(path).tensors


def test_a_saved_pickle_is_never_run(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.save({"x": torch.ones(2)}, path)
    refused(path, "zip archive, as PyTorch's own")


def test_a_file_replaced_while_open(tmp_path):
    path = save(tmp_path / "a.safetensors", {"x": torch.ones(1000), "y": torch.ones(10)})
    checkpoint = open_checkpoint(path)
    kept = checkpoint.tensors["x"].load()
    os.replace(save(tmp_path / "b.safetensors", {"x": torch.zeros(1000), "y": torch.zeros(10)}), path)
    assert kept.sum() == 1000  # what was handed out stays
    for mapped in (True, False):
        with pytest.raises(CheckpointError, match="was replaced or changed since it was opened"):
            checkpoint.tensors["y"].load(mapped=mapped)
    path.unlink()
    with pytest.raises(CheckpointError, match="a.safetensors"):
        checkpoint.tensors["y"].load()


def test_a_file_cut_short_while_open(tmp_path):
    path = save(tmp_path / "a.safetensors", {"x": torch.ones(100_000)})
    checkpoint = open_checkpoint(path)
    os.truncate(path, 1000)
    for mapped in (True, False):
        with pytest.raises(CheckpointError, match="load it again"):
            checkpoint.tensors["x"].load(mapped=mapped)


def test_links_are_followed_to_regular_files(tmp_path):
    (tmp_path / "else").mkdir()
    save(tmp_path / "else" / "a.safetensors", {"x": torch.ones(2)})
    link = tmp_path / "link.safetensors"
    link.symlink_to(tmp_path / "else" / "a.safetensors")
    assert open_checkpoint(link).tensors["x"].load().sum() == 2
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    refused(tmp_path / "loop.safetensors")
    (tmp_path / "device.safetensors").symlink_to("/dev/zero")
    refused(tmp_path / "device.safetensors", "not a regular file")


def test_files_that_may_not_be_read_and_links_to_nothing_are_told_apart(tmp_path, monkeypatch):
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "blobs" / "abc")
    refused(tmp_path / "link.safetensors", "No such file", "a link to a file that is not there")
    path = save(tmp_path / "a.safetensors", {"x": torch.ones(2)})

    def denied(*given, **more):
        raise PermissionError(errno.EACCES, "Permission denied")

    # not by chmod, which an administrator may read all the same
    monkeypatch.setattr("builtins.open", denied)
    refused(path, "Permission denied", "do not let you read it")


@pytest.mark.parametrize("stored", ["F4", "F6_E2M3", "F8_E4M3FNUZ", "I4"])
def test_types_that_are_not_read_are_named_and_not_taken_for_damage(tmp_path, stored):
    path = write(tmp_path / "a.safetensors", {"x": one(stored, (16,))})
    refused(path, "tensor x", f"dtype {stored}, which is not read here", "use the bf16, fp8 or GGUF file")


def test_no_file_a_folder_and_a_pipe(tmp_path):
    refused(tmp_path / "absent.safetensors", "No such file")
    refused(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe.safetensors")
    refused(tmp_path / "pipe.safetensors", "not a regular file")
    with pytest.raises(CheckpointError, match="at least one"):
        open_checkpoint()
    with pytest.raises(CheckpointError):
        open_checkpoint("a\0b.safetensors")


def test_damaged_headers_never_give_another_error(tmp_path):
    sound = save(
        tmp_path / "a.safetensors", {"x.weight": torch.randn(4, 4), "x.bias": torch.randn(4)}, {"config": "{}"}
    ).read_bytes()
    size = 8 + struct.unpack_from("<Q", sound)[0]
    chance = random.Random(0)
    path = tmp_path / "b.safetensors"
    for _ in range(500):
        data = bytearray(sound)
        for _ in range(chance.randint(1, 4)):
            where = chance.randrange(size)
            data[where] = chance.choice((chance.randrange(256), *b'0129{}[]",:-.e'))
        path.write_bytes(data[: chance.randint(size, len(data))] if chance.random() < 0.2 else data)
        try:
            for tensor in open_checkpoint(path).tensors.values():
                tensor.load()
        except CheckpointError:
            pass


class LateLane(lazy_tensor.Lane):
    """A device whose copies happen as late as they may: when somebody waits for them."""

    def __init__(self, size):
        super().__init__(size)
        self.on_its_way = []

    def send(self, target, part):
        assert not self.on_its_way, "read over what is still copied from"
        self.on_its_way.append((target, part))

    def wait(self):
        for target, part in self.on_its_way:
            target.copy_(part)
        self.memory.fill_(0xFF)
        self.on_its_way.clear()


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 63, 64, 65, 64 * 5, 64 * 5 + 8])
def test_bytes_that_go_to_a_device_arrive_whole_and_in_turns(tmp_path, size, lanes):
    given = {"before": torch.zeros(3, dtype=torch.uint8), "x": torch.randint(0, 255, (size,), dtype=torch.uint8)}
    path = save(tmp_path / "a.safetensors", given)
    tensor = open_checkpoint(path).tensors["x"]
    through = [LateLane(64) for _ in range(lanes)]
    assert torch.equal(tensor.through(torch.device("cpu"), through), given["x"])
    assert not any(lane.on_its_way for lane in through)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="replaced or changed"):
        tensor.through(torch.device("cpu"), through)
    assert not any(lane.on_its_way for lane in through)


def test_a_tensor_larger_than_a_piece_is_converted_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy_tensor, "READ_AT_ONCE_BYTES", 66)
    given = torch.randn(7, 23)
    tensor = open_checkpoint(save(tmp_path / "a.safetensors", {"x": given})).tensors["x"]
    assert torch.equal(tensor.load(dtype=torch.float16), given.half())
    assert tensor.load("meta", torch.float16).shape == (7, 23)
    assert len(lazy_tensor.lanes_to(torch.device("cpu"), 66)) == 1 < len(lazy_tensor.lanes_to(torch.device("cpu"), 67))
