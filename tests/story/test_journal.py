"""The journal: durable lines, a torn end, damage, and one process at a time."""

import contextlib
import multiprocessing
import os
import threading
import time

import pytest

from ltx2.atomic_files import LOCK_FILE, file_lock
from ltx2.errors import BusyError, StoryError
from ltx2.story.journal import is_at_work, open_journal, read_journal


def entries(folder):
    with open_journal(folder) as journal:
        return [(e["event"], e.get("n")) for e in journal.entries]


def written(folder, count=3):
    with open_journal(folder) as journal:
        for n in range(count):
            journal.append("segment", n=n, text="größe\n")
    return folder / "journal.jsonl"


def test_what_is_appended_is_there(tmp_path):
    written(tmp_path)
    assert entries(tmp_path) == [("segment", 0), ("segment", 1), ("segment", 2)]
    written(tmp_path, 1)
    assert len(entries(tmp_path)) == 4


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(tmp_path):
    data = written(tmp_path).read_bytes()
    start = data[:-1].rindex(b"\n") + 1
    for cut in range(start, len(data)):
        (tmp_path / "journal.jsonl").write_bytes(data[:cut])
        assert len(entries(tmp_path)) == 2
        assert (tmp_path / "journal.jsonl").read_bytes() == data[:start]
    # a disk may also have written the end of the line and not its middle
    (tmp_path / "journal.jsonl").write_bytes(data[: start + 5] + b"\0" * 9 + data[start + 14 :])
    assert len(entries(tmp_path)) == 2
    written(tmp_path, 1)
    assert len(entries(tmp_path)) == 3


def test_damage_before_the_last_line_is_an_error(tmp_path):
    path = written(tmp_path)
    lines = path.read_bytes().split(b"\n")
    for wrong in (lines[0].replace(b'"n": 0', b'"n": 5'), b"", b"\xff\xfe", b"[]\t00", b"{" * 10000):
        path.write_bytes(b"\n".join([lines[0], wrong, *lines[2:]]))
        with pytest.raises(StoryError, match="line 2"):
            read_journal(path)


def test_other_versions_are_refused(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.append("segment", v=2)
    with pytest.raises(StoryError, match="version 2, expected 1"):
        read_journal(tmp_path / "journal.jsonl")


def hold(folder, held):
    with open_journal(folder):
        held.set()
        time.sleep(60)


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    context = multiprocessing.get_context("fork" if os.name != "nt" else "spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, held))
    holder.start()
    try:
        assert held.wait(60)
        with pytest.raises(BusyError, match="another process works"), open_journal(tmp_path):
            pass
    finally:
        holder.kill()
        holder.join()
    assert entries(tmp_path) == []


def test_who_only_looks_is_waited_for(tmp_path):
    looking = contextlib.ExitStack()
    looking.enter_context(file_lock(tmp_path / LOCK_FILE))
    threading.Timer(0.1, looking.close).start()
    with open_journal(tmp_path):
        assert is_at_work(tmp_path)
    assert not is_at_work(tmp_path)


def test_a_work_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoryError, match="cannot be made"), open_journal(tmp_path / "file"):
        pass
