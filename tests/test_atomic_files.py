"""Atomic files and folders: with a failure put into each step there is the old content or the new, never half, and no
litter."""

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ltx2 import atomic_files as durable
from ltx2.atomic_files import atomic_folder, clean_stale_temps, file_lock, recover_folder, write_atomic
from ltx2.continuation import attachments, save_attachment
from ltx2.continuation.stores.file_blobs import FileBlobStore
from ltx2.errors import BusyError, ContinuationError

from .continuation.test_codec import full_state


def fail_at(monkeypatch, name, call, error=errno.ENOSPC):
    """Let the n-th call of an ``os`` function fail."""
    real, calls = getattr(os, name), []

    def failing(*args, **keywords):
        calls.append(args)
        if len(calls) == call:
            raise OSError(error, os.strerror(error))
        return real(*args, **keywords)

    monkeypatch.setattr(os, name, failing)
    return calls


def litter(folder):
    return [p.name for p in Path(folder).rglob(".ltx2-*")]


@pytest.mark.parametrize("step", ("fsync", "replace"))
@pytest.mark.parametrize("before", (b"old", None))
def test_a_file_is_old_or_new(tmp_path, monkeypatch, step, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with monkeypatch.context() as patch:
        fail_at(patch, step, 1)
        with pytest.raises(OSError):
            write_atomic(path, b"new")
    assert (path.read_bytes() if path.exists() else None) == before
    assert not litter(tmp_path)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_full_disk_while_writing(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError), durable.atomic_file(path) as file:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "no space")
    assert path.read_bytes() == b"old" and not litter(tmp_path)


def test_the_folder_is_synced_after_the_rename(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (order.append(name), real(*a))[1])
    write_atomic(tmp_path / "file", b"x")
    assert order == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize(
    "step, call", [("fsync", n) for n in range(1, 13)] + [("replace", 1), ("replace", 2), ("mkdir", 2)]
)
def test_a_folder_is_old_or_new(tmp_path, monkeypatch, step, call):
    path = tmp_path / "state"
    old, new = full_state(segment_index=1), full_state(segment_index=2)
    save_attachment(old, path)
    with monkeypatch.context() as patch:
        calls = fail_at(patch, step, call)
        with pytest.raises((OSError, ContinuationError), match="No space left"):
            save_attachment(new, path)
        assert len(calls) >= call
    assert attachments.load_attachment(path).state.segment_index == 1
    assert not litter(tmp_path)
    save_attachment(new, path)
    assert attachments.load_attachment(path).state.segment_index == 2


def test_a_crash_between_the_two_renames_is_undone(tmp_path, monkeypatch):
    path = tmp_path / "state"
    save_attachment(full_state(segment_index=1), path)

    class Killed(BaseException):
        pass

    real, calls = os.replace, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 2:
            raise Killed
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(durable, "_finish_swap", lambda path: None)  # a killed process does nothing more
        with pytest.raises(Killed):
            save_attachment(full_state(segment_index=2), path)
    assert not path.exists()
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        assert attachments.load_attachment(path).state.segment_index == 1
    assert sorted(tmp_path.rglob("*")) == before  # readers never write: the save may still be under way
    save_attachment(full_state(segment_index=3), path)
    assert attachments.load_attachment(path).state.segment_index == 3
    assert not litter(tmp_path)


def test_a_replaced_folder_leaves_nothing(tmp_path):
    for content in (b"1", b"2"):
        with atomic_folder(tmp_path / "f") as temp:
            durable.write_synced(temp / "x", content)
    recover_folder(tmp_path / "f")
    assert (tmp_path / "f" / "x").read_bytes() == b"2" and os.listdir(tmp_path) == ["f"]


