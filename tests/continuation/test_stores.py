"""Blob and session stores: the contract in memory and on disk, hostile ids, damage, age, size, and two processes."""

import contextlib
import errno
import json
import multiprocessing
import os
import shutil

import pytest

from ltx2.continuation import (
    ContinuationState,
    FileBlobStore,
    FileSessionStore,
    FolderBlobs,
    InMemoryBlobStore,
    LTX2ContinuationState,
    StateLimits,
    drop_state_blobs,
)
from ltx2.errors import BlobNotFoundError, ContinuationError

from ..test_atomic_files import fail_at
from .test_codec import full_state
from .vectors import DATA, GivenBlobs, described

BAD_IDS = (
    "",
    "a/b",
    "../x",
    "..",
    "a\\b",
    "C:",
    "a\0b",
    "x" * 300,
    "ａｂ",
    "CON",
    "nul",
    "com1",
    "a.",
    "a b",
    "~",
    "%TEMP%",
    5,
    None,
)


def envelope(index=0):
    return LTX2ContinuationState(segment_index=index).to_continuation_state()


def test_blob_contract(blobs):
    first, second = blobs.put(b"one", mime="text/plain"), blobs.put(b"")
    assert first != second and len(blobs) == 2 and first in blobs
    assert len(first) == 32 and set(first) <= set("0123456789abcdef")
    assert blobs.get(first) == b"one" and blobs.get(second) == b""
    blobs.drop(first)
    blobs.drop(first)
    assert first not in blobs and len(blobs) == 1
    with pytest.raises(KeyError) as caught:
        blobs.get(first)
    assert isinstance(caught.value, BlobNotFoundError) and first in str(caught.value)


def test_states_through_a_store(blobs):
    state = full_state()
    packed = state.to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
    assert len(blobs) == 2
    assert described(LTX2ContinuationState.from_continuation_state(packed, blob_store=blobs)) == described(state)
    drop_state_blobs(packed, blobs)
    drop_state_blobs(packed, blobs)
    assert len(blobs) == 0
    packed = state.to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
    read = LTX2ContinuationState.from_continuation_state(packed, blob_store=blobs)
    drop_state_blobs(read, blobs)
    assert len(blobs) == 0
    drop_state_blobs(ContinuationState("ltx2.v1", {"video": 3, "audio": {"blob_id": 4}}), blobs)


@pytest.mark.parametrize("bad", BAD_IDS, ids=repr)
def test_hostile_ids_never_become_paths(tmp_path, bad):
    store, sessions = FileBlobStore(tmp_path / "deep" / "blobs"), FileSessionStore(tmp_path / "deep" / "sessions")
    before = sorted(tmp_path.rglob("*"))
    for call in (store.get, store.drop, sessions.snapshot, sessions.drop, FolderBlobs(tmp_path / "deep").get):
        with pytest.raises(ContinuationError):
            call(bad)
    with pytest.raises(ContinuationError):
        sessions.store(bad, envelope())
    assert bad not in store and bad not in sessions
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_blobs_are_refused(tmp_path):
    store = FileBlobStore(tmp_path)
    blob_id = store.put(b"content")
    path, record = tmp_path / f"{blob_id}.blob", tmp_path / f"{blob_id}.json"
    path.write_bytes(b"contenT")
    with pytest.raises(ContinuationError, match="SHA-256"):
        store.get(blob_id)
    path.write_bytes(b"conten")
    with pytest.raises(ContinuationError, match="has 6 bytes, its record says 7"):
        store.get(blob_id)
    path.unlink()
    with pytest.raises(BlobNotFoundError, match="lost"):
        store.get(blob_id)
    for text in (b"", b"[]", b"{", f'{{"id": "{blob_id}"}}'.encode(), b"\xff"):
        record.write_bytes(text)
        with pytest.raises(ContinuationError, match="record"):
            store.get(blob_id)
    with pytest.raises(ContinuationError, match="at most 3"):
        FileBlobStore(tmp_path, limits=StateLimits(blob_bytes=3)).put(b"content")


def test_data_without_a_record_does_not_count(tmp_path):
    store = FileBlobStore(tmp_path)
    blob_id = store.put(b"x")
    os.rename(
        tmp_path / f"{blob_id}.json", tmp_path / "moved.json"
    )  # a crash between the two writes, or another id's record
    assert blob_id not in store and "moved" not in store
    with pytest.raises(BlobNotFoundError):
        store.get(blob_id)


