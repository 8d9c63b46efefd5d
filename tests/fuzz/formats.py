"""What is fuzzed: sound files of each format, how to change them, how they are read, and what must hold when a changed
one is read all the same."""

import contextlib
import hashlib
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ltx2.checkpoint.lora import read_lora
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.continuation import (
    ContinuationState,
    FileBlobStore,
    FileSessionStore,
    LTX2ContinuationState,
    attachment_bytes,
    load_attachment,
    load_attachment_bytes,
    save_attachment,
)
from ltx2.continuation.frame_files import encode_png, pack_frames
from ltx2.errors import Ltx2Error
from ltx2.film.drift import DriftControl, handed_on, read_reference, take_up, with_reference
from ltx2.sampling.channel_statistics import statistics_of
from ltx2.story.journal import read_journal
from ltx2.story.script import parse_script

from ..checkpoint import files, gguf_files
from ..continuation.test_codec import full_state
from ..continuation.vectors import GivenBlobs, described, formula_frame, formula_latents
from . import mutate
from .mutate import BYTES, Mutation


@dataclass(frozen=True)
class Format:
    """seeds: sound inputs, made in an empty folder; mutations: as often as they are named; read: reads one input, and
    asserts what must hold of it when it is read."""

    seeds: Callable[[Path], list[bytes]]
    mutations: tuple[Mutation, ...]
    read: Callable[[bytes, Path], None]

    def input(self, seeds: list[bytes], number: int, salt: str) -> bytes:
        """The input of a number: the same each time."""
        rng = random.Random(f"{salt} {number}")
        data = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = rng.choice(self.mutations)(rng, data)
        return data


# --- states ----------------------------------------------------------------------------------------------------------


def small_state(**changes) -> LTX2ContinuationState:
    frames = [formula_frame(i, 8, 12) for i in range(2)]
    return full_state(video_frames=frames, audio_latents=formula_latents(3), **changes)


TEXTS = {"prompt": "{}", "workflow": '{"nodes": []}'}


def single_file(form: str) -> Callable[[Path], list[bytes]]:
    bare = replace(small_state(), video_frames=None)
    return lambda folder: [attachment_bytes(state, form, texts=TEXTS) for state in (small_state(), bare)]


SOUND = tuple(described(state) for state in (small_state(), replace(small_state(), video_frames=None)))


def read_hashed(data: bytes, folder: Path) -> None:
    """Whatever loads from a form under a hash is what was saved."""
    assert described(load_attachment_bytes(data, "file").state) in SOUND


def read_json_state(data: bytes, folder: Path) -> None:
    """Whatever loads can be saved, and loads again as the same."""
    for strict in (True, False):
        with contextlib.suppress(Ltx2Error):
            state = load_attachment_bytes(data, "file", strict=strict).state
            if strict:
                again = attachment_bytes(state, "json")
                assert described(load_attachment_bytes(again).state) == described(state)
    load_attachment_bytes(data, "file")


def folder_seeds(folder: Path) -> list[bytes]:
    path = save_attachment(small_state(), folder / "seed", texts=TEXTS)
    return [json.dumps({p.name: p.read_bytes().hex() for p in sorted(path.iterdir())}).encode()]


def change_folder(rng: random.Random, data: bytes) -> bytes:
    """One file of a folder changed, removed or added."""
    try:
        parts = json.loads(data)
    except ValueError:
        return data
    name = rng.choice(sorted(parts)) if parts else "state.json"
    what = rng.randrange(5)
    if what == 0:
        parts.pop(name, None)
    elif what == 1:
        parts[rng.choice(("frame_001.png", "frame_002.png", "frame_999.png", "audio.safetensors"))] = "00"
    elif what == 2:
        parts["state.json"] = mutate.in_json(rng, bytes.fromhex(parts.get("state.json", ""))).hex()
    else:
        parts[name] = rng.choice(BYTES)(rng, bytes.fromhex(parts.get(name, ""))).hex()
    return json.dumps(parts).encode()