def test_stale_temps_go_and_young_ones_stay(tmp_path):
    for name, age in ((".ltx2-a.tmp", 7200), (".ltx2-b.tmp", 0), ("mine.tmp", 7200)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    (tmp_path / ".ltx2-c.tmp").mkdir()
    os.utime(tmp_path / ".ltx2-c.tmp", (time.time() - 7200,) * 2)
    assert clean_stale_temps(tmp_path) == 2
    assert sorted(os.listdir(tmp_path)) == [".ltx2-b.tmp", "mine.tmp"]
    os.utime(tmp_path / ".ltx2-b.tmp", (time.time() - 7200,) * 2)
    FileBlobStore(tmp_path)
    assert not (tmp_path / ".ltx2-b.tmp").exists()
    (tmp_path / ".ltx2-d.tmp").write_bytes(b"x")
    os.utime(tmp_path / ".ltx2-d.tmp", (time.time() + 10**6,) * 2)  # the clock was set back
    assert clean_stale_temps(tmp_path) == 1 and clean_stale_temps(tmp_path / "nowhere") == 0
    assert os.listdir(tmp_path) == ["mine.tmp"]


def write_half(folder, kind, held):
    target = Path(folder) / "target"
    if kind == "file":
        with durable.atomic_file(target) as file:
            file.write(b"half")
            held.set()
            time.sleep(60)
    with atomic_folder(target) as temp:
        durable.write_synced(temp / "x", b"half")
        held.set()
        time.sleep(60)


@pytest.mark.parametrize("kind", ("file", "folder"))
@pytest.mark.parametrize("clock", (0, 10**7, -(10**7)), ids=("now", "set back", "set forward"))
def test_what_a_killed_save_left_goes_at_once_and_what_is_written_stays(tmp_path, kind, clock):
    context = multiprocessing.get_context("fork" if os.name != "nt" else "spawn")
    held = context.Event()
    writer = context.Process(target=write_half, args=(tmp_path, kind, held))
    writer.start()
    try:
        assert held.wait(60)
        (temp,) = tmp_path.glob(".ltx2-*")
        os.utime(temp, (time.time() + clock,) * 2)
        assert durable.clean_dead_temps(tmp_path) == 0 and temp.exists()
    finally:
        writer.kill()
        writer.join()
    assert temp.exists()
    save_attachment(full_state(), tmp_path / "other.png")  # the next save takes it away
    assert os.listdir(tmp_path) == ["other.png"]


def test_the_next_load_takes_away_what_a_killed_save_left(tmp_path):
    path = save_attachment(full_state(), tmp_path / "s.png")
    (tmp_path / ".ltx2-held-1.tmp").write_bytes(b"half")
    attachments.load_attachment(path)
    assert os.listdir(tmp_path) == ["s.png"]


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked there")
def test_a_cleaner_comes_before_a_new_folder_is_held(tmp_path, monkeypatch):
    really, cleaned = os.open, []

    def open_late(path, *args, **options):
        if os.path.basename(path).startswith(".ltx2-held-") and not cleaned:
            cleaned.append(path)
            os.rmdir(path)
        return really(path, *args, **options)

    monkeypatch.setattr(durable.os, "open", open_late)
    with durable.atomic_folder(tmp_path / "state") as temp:
        (temp / "x").write_bytes(b"1")
    assert cleaned and os.listdir(tmp_path / "state") == ["x"] and not litter(tmp_path)


def replace_again_and_again(path, stop):
    index = 0
    while not stop.is_set():
        save_attachment(full_state(segment_index=index % 2), path)
        index += 1


def test_reading_while_others_save_the_same_folder(tmp_path):
    """Two writers and a reader at once: the reader always gets one state or the other, whole."""
    path = tmp_path / "state"
    save_attachment(full_state(segment_index=0), path)
    context = multiprocessing.get_context("fork" if os.name != "nt" else "spawn")
    stop = context.Event()
    writers = [context.Process(target=replace_again_and_again, args=(path, stop)) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(60):
            assert attachments.load_attachment(path).state.segment_index in (0, 1)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    save_attachment(full_state(), path)
    assert not litter(tmp_path)


@pytest.mark.parametrize("name", ("film", "a.b", "größe", "x" * 200))
def test_portable_names(name):
    assert durable.is_portable(name) and durable.is_portable_below(f"{name}/{name}")


@pytest.mark.parametrize(
    "name", ("", ".", "..", "..\\x", "C:x", "~", "~x", "con", "NUL.png", "a.", "a ", " a", "a\nb", "x" * 256, "\ud800")
)
def test_names_that_mean_another_thing_elsewhere(name):
    assert not durable.is_portable(name) and not durable.is_portable_below(f"a/{name}")


def hold(path, held):
    with file_lock(path):
        held.set()
        time.sleep(60)


def test_a_lock_refuses_others_and_dies_with_its_process(tmp_path):
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork" if os.name != "nt" else "spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(path, held))
    holder.start()
    try:
        assert held.wait(60)
        with pytest.raises(BusyError, match="busy"), file_lock(path, wait=False, busy="busy"):
            pass
    finally:
        holder.kill()
        holder.join()
    with file_lock(path, wait=False):
        pass