def test_age_and_size(tmp_path):
    now = [1000.0]
    store = FileBlobStore(tmp_path, ttl_seconds=100, max_bytes=30, grace_seconds=10, clock=lambda: now[0])
    old = store.put(b"x" * 10)
    now[0] += 20
    middle = store.put(b"y" * 10)
    now[0] += 20
    store.put(b"z" * 10)
    now[0] += 5
    new = store.put(b"n" * 10)  # makes room by dropping the oldest
    assert old not in store and middle in store and len(store) == 3
    now[0] -= 500  # a clock set back makes blobs young, never old
    assert new in store and len(store) == 3
    with pytest.raises(ContinuationError, match="cap is 30"):
        store.put(b"w" * 10)
    assert new in store and len(store) == 3
    now[0] += 700
    assert new not in store and len(store) == 0
    with pytest.raises(BlobNotFoundError):
        store.get(new)
    assert store.sweep() == 3 and not list(tmp_path.glob("*.blob"))


def write_blobs(folder, ids):
    store = FileBlobStore(folder, max_bytes=2000, grace_seconds=3600)
    for i in range(25):
        ids.put(store.put(bytes([i]) * 20))


def test_two_processes_share_a_store(tmp_path):
    context = multiprocessing.get_context("fork" if os.name != "nt" else "spawn")
    ids = context.SimpleQueue()
    writers = [context.Process(target=write_blobs, args=(tmp_path, ids)) for _ in range(2)]
    for writer in writers:
        writer.start()
    found = [ids.get() for _ in range(50)]
    for writer in writers:
        writer.join()
    store = FileBlobStore(tmp_path)
    assert len(set(found)) == 50 == len(store)
    assert sorted(store.get(blob_id)[0] for blob_id in found) == sorted([*range(25)] * 2)


def test_plain_folders_of_blobs(tmp_path):
    long = "0123456789abcdef" * 2
    for name in (long, f"{long[::-1]}.bin", f"v09.{'a' * 12}.bin"):
        (tmp_path / name).write_bytes(name.encode())
    blobs = FolderBlobs(tmp_path)
    assert blobs.get(long) == long.encode() and long[::-1] in blobs and blobs.get("a" * 32).startswith(b"v09")
    assert "b" * 32 not in blobs
    with pytest.raises(BlobNotFoundError):
        blobs.get("b" * 32)
    for call in (lambda: blobs.put(b""), lambda: blobs.drop(long), lambda: FolderBlobs(tmp_path / "none")):
        with pytest.raises(ContinuationError):
            call()
    written = FileBlobStore(tmp_path / "store").put(b"x")
    assert FolderBlobs(tmp_path / "store").get(written) == b"x"
    (tmp_path / "store" / f"{written}.blob").write_bytes(b"y")
    with pytest.raises(ContinuationError, match="SHA-256"):
        FolderBlobs(tmp_path / "store").get(written)
    assert FolderBlobs(DATA / "blobs").get("a3702539e66b5d0bb5cdfd48d3000cfc")


