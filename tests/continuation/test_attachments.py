"""One state in every form: the same state back, the same bytes again, and nothing hostile gets in."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import struct
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ltx2.continuation import (
    ContinuationState,
    InMemoryBlobStore,
    LTX2ContinuationState,
    StateLimits,
    attachment_bytes,
    describe_attachment,
    load_attachment,
    load_attachment_bytes,
    save_attachment,
)
from ltx2.continuation.attachments import FORMS
from ltx2.continuation.forms.tensor_file import content_sha256
from ltx2.continuation.frame_files import decode_frame, encode_png
from ltx2.continuation.recognise import holds_state
from ltx2.continuation.tensors import read_tensors
from ltx2.errors import BlobNotFoundError, ContinuationError, Ltx2Error, Ltx2Warning

from .test_codec import DTYPES, full_state
from .vectors import described, formula_frame

NAMES = {"folder": "state", "safetensors": "state.safetensors", "card": "state.png", "json": "state.json"}
TEXTS = {"prompt": {"1": {"class_type": "X"}}, "workflow": '{"nodes": ["größe"]}'}


def files_of(path):
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_state_comes_back(tmp_path, form, dtype):
    state = full_state(dtype, unknown_fields=full_state().unknown_fields)
    path = save_attachment(state, tmp_path / NAMES[form], texts=TEXTS)
    found = load_attachment(path)
    assert found.form == form and described(found.state) == described(state)
    assert torch.equal(found.state.audio_latents, state.audio_latents) and found.state.audio_latents.dtype == dtype
    assert json.loads(found.texts["prompt"]) == TEXTS["prompt"] and found.texts["workflow"] == TEXTS["workflow"]


@pytest.mark.parametrize("form", FORMS)
def test_saving_again_gives_the_same_bytes(tmp_path, form):
    first = save_attachment(full_state(), tmp_path / "a" / NAMES[form], texts=TEXTS)
    found = load_attachment(first)
    second = save_attachment(found.state, tmp_path / "b" / NAMES[form], texts=found.texts)
    third = save_attachment(full_state(), first, texts=TEXTS)  # over itself
    assert files_of(first) == files_of(second) == files_of(third)
    assert not [name for name in os.listdir(tmp_path / "a") if name.startswith(".")]


@pytest.mark.parametrize("form", FORMS)
def test_states_without_content_or_with_unknown_members(tmp_path, form):
    bare = LTX2ContinuationState(segment_index=4, metadata={"a": [1, None]})
    assert described(load_attachment(save_attachment(bare, tmp_path / NAMES[form])).state) == described(bare)
    envelope = bare.to_continuation_state()
    envelope.payload |= {"future": {"x": 1}, "video": {"blob_id": "abc", "frame_count": 9, "codec": "png"}}
    path = save_attachment(envelope, tmp_path / f"x{NAMES[form]}")
    again = load_attachment(path).state.to_continuation_state()
    assert again.payload == envelope.payload
    with pytest.raises(BlobNotFoundError):
        load_attachment(path, blob_store=InMemoryBlobStore())


@pytest.mark.parametrize("form", FORMS)
def test_content_is_fetched_from_the_store(tmp_path, form):
    store = InMemoryBlobStore()
    envelope = full_state().to_continuation_state(blob_store=store, inline_threshold_bytes=0)
    path = save_attachment(envelope, tmp_path / NAMES[form], blob_store=store)
    assert described(load_attachment(path).state) == described(full_state())
    held = LTX2ContinuationState.from_continuation_state(envelope)
    path = save_attachment(held, tmp_path / f"x{NAMES[form]}", blob_store=store)
    assert described(load_attachment(path).state) == described(full_state())


def test_hosts_find_the_texts_where_they_look(tmp_path):
    card = save_attachment(full_state(), tmp_path / "s.png", texts=TEXTS)
    with Image.open(card) as image:
        assert json.loads(image.text["prompt"]) == TEXTS["prompt"] and image.text["workflow"] == TEXTS["workflow"]
        assert np.array_equal(np.asarray(image), full_state().video_frames[-1])
    with safetensors.safe_open(save_attachment(full_state(), tmp_path / "s.safetensors", texts=TEXTS), "pt") as file:
        assert file.metadata()["workflow"] == TEXTS["workflow"]
        assert torch.equal(file.get_tensor("audio_latents"), full_state().audio_latents)


def test_a_host_that_copies_private_chunks_keeps_the_state(tmp_path):
    data = attachment_bytes(full_state(), "card", texts=TEXTS)
    start = data.index(b"ltXs")
    (length,) = struct.unpack_from(">I", data, start - 4)
    info = PngInfo()
    info.add(b"ltXs", data[start + 4 : start + 4 + length], after_idat=True)
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).save(file, "PNG", pnginfo=info)
    assert described(load_attachment_bytes(file.getvalue()).state) == described(full_state())


def test_describe(tmp_path):
    path = save_attachment(full_state(), tmp_path / "s.png", texts=TEXTS)
    found = describe_attachment(path)
    assert found["form"] == "card" and found["video"]["count"] == 9 and found["texts"].keys() == {"prompt", "workflow"}
    expected = described(full_state())
    assert found["video"] == expected["video"] and found["audio"] == expected["audio"]
    json.dumps(found, allow_nan=False)


# --- damage and hostility
# ----------------------------------------------------------------------------------------------


def refused(data, words="."):
    started = time.perf_counter()
    with pytest.raises(ContinuationError, match=words) as caught:
        load_attachment_bytes(data, "file")
    assert time.perf_counter() - started < 2 and len(str(caught.value)) < 400


@pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
@pytest.mark.parametrize("form", ("safetensors", "card", "json"))
def test_every_cut_and_many_flips_are_noticed(form):
    data = attachment_bytes(
        full_state(video_frames=[formula_frame(0, 8, 12)], audio_latents=full_state().audio_latents[:, :, :2]), form
    )
    want = described(load_attachment_bytes(data).state)
    for cut in range(0, len(data) - (2 if form == "json" else 0), 13):
        refused(data[:cut])
    for at in range(0, len(data), 29):
        flipped = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        try:
            found = described(load_attachment_bytes(flipped, "file").state)
        except ContinuationError:
            continue
        # plain JSON has no checksum; in a card the picture itself may change without harm to the state
        assert form != "safetensors" and (form == "json" or found == want)


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "no state, it is empty, expected"),
        (b"1234567", "no state, it begins with 31323334353637"),
        (b"12345678", "choose the file that was saved as one"),
        (struct.pack("<Q", 2**63) + b"{}", "states a header"),
        (struct.pack("<Q", 2**27) + b"{}" * 20, "states a header"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc", "no state"),
        (struct.pack("<Q", 4) + b" {} ", "no state"),
        (struct.pack(">I", 24) + b"ftypisom" + b"\0" * 40, "a film, .* go on from a film with Extend Video"),
        (b"\x1aE\xdf\xa3" + b"\0" * 40, "a film"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP picture"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a sound"),
        (struct.pack("<Q", 4) + b"{x} ", "damaged safetensors header"),
        (struct.pack("<Q", 30) + b'{"__metadata__":{"a":[1,2]}}  ', "not text"),
        (struct.pack("<Q", 30) + b'{"__metadata__":{"a":"1,"}}   ', "without a state"),
        (b"PK\3\4" + b"\0" * 50, "zip archive"),
        (b"GGUF" + b"\0" * 50, "GGUF"),
        (b"\x80\2}q\0.", "pickle"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "JPEG"),
        (encode_png(formula_frame(0, 8, 8)), "carries no state"),
        (b"\x89PNG\r\n\x1a\n", "truncated PNG, .*: copy or send the file again"),
        (b'{"kind": "ltx2.v1"', "not JSON"),
        (b'{"kind": "other.v1", "payload": {}}', "'other.v1'"),
        (b'{"payload": {}}', "kind is None"),
        (b"[1, 2, 3]   ", "no state"),
    ],
)
def test_other_files_are_named_for_what_they_are(data, words):
    refused(data, words)


def rewritten(**changes):
    """A safetensors attachment with a changed header, and the hash made to fit what its metadata say."""
    data = attachment_bytes(full_state(video_frames=[formula_frame(0, 8, 12)]), "safetensors")
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    for name, change in changes.items():
        change(header.setdefault(name, {}))
    metadata = header["__metadata__"]
    if metadata["sha256"] != "0":
        metadata["sha256"] = content_sha256(metadata, read_tensors(data, "file"))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(audio_latents=lambda t: t.update(data_offsets=[-8, 8])), "damaged"),
        (dict(audio_latents=lambda t: t.update(data_offsets=[8, 0])), "damaged"),
        (dict(audio_latents=lambda t: t.update(data_offsets=[8, 26120])), "damaged"),
        (dict(audio_latents=lambda t: t.update(shape=[1, 8, 2**62, 16])), "damaged"),
        (dict(audio_latents=lambda t: t.update(dtype="F33")), "damaged"),
        (dict(frame_000=lambda t: t.update(dtype="I8")), "frame_000|SHA"),
        (dict(__metadata__=lambda t: t.update(attachment_version="2")), "version '2'"),
        (dict(__metadata__=lambda t: t.update(sha256="0")), "SHA-256"),
        (dict(__metadata__=lambda t: t.update(payload="{")), "not JSON"),
        (dict(__metadata__=lambda t: t.update(payload="[]")), "payload is a list"),
        (dict(__metadata__=lambda t: t.update(payload='{"schema_version": 1, "segment_index": NaN}')), "NaN"),
        (dict(__metadata__=lambda t: t.update(kind="ltx3")), "'ltx3'"),
    ],
)
def test_damaged_headers(changes, words):
    refused(rewritten(**changes), words)


def test_twice_the_same_name_in_a_header():
    header = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    )
    refused(struct.pack("<Q", len(header)) + header + b"\0", "twice")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width=8, height=8, bits=8, colour=2, extra=b""):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    rows = zlib.compress(b"\0" * (1 + 24) * 8)
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data, words",
    [
        (png(10000, 8948), "10000x8948 px"),
        (png(1, 2**31), "px, expected"),
        (png(2**32 - 1, 2**32 - 1), "px, expected"),
        (png(0, 8), "0x8 px"),
        (png(8192, 8192), "8192x8192"),
        (png(bits=16), "16 bits"),
        (png(extra=chunk(b"tEXt", b"a\0b") * 20_000), "more than 64 side chunks"),
        (png(extra=chunk(b"acTL", struct.pack(">II", 2, 0))), "animated"),
        (png()[:-20], "truncated"),
        (png()[:40], "truncated"),
        (png(64, 64), "damaged PNG"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"x") + chunk(b"IEND", b""), "does not start with its header"),
        (b"GIF89a" + b"\0" * 30, "not a PNG"),
        (b"BM" + b"\0" * 60, "not a PNG"),
    ],
)
def test_picture_bombs(data, words):
    started = time.perf_counter()
    with pytest.raises(ContinuationError, match=words):
        decode_frame(data, "frame")
    assert time.perf_counter() - started < 1


def test_frames_are_bounded_together():
    envelope = full_state().to_continuation_state()
    with pytest.raises(ContinuationError, match="px in the frames so far"):
        LTX2ContinuationState.from_continuation_state(envelope, limits=StateLimits(total_pixels=64 * 96 * 5))
    with pytest.raises(ContinuationError, match="expected at most 8"):
        LTX2ContinuationState.from_continuation_state(envelope, limits=StateLimits(frames=8))
    with pytest.raises(ContinuationError, match="elements"):
        LTX2ContinuationState.from_continuation_state(envelope, limits=StateLimits(audio_elements=100))


def test_cards_are_checked():
    data = attachment_bytes(full_state(), "card")
    at = data.index(b"ltXs")
    (length,) = struct.unpack_from(">I", data, at - 4)
    body = data[at + 4 : at + 4 + length]
    before, after = data[: at - 4], data[at + 8 + length :]
    refused(before + chunk(b"ltXs", body[:4] + struct.pack(">I", 2) + body[8:]) + after, "card version 2, expected 1")
    refused(before + chunk(b"ltXs", b"XXXX" + body[4:]) + after, "that is none")
    refused(before + chunk(b"ltXs", b"LT") + after, "that is none")
    refused(before + data[at - 4 : at + 4 + length] + b"\0\0\0\0" + after, "checksum")
    refused(before + chunk(b"ltXs", body) * 2 + after, "more than one state")
    refused(
        before + b"".join(chunk(b"tEXt", b"%d\0b" % i) for i in range(1001)) + chunk(b"ltXs", body) + after,
        "1000 texts",
    )


def test_folders_are_checked(tmp_path):
    path = save_attachment(full_state(), tmp_path / "s")
    (path / "frame_003.png").write_bytes(encode_png(formula_frame(9, 64, 96)))
    with pytest.raises(ContinuationError, match="frame_003.png does not match"):
        load_attachment(path)
    (path / "frame_003.png").unlink()
    with pytest.raises(ContinuationError, match="frame_003.png does not exist"):
        load_attachment(path)
    (path / "frame_003.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(ContinuationError, match="is a link"):
        load_attachment(path)
    for name in ("../../etc/passwd", "/etc/passwd", "frame_0.png", "C:\\x.png", "~/x", "state.json"):
        document = json.loads((path / "state.json").read_text())
        document["attachment"]["files"] = {name: {"sha256": "0"}}
        (path / "state.json").write_text(json.dumps(document))
        with pytest.raises(ContinuationError, match="lists the file"):
            load_attachment(path)
    with pytest.raises(ContinuationError):
        load_attachment(tmp_path / "nothing")


def changed_folder(path, change):
    document = json.loads((path / "state.json").read_text())
    change(document)
    (path / "state.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["payload"].update(segment_index=4),
        lambda d: d["payload"].pop("audio_conditioning_num_frames"),
        lambda d: d["payload"]["metadata"].clear(),
        lambda d: d.update(workflow="other"),
        lambda d: d.pop("workflow"),
        lambda d: d["attachment"]["files"].pop("frame_008.png"),
        lambda d: d["attachment"]["files"].pop("audio.safetensors"),
        lambda d: d["attachment"]["files"].clear(),
        lambda d: d["attachment"].pop("sha256"),
        lambda d: d.pop("attachment"),
        lambda d: d["attachment"].update(version=1),
        lambda d: d["attachment"].update(more=1),
    ],
)
def test_nothing_of_a_folder_changes_unnoticed(tmp_path, change):
    path = save_attachment(full_state(), tmp_path / "s", texts={"workflow": "{}"})
    changed_folder(path, lambda document: None)  # its layout may change
    load_attachment(path)
    changed_folder(path, change)
    with pytest.raises(ContinuationError):
        load_attachment(path)


def as_first_version(document):
    """As 0.1.0 wrote it: without a hash of the document itself."""
    document["attachment"] = {"version": 1, "files": document["attachment"]["files"]}


def test_folders_of_the_first_version_load_with_a_note(tmp_path):
    path = save_attachment(full_state(), tmp_path / "s")
    changed_folder(path, as_first_version)
    found = load_attachment(path)
    assert described(found.state) == described(full_state()) and "cannot be verified" in found.notes[0]
    changed_folder(path, lambda document: document["attachment"]["files"].pop("frame_008.png"))
    with pytest.raises(ContinuationError, match="frame_008.png is not on the list"):
        load_attachment(path)
    alone = tmp_path / "alone"
    alone.mkdir()
    for change in (lambda d: None, lambda d: d["attachment"]["files"].clear(), lambda d: d.pop("attachment")):
        (alone / "state.json").write_text((path / "state.json").read_text())
        changed_folder(alone, change)
        with pytest.raises(ContinuationError):
            load_attachment(alone)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
def test_content_beside_an_id_goes_through_every_form(tmp_path, form):
    payload = full_state().to_continuation_state().payload
    payload["video"]["blob_id"] = payload["audio"]["blob_id"] = "elsewhere"
    state = LTX2ContinuationState.from_continuation_state(ContinuationState("ltx2.v1", payload))
    path = save_attachment(state, tmp_path / NAMES[form])
    for _ in range(2):
        found = load_attachment(path)
        assert described(found.state) == described(state) and found.state.video_frames_blob_id == "elsewhere"
        assert len(found.state.video_frames) == 9 and found.state.audio_latents is not None
        assert any("inline frames" in note for note in found.notes)
        path = save_attachment(found.state, tmp_path / f"again{NAMES[form]}")


def test_ids_and_content_given_together_keep_the_id_and_say_so():
    state = full_state(video_frames_blob_id="v", audio_latents_blob_id="a")
    with pytest.warns(Ltx2Warning, match="are not written"):
        payload = state.to_continuation_state().payload
    assert payload["video"] == {"blob_id": "v"} and payload["audio"] == {"blob_id": "a"}


def test_reading_leaves_the_process_as_it_was(tmp_path):
    """Notes are in the result: no filter of the process is touched, by any of several threads."""
    envelope = full_state().to_continuation_state()
    del envelope.payload["schema_version"]
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"kind": envelope.kind, "payload": envelope.payload}))
    before, show, found = list(warnings.filters), warnings.showwarning, []

    def read():
        for _ in range(5):
            found.append(load_attachment(path).notes)
            assert warnings.filters == before and warnings.showwarning is show

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before, show = list(warnings.filters), warnings.showwarning
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not caught and found == [("payload.schema_version is missing and was read as 1",)] * 20


@pytest.mark.parametrize("name", ("x" * 300, "x" * 300 + ".png", "a\0b", "\ud800.png"))
def test_names_that_no_file_can_have_are_one_sentence(tmp_path, name):
    for call in (load_attachment, lambda path: save_attachment(full_state(), path)):
        with pytest.raises(ContinuationError) as caught:
            call(f"{tmp_path}/{name}")
        assert len(str(caught.value)) <= 300 and str(caught.value).isprintable()
    with pytest.raises(ContinuationError):
        load_attachment(7)


@pytest.mark.parametrize("name", ("~/x", "C:x", "..\\x", "~x.png", "C:x.json", "..\\x.safetensors"))
def test_what_was_saved_under_an_odd_name_loads_again(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert described(load_attachment(save_attachment(full_state(), name)).state) == described(full_state())
    assert described(load_attachment(name).state) == described(full_state())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("code", (errno.ENOSPC, errno.EIO, errno.EROFS))
@pytest.mark.parametrize("step", ("open", "mkdir", "fsync", "replace"))
def test_a_disk_that_fails_is_one_sentence(tmp_path, monkeypatch, form, code, step):
    path = tmp_path / NAMES[form]

    def fail(*args, **keywords):
        raise OSError(code, os.strerror(code), "/somewhere/else")

    with monkeypatch.context() as patch:
        if step == "open":
            patch.setattr("builtins.open", fail)
        else:
            patch.setattr(os, step, fail)
        if step == "mkdir" and form != "folder":
            return
        with pytest.raises(ContinuationError) as caught:
            save_attachment(full_state(), path)
    assert os.strerror(code) in str(caught.value) and "somewhere" not in str(caught.value)
    assert str(path) in str(caught.value) and len(str(caught.value)) <= 300 and not os.listdir(tmp_path)


def test_a_folder_of_other_things_is_never_replaced(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ContinuationError, match="holds other files"):
        save_attachment(full_state(), tmp_path)
    assert (tmp_path / "holiday.jpg").exists()
    with pytest.raises(ContinuationError, match="is a file"):
        save_attachment(full_state(), tmp_path / "holiday.jpg", form="folder")


def test_texts_cannot_take_the_states_names_or_grow_without_end(tmp_path):
    for texts in ({"payload": "x"}, {"kind": "x"}, {"workflow": "x" * (17 * 2**20)}, {"workflow": {"x": float("nan")}}):
        with pytest.raises(Ltx2Error):
            save_attachment(full_state(), tmp_path / "s.png", texts=texts)
    with pytest.raises(ContinuationError, match="form is"):
        save_attachment(full_state(), tmp_path / "s.png", form="zip")


def test_a_state_saved_over_a_mapped_file_leaves_the_mapping_whole(tmp_path):
    path = save_attachment(full_state(), tmp_path / "s.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        latents = file.get_tensor("audio_latents")
        save_attachment(dataclasses.replace(full_state(), audio_latents=full_state().audio_latents * 0), path)
        assert torch.equal(latents, full_state().audio_latents)
    assert not load_attachment(path).state.audio_latents.any()


@pytest.mark.parametrize("encoding", ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"))
@pytest.mark.parametrize("line_end", ("\n", "\r\n"))
def test_a_document_that_an_editor_wrote_again(tmp_path, encoding, line_end):
    """With marks, in another encoding, with other line ends: the same state, and one that a list of files shows."""
    state = full_state()
    text = json.dumps(json.loads(attachment_bytes(state, "json")), indent=1).replace("\n", line_end)
    (tmp_path / "s.json").write_bytes(text.encode(encoding))
    found = load_attachment(tmp_path / "s.json")
    assert found.form == "json" and described(found.state) == described(state)
    assert holds_state(tmp_path / "s.json") or not encoding.startswith("utf-8")


def test_what_a_transfer_as_text_leaves_is_named(tmp_path):
    card = attachment_bytes(full_state(), "card")
    for data in (card.replace(b"\r\n", b"\n"), card.replace(b"\n", b"\r\n"), card[:4] + b"\n" + card[6:]):
        with pytest.raises(ContinuationError, match="a PNG whose line ends were changed on its way"):
            load_attachment_bytes(data, "a.png")
    for text in ("[1]", "null", '"a"', "12", " "):
        with pytest.raises(ContinuationError, match=r"a.json is no JSON of a state, expected an object that begins"):
            load_attachment_bytes(text.encode(), "a.json")
