"""Contexts in a folder: whole or not there, bounded, for several processes at once."""

import os
import threading
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.checkpoint import reader
from ltx2.errors import Ltx2Warning, RequestError
from ltx2.text.cache import ContextCache
from ltx2.text.context_folder import ContextFolder, KeptContext
from ltx2.text.identity import content_identity, quick_key
from ltx2.values import TextContext


def context(seed=0, dtype=torch.bfloat16, audio=True):
    generator = torch.Generator().manual_seed(seed)
    video, sound = (torch.randn(1, 4, width, generator=generator).to(dtype) for width in (6, 2))
    return TextContext(video, sound if audio else None)


def same(a, b):
    return torch.equal(a.video, b.video) and (a.audio is b.audio is None or torch.equal(a.audio, b.audio))


def told(function):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = function()
    assert all(one.category is Ltx2Warning for one in seen)
    return result, [str(one.message) for one in seen]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("audio", [True, False])
def test_a_later_run_finds_the_very_context(tmp_path, dtype, audio):
    kept, note = context(1, dtype, audio), "the prompt has 1,030 tokens"
    ContextCache(folder=ContextFolder(tmp_path)).keep("model", " a lake ", kept, note)
    later = ContextCache(folder=ContextFolder(tmp_path))
    assert later.note("model", "a lake") == (True, note) and len(later) == 0
    assert same(later.find("model", "a lake"), kept) and later.find("model", "a lake").video.dtype == dtype
    assert later.find("other model", "a lake") is None and later.find("model", "a Lake") is None
    assert later.note("model", "a Lake") == (False, None)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_counts_as_none_and_is_told_once(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("damage")
    folder, kept = ContextFolder(root), context()
    folder.keep("model", "a lake", KeptContext(kept, "cut"))
    folder.remember("key", {"identity": "x"})
    for path in root.iterdir():
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        cut, flip = whole[:at], whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
        path.write_bytes(data.draw(st.sampled_from([cut, flip, whole + b"\0", b"GGUF" + whole, whole[::-1]])))
    found, texts = told(lambda: [folder.find("model", "a lake"), folder.recall("key")])
    texts += told(lambda: [folder.find("model", "a lake"), folder.recall("key")])[1]
    assert len(texts) == sum(one is None for one in found) and all(len(text) <= 300 for text in texts)
    # a change that says the same (a blank in JSON) is none; any other is found
    assert found[0] is None or (same(found[0].context, kept) and found[0].note == "cut")
    assert found[1] in (None, {"identity": "x"})
    folder.keep("model", "a lake", KeptContext(kept, "cut"))
    folder.remember("key", {"identity": "x"})
    (again, facts), texts = told(lambda: (folder.find("model", "a lake"), folder.recall("key")))
    assert same(again.context, kept) and facts == {"identity": "x"} and not texts


def test_the_longest_unused_goes_and_nothing_else(tmp_path):
    others = [tmp_path / name for name in ("mine.safetensors", "ltx2-context-notes.txt", "ltx2-facts.json")]
    for path in others:
        path.write_bytes(bytes(10_000))
    size = ContextFolder(tmp_path)
    size.keep("model", "0", KeptContext(context()))
    folder = ContextFolder(tmp_path, limit_bytes=3 * size.size_bytes + 1)
    for number in range(1, 6):
        for age, path in enumerate(sorted(tmp_path.glob("ltx2-context-?*.safetensors"), key=os.path.getmtime)):
            os.utime(path, ns=(age, age))  # in order, however coarse the disk's clock is
        assert folder.find("model", "0") is not None  # used each time, and so never the oldest
        folder.keep("model", str(number), KeptContext(context(number)))
        assert folder.size_bytes <= folder.limit_bytes
    assert [folder.find("model", str(number)) is not None for number in range(6)] == [1, 0, 0, 0, 1, 1]
    assert all(path.stat().st_size == 10_000 for path in others)
    small = ContextFolder(tmp_path, limit_bytes=1)
    small.keep("model", "6", KeptContext(context(6)))  # what is in use now stays, whatever the limit
    assert [small.find("model", str(number)) is not None for number in range(7)] == [0] * 6 + [1]


def test_many_at_once_see_whole_files(tmp_path):
    made, failed = [context(number) for number in range(4)], []
    one = ContextFolder(tmp_path)
    one.keep("model", "0", KeptContext(made[0]))
    limit = 2 * one.size_bytes

    def work(start):
        folder = ContextFolder(tmp_path, limit)
        for step in range(25):
            number = (start + step) % 4
            found = folder.find("model", str(number))
            if found is not None and not same(found.context, made[number]):
                failed.append(number)
            folder.keep("model", str(number), KeptContext(made[number]))

    def run():
        threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    _, texts = told(run)
    assert not failed and not texts and one.size_bytes <= limit
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


@pytest.mark.parametrize("other", ["used", "replaced", "removed", "made anew"])
def test_what_others_do_meanwhile_is_no_damage(tmp_path, monkeypatch, other):
    """Another process comes right after the header was read."""
    folder, kept = ContextFolder(tmp_path), KeptContext(context(), "cut")
    folder.keep("model", "a lake", kept)
    [path] = tmp_path.iterdir()
    read, came = reader.read_header, []

    def read_and_wait(*given):
        found = read(*given)
        if other in ("removed", "made anew"):
            path.unlink()
        if other in ("replaced", "made anew"):
            ContextFolder(tmp_path).keep("model", "a lake", KeptContext(context(1), "another"))
        if other == "used":
            os.utime(path, ns=(1, 1))
        came.append(other)
        return found

    def whole(found):
        return found and found.note == kept.note and same(found.context, kept.context)

    monkeypatch.setattr(reader, "read_header", read_and_wait)
    found, texts = told(lambda: folder.find("model", "a lake"))
    assert whole(found) and not texts and came == [other]
    monkeypatch.undo()
    folder.keep("model", "a lake", kept)
    monkeypatch.setattr(reader, "read_header", read_and_wait)
    assert folder.note("model", "a lake") == (True, "cut") and len(came) == 2


def test_a_file_that_goes_before_it_is_opened_is_a_miss(tmp_path, monkeypatch):
    folder = ContextFolder(tmp_path)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    found, texts = told(lambda: (folder.find("model", "a lake"), folder.note("model", "a lake"), folder.recall("key")))
    assert found == (None, (False, None), None) and not texts


def test_a_folder_that_takes_nothing_costs_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RequestError, match="name a folder that can be written to"):
        ContextFolder(tmp_path / "file")
    folder = ContextFolder(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (tmp_path / "gone").write_bytes(b"")
    cache = ContextCache(folder=folder)
    _, texts = told(lambda: [cache.keep("model", text, context()) for text in "ab"])
    assert len(texts) == 1 and "the run goes on without" in texts[0] and same(cache.find("model", "b"), context())


def test_files_are_told_apart_by_all_that_is_cheap(tmp_path):
    def write(name, content, time=0):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, ns=(time, time))
        return tmp_path / name

    big = bytes(3 * 2**20)
    trained = bytearray(big)
    trained[2 * 2**20 : 2 * 2**20 + 300_000] = b"\1" * 300_000  # the same size, time and header
    files = [write("a/model", big), write("a/other", big), write("b/model", big, 1), write("c/model", bytes(trained))]
    assert len({content_identity([path], ["bf16"]) for path in files}) == 4
    moved = write("d/model", big)
    assert content_identity([moved], ["bf16"]) == content_identity(files[:1], ["bf16"]) != content_identity(files[:1])
    assert len({quick_key([path]) for path in [*files, moved]}) == 5