def torn(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", (torn, lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"\xff" * 99)))
def test_one_damaged_session_leaves_the_others_alone(tmp_path, damage):
    blobs = InMemoryBlobStore()
    sessions = FileSessionStore(tmp_path, owned_blobs=blobs, ttl_seconds=1e9)
    for name in "abc":
        sessions.store(name, full_state().to_continuation_state(blob_store=blobs, inline_threshold_bytes=0))
    (path,) = tmp_path.glob("b.*.json")
    damage(path)
    assert sorted(sessions) == ["a", "c"] and "b" not in sessions and len(sessions) == 2
    assert sessions.damaged() == ["b"]
    with pytest.raises(ContinuationError, match="'b' is damaged"):
        sessions.snapshot("b")
    sessions.store("d", envelope())
    sessions.drop("a")
    assert sessions.sweep() == 0 and len(blobs) == 4  # what the damaged one named stays until it goes
    sessions.drop("b")
    assert sorted(sessions) == ["c", "d"] and sessions.damaged() == [] and not path.exists()
    sessions.sweep()
    assert len(blobs) == 2
    damage(next(iter(tmp_path.glob("c.*.json"))))
    sessions.store("c", envelope(5))
    assert sessions.snapshot("c").payload["segment_index"] == 5


@pytest.mark.parametrize("damage", (torn, lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"[]")))
def test_one_damaged_blob_record_leaves_the_others_alone(tmp_path, damage):
    blobs = FileBlobStore(tmp_path / "blobs", ttl_seconds=1e9, max_bytes=10**6)
    sessions = FileSessionStore(tmp_path / "sessions", owned_blobs=blobs)
    states = [full_state().to_continuation_state(blob_store=blobs, inline_threshold_bytes=0) for _ in range(2)]
    for name, state in zip("ab", states):
        sessions.store(name, state)
    bad = states[0].payload["video"]["blob_id"]
    damage(tmp_path / "blobs" / f"{bad}.json")
    assert bad not in blobs and len(blobs) == 3 and blobs.damaged() == [bad] and blobs.sweep() == 0
    assert blobs.get(blobs.put(b"x")) == b"x"
    with pytest.raises(ContinuationError, match="drop the blob"):
        blobs.get(bad)
    sessions.store("a", envelope())  # drops what it named, the damaged blob too
    assert blobs.damaged() == [] and len(blobs) == 3 and not list((tmp_path / "blobs").glob(f"{bad}*"))


def test_expired_sessions_leave_the_disk(tmp_path):
    now = [0.0]
    blobs = InMemoryBlobStore()
    sessions = FileSessionStore(tmp_path, owned_blobs=blobs, ttl_seconds=10, clock=lambda: now[0])

    def on_disk():
        return len(list(tmp_path.glob("*.json")))

    for i in range(30):
        sessions.store(f"s{i}", full_state().to_continuation_state(blob_store=blobs, inline_threshold_bytes=0))
    now[0] = 20
    assert sessions.snapshot("s3") is None and on_disk() == 29  # who asks for one finds it gone
    for _ in range(8):  # who writes takes some away
        sessions.store("new", envelope())
    assert on_disk() == 1 and len(blobs) == 0
    now[0] = 40
    assert list(sessions) == [] and on_disk() == 0
    sessions.store("last", envelope())
    now[0] = 60
    assert sessions.sweep() == 1 and on_disk() == 0


@pytest.mark.slow
def test_the_work_of_one_call_does_not_grow_with_the_sessions(tmp_path, monkeypatch):
    """Counted: files opened and folders listed while one session of many is replaced and dropped."""
    blobs = InMemoryBlobStore()
    sessions = FileSessionStore(tmp_path, owned_blobs=blobs, ttl_seconds=1e9)
    work = []
    with monkeypatch.context() as patch:
        for where, name in (("builtins", "open"), ("os", "scandir"), ("os", "open"), ("os", "stat")):
            real = getattr(__import__(where), name)
            patch.setattr(f"{where}.{name}", lambda *a, real=real, **k: (work.append(a[0]), real(*a, **k))[1])
        counts, state = {}, full_state()
        for i in range(200):
            work.clear()
            sessions.store(f"s{i}", state.to_continuation_state(blob_store=blobs, inline_threshold_bytes=0))
            sessions.store("one", state.to_continuation_state(blob_store=blobs, inline_threshold_bytes=0))
            sessions.drop(f"s{i}") if i % 2 else None
            counts[i] = len(work)
    assert max(list(counts.values())[-50:]) <= max(list(counts.values())[20:70]) + 2
    assert len(blobs) == 2 * len(sessions)


def test_sessions_of_the_first_version_release_their_blobs(tmp_path):
    blobs = InMemoryBlobStore()
    state = full_state().to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
    sessions = FileSessionStore(tmp_path, owned_blobs=blobs)
    sessions.store("a", state)
    sessions.store("b", state)
    shutil.rmtree(tmp_path / "named")  # which that version did not keep
    sessions = FileSessionStore(tmp_path, owned_blobs=blobs)
    sessions.drop("a")
    assert len(blobs) == 2
    sessions.drop("b")
    assert len(blobs) == 0