def read_folder_state(data: bytes, folder: Path) -> None:
    path = folder / "state"
    path.mkdir(exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    for name, content in json.loads(data).items():
        (path / name).write_bytes(bytes.fromhex(content))
    assert described(load_attachment(path).state) in SOUND


def packed_seeds(folder: Path) -> list[bytes]:
    return [pack_frames([encode_png(formula_frame(i, 8, 12)) for i in range(n)]) for n in (0, 1, 3)]


def read_packed(data: bytes, folder: Path) -> None:
    payload = {"schema_version": 1, "video": {"blob_id": "a"}}
    for strict in (False, True):
        LTX2ContinuationState.decoded(
            ContinuationState("ltx2.v1", payload), blob_store=GivenBlobs({"a": data}), strict=strict
        )


def audio_seeds(folder: Path) -> list[bytes]:
    payload = (
        small_state().to_continuation_state(blob_store=(blobs := GivenBlobs({})), inline_threshold_bytes=0).payload
    )
    return [blobs.get(payload["audio"]["blob_id"])]


def read_audio_blob(data: bytes, folder: Path) -> None:
    payload = {"schema_version": 1, "audio": {"blob_id": "a"}}
    for strict in (False, True):
        LTX2ContinuationState.decoded(
            ContinuationState("ltx2.v1", payload), blob_store=GivenBlobs({"a": data}), strict=strict
        )


# --- stores ----------------------------------------------------------------------------------------------------------


def session_seeds(folder: Path) -> list[bytes]:
    FileSessionStore(folder / "seed").store("s", small_state().to_continuation_state())
    return [path.read_bytes() for path in (folder / "seed").glob("*.json")]


def read_sessions(data: bytes, folder: Path) -> None:
    """A damaged session takes nothing from its neighbour, can be replaced and dropped."""
    store = FileSessionStore(folder / "sessions")
    if "other" not in store:
        store.store("other", LTX2ContinuationState(segment_index=7).to_continuation_state())
        store.store("s", LTX2ContinuationState().to_continuation_state())
    (path,) = (folder / "sessions").glob("s.*.json")
    path.write_bytes(data)
    assert "other" in list(store) and store.snapshot("other").payload["segment_index"] == 7
    if "s" not in store:
        assert store.damaged() == ["s"]
    try:
        store.snapshot("s")
    finally:
        store.drop("s")
        assert list(store) == ["other"] and not store.damaged()
        store.store("s", LTX2ContinuationState().to_continuation_state())


def record_seeds(folder: Path) -> list[bytes]:
    kept = FileBlobStore(folder / "seed").put(b"x")
    return [(folder / "seed" / f"{kept}.json").read_bytes().replace(kept.encode(), b"a" * 32)]


def read_records(data: bytes, folder: Path) -> None:
    """A damaged record takes nothing from its neighbour, and can be dropped."""
    store = FileBlobStore(folder / "blobs", ttl_seconds=1e12, max_bytes=10**9)
    (folder / "blobs" / f"{'a' * 32}.blob").write_bytes(b"x")
    (folder / "blobs" / f"{'a' * 32}.json").write_bytes(data)
    other = store.put(b"other")
    try:
        assert store.get(other) == b"other" and len(store) in (1, 2)
        assert store.get("a" * 32) == b"x"
    finally:
        store.drop("a" * 32)
        store.drop(other)
        assert len(store) <= 1 and store.get.__self__ is store


# --- weights ---------------------------------------------------------------------------------------------------------


def weight_seeds(folder: Path) -> list[bytes]:
    tensors = {
        "a.weight": torch.arange(12.0).reshape(3, 4),
        "a.bias": torch.ones(3, dtype=torch.bfloat16),
        "b.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
        "b.weight_scale": torch.ones(()),
        "empty": torch.zeros(0, 2),
    }
    return [files.save(folder / "w.safetensors", tensors, {"config": '{"transformer": {}}'}).read_bytes()]


def read_weights(data: bytes, folder: Path) -> None:
    read_all(open_checkpoint(fresh(folder, data, ".safetensors")))


def fresh(folder: Path, data: bytes, suffix: str) -> Path:
    """A new file with some content: one that is mapped is never written over."""
    path = folder / f"w-{hashlib.sha256(data).hexdigest()[:16]}{suffix}"
    path.write_bytes(data)
    for old in folder.glob(f"w-*{suffix}"):
        if old != path:
            old.unlink()
    return path


def read_all(checkpoint) -> None:
    for tensor in checkpoint.tensors.values():
        if torch.Size(tensor.shape).numel() <= 2**16:
            tensor.load()


def gguf_seeds(folder: Path) -> list[bytes]:
    infos = [gguf_files.info("a.weight", (2, 32), 0, 0), gguf_files.info("b.weight", (2, 32), 8, 256)]
    values = [
        gguf_files.value("general.architecture", 8, gguf_files.text("ltxv")),
        gguf_files.value("general.alignment", 4, struct.pack("<I", 32)),
        gguf_files.value("x.list", 9, struct.pack("<IQ", 5, 2) + struct.pack("<ii", 1, 2)),
    ]
    head = gguf_files.header(infos, values)
    return [head + b"\0" * (-len(head) % 32) + bytes(range(256)) + bytes(68) + bytes(64)]


def read_gguf_file(data: bytes, folder: Path) -> None:
    read_all(open_checkpoint(fresh(folder, data, ".gguf")))


def lora_seeds(folder: Path) -> list[bytes]:
    stem = "diffusion_model.transformer_blocks.0.attn1.to_q"
    pair = {f"{stem}.lora_A.weight": torch.ones(2, 8), f"{stem}.lora_B.weight": torch.ones(8, 2)}
    full = {"diffusion_model.transformer_blocks.0.attn1.to_q.diff": torch.ones(8, 8)}
    with_alpha = pair | {f"{stem}.alpha": torch.tensor(2.0)}
    config = {"lora_adapter_metadata": json.dumps({"r": 2, "lora_alpha": 4}), "reference_downscale_factor": "1"}
    found = (pair, full, with_alpha)
    return [files.save(folder / f"{i}.safetensors", one, config).read_bytes() for i, one in enumerate(found)]


def read_lora_file(data: bytes, folder: Path) -> None:
    read_lora(fresh(folder, data, ".safetensors"))


# --- what a scene is held to ------------------------------------------------------------------------------------------


HELD = DriftControl(colour=0.5, contrast=0.5, loudness=0.5, latent=0.4, anchor=0.3)


def drift_seeds(folder: Path) -> list[bytes]:
    frames = np.stack([formula_frame(number, 16, 24) for number in range(9)])
    begun = take_up(HELD, None, frames, sound=True).reference
    latent = statistics_of(torch.randn(1, 5, 2, 2, 2, generator=torch.Generator().manual_seed(1)))
    state = with_reference(LTX2ContinuationState(), handed_on(HELD, begun, 0.2, latent))
    return [json.dumps(state.metadata["comfy_ltx2"]["drift"]).encode()]


def read_drift(data: bytes, folder: Path) -> None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return  # no state holds it
    frames = np.stack([formula_frame(number, 16, 24) for number in range(9)])
    reference = read_reference({"comfy_ltx2": {"drift": found}})
    taken = take_up(HELD, reference, frames, sound=True)
    assert taken.frames.shape == frames.shape and 0.5 <= taken.gain <= 2
    assert taken.reference.anchor


# --- stories ---------------------------------------------------------------------------------------------------------


SCRIPTS = (
    b"fps: 24\nsize: 64x64\nseed: 10\npreset: ltx2_fast\ndefaults: {seconds: 1}\nsegments:\n  - a lake\n"
    b"  - prompt: wind rises\n    strength: 0.9\n    cut: true\n    seed: 4\n  - {prompt: birds, frames: 17}\n",
    b"segments: [a, b, {prompt: c, negative: d, seconds: 2}]\noverride: {denoise.num_inference_steps: 1}\n"
    b"overlap: {video: 9, audio: 49}\ndrift_correction: {colour: 0.5}\ndrift: {strength: 0.95, latent: 0.4}\n",
    b'{"segments": ["a", {"prompt": "b", "cut": true, "image": [{"file": "x.png", "frame": 0}]}], "fps": "24000/1001"}',
)


def read_story(data: bytes, folder: Path) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    (folder / "x.png").touch()
    script = parse_script(text, folder / "script.yaml")
    assert 1 <= len(script.segments) and all(segment.prompt for segment in script.segments)


def checked_line(entry: dict) -> bytes:
    text = json.dumps(entry, sort_keys=True)
    return f"{text}\t{hashlib.sha256(text.encode()).hexdigest()[:16]}\n".encode()


def journal_seeds(folder: Path) -> list[bytes]:
    entries = [{"v": 1, "event": "segment", "index": i, "folder": f"000{i}-{'a' * 12}", "files": {}} for i in range(3)]
    return [b"".join(map(checked_line, entries))]


def change_entry(rng: random.Random, data: bytes) -> bytes:
    """An entry changed, under a checksum that fits it."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    with contextlib.suppress(ValueError, AttributeError):
        entry = mutate.changed_value(rng, json.loads(lines[at].rpartition(b"\t")[0]))
        lines[at] = checked_line(entry).strip()
    return b"\n".join(lines)


def read_journal_file(data: bytes, folder: Path) -> None:
    path = folder / "journal.jsonl"
    path.write_bytes(data)
    _, whole = read_journal(path)
    assert 0 <= whole <= len(data)


FORMATS = {
    "card": Format(single_file("card"), (*BYTES, *[mutate.in_png] * 8), read_hashed),
    "safetensors": Format(single_file("safetensors"), (*BYTES, *[mutate.in_safetensors] * 8), read_hashed),
    "json": Format(single_file("json"), (*BYTES, *[mutate.in_json] * 12), read_json_state),
    "folder": Format(folder_seeds, (change_folder,), read_folder_state),
    "packed frames": Format(packed_seeds, BYTES, read_packed),
    "audio blob": Format(audio_seeds, (*BYTES, *[mutate.in_safetensors] * 8), read_audio_blob),
    "session": Format(session_seeds, (*BYTES, *[mutate.in_json] * 6), read_sessions),
    "blob record": Format(record_seeds, (*BYTES, *[mutate.in_json] * 6), read_records),
    "checkpoint": Format(weight_seeds, (*BYTES, *[mutate.in_safetensors] * 8), read_weights),
    "gguf": Format(gguf_seeds, (*BYTES, mutate.number, mutate.number), read_gguf_file),
    "lora": Format(lora_seeds, (*BYTES, *[mutate.in_safetensors] * 8), read_lora_file),
    "drift reference": Format(drift_seeds, (*BYTES, *[mutate.in_json] * 12), read_drift),
    "script": Format(lambda folder: list(SCRIPTS), (*BYTES, *[mutate.in_lines] * 12), read_story),
    "journal": Format(journal_seeds, (*BYTES, mutate.in_lines, *[change_entry] * 4), read_journal_file),
}