@pytest.mark.parametrize("blob_id", ("Upper", "a/b", "x" * 500, "~", "größe", "\ud800", "x-61"))
def test_ids_of_other_stores_are_counted_too(tmp_path, blob_id):
    blobs = GivenBlobs({blob_id: b"x"})
    sessions = FileSessionStore(tmp_path / "s", owned_blobs=blobs)
    for name in "ab":
        sessions.store(name, ContinuationState("ltx2.v1", {"schema_version": 1, "video": {"blob_id": blob_id}}))
    sessions.drop("a")
    assert blob_id in blobs
    sessions.sweep()
    assert blob_id in blobs
    sessions.drop("b")
    assert blob_id not in blobs and [p.name for p in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("code", (errno.ENOSPC, errno.EIO, errno.EROFS))
@pytest.mark.parametrize("step", ("fsync", "replace", "open", "mkdir", "stat"))
def test_stores_on_a_disk_that_fails_say_one_sentence(tmp_path, monkeypatch, code, step):
    blobs, sessions = FileBlobStore(tmp_path / "blobs"), FileSessionStore(tmp_path / "sessions")
    kept = blobs.put(b"kept")
    sessions.store("kept", envelope(1))
    calls = (
        lambda: blobs.put(b"x"),
        lambda: blobs.get(kept),
        lambda: blobs.drop(kept),
        lambda: FileBlobStore(tmp_path / "new"),
        lambda: sessions.store("kept", envelope(2)),
        lambda: sessions.snapshot("kept"),
        lambda: sessions.drop("kept"),
        lambda: list(sessions),
        lambda: FileSessionStore(tmp_path / "new"),
        lambda: FolderBlobs(tmp_path / "blobs").get(kept),
    )

    def fail(*args, **keywords):
        raise OSError(code, os.strerror(code), "/somewhere/else")

    failed = 0
    for call in calls:
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            if step == "open":
                patch.setattr("builtins.open", fail)
            try:
                call()
            except ContinuationError as error:
                failed += 1
                text = str(error)
        if failed:
            assert "somewhere" not in text and "\n" not in text and len(text) <= 300
    assert failed >= 2


@pytest.mark.slow
def test_nothing_stored_is_lost_when_the_disk_is_full(tmp_path, monkeypatch):
    """A failure at every write, sync and rename of storing: the session before stays, with its blobs."""
    blobs = FileBlobStore(tmp_path / "blobs")
    sessions = FileSessionStore(tmp_path / "sessions", owned_blobs=blobs)
    sessions.store("s", full_state(segment_index=1).to_continuation_state(blob_store=blobs, inline_threshold_bytes=0))
    for step in ("fsync", "replace", "unlink", "mkdir"):
        for call in range(1, 12):
            with monkeypatch.context() as patch:
                calls = fail_at(patch, step, call)
                try:
                    state = full_state(segment_index=2)
                    sessions.store("s", state.to_continuation_state(blob_store=blobs, inline_threshold_bytes=0))
                except ContinuationError:
                    pass
            found = LTX2ContinuationState.from_continuation_state(sessions.snapshot("s"), blob_store=blobs)
            assert found.segment_index in (1, 2) and len(found.video_frames) == 9
            sessions.store(
                "s", full_state(segment_index=1).to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
            )
            if len(calls) < call:
                break
    sessions.sweep()
    assert [p for p in tmp_path.rglob(".ltx2-*")] == []


def test_a_store_is_read_without_being_written_to(tmp_path):
    kept = FileBlobStore(tmp_path / "store").put(b"x")
    (tmp_path / "store" / ".ltx2-held-1.tmp").write_bytes(b"half")
    before = sorted(tmp_path.rglob("*"))
    assert FolderBlobs(tmp_path / "store").get(kept) == b"x" and sorted(tmp_path.rglob("*")) == before


def test_damaged_records_of_every_kind_are_ours(tmp_path):
    store = FileBlobStore(tmp_path)
    kept = store.put(b"x")
    path = tmp_path / f"{kept}.json"
    good = json.loads(path.read_text())
    for change in (
        {"size": "1"},
        {"size": None},
        {"time": "x"},
        {"time": None},
        {"sha256": 5},
        {"id": 7},
        {"size": [1]},
    ):
        path.write_text(json.dumps(good | change))
        for call in (store.get, lambda _: store.sweep(), lambda _: len(store), store.__contains__):
            with contextlib.suppress(ContinuationError):
                call(kept)
        with pytest.raises(ContinuationError):
            store.get(kept)
    path.write_text("[" * 100_000)
    with pytest.raises(ContinuationError):
        store.get(kept)
