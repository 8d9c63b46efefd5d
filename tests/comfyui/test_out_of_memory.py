"""Memory that runs out inside a network: the host hears of it as it was said, nothing is left over, and the same run
works again."""

import contextlib
import gc
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from .shelf import digest

# of a device, which a host knows by its kind, and of the machine itself
DEVICE = getattr(torch, "OutOfMemoryError", None) or torch.cuda.OutOfMemoryError
ERRORS = {
    DEVICE: "CUDA out of memory. Tried to allocate 2.00 GiB.",
    RuntimeError: "[enforce fail at alloc_cpu.cpp:117] "
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 GB.",
}
SMALL = {
    "prompt": "A lake.",
    "negative_prompt": "",
    "width": 64,
    "height": 64,
    "seconds": 9 / 24,
    "fps": 24.0,
    "preset": "ltx2_hq",
    "seed": 5,
    "video_overlap": 1,
    "audio_overlap": 1,
}
SCRIPT = (
    "size: 64x64\npreset: ltx2_3_distilled\n"
    "override: {denoise.num_inference_steps: 1}\ndefaults: {frames: 17}\nsegments: [one, two]\n"
)


def decoding(m, **others):
    return {"latent": m.finished, "video_vae": m.parts["video_vae"], "memory": "streaming", **others}


def sounding(m):
    return {"latent": m.finished, "audio_vae": m.parts["audio_vae"]}


def denoising(m):
    return {"model": m.parts["model"], "latent": m.clip, "seed": 3, "preset": m.preset, **m.texts, **m.vaes}


# where it happens → node, its inputs, network, layer
SITES = {
    "text encoder": ("EncodePrompt", lambda m: {"text_encoder": m.parts["text_encoder"], "prompt": "A lake.",
    "negative_prompt": ""},
                     lambda m: m.parts["text_encoder"].encoder.model, "layers.1.mlp"),
    "video encoder": ("Denoise", denoising, lambda m: m.parts["video_vae"].encoder.model, "conv_out"),
    "stage 1": ("Denoise", denoising, lambda m: m.parts["model"].patcher.model, "transformer_blocks.2"),
    "upsampler": ("Upsample", lambda m: {"latent": m.half, "upsampler": m.parts["upsampler"],
    "video_vae": m.parts["video_vae"]},
                  lambda m: m.parts["upsampler"].patcher.model, "res_blocks.0"),
    "stage 2": ("Refine", lambda m: {"model": m.parts["model"], "latent": m.larger, "video_vae": m.parts["video_vae"],
    **m.texts},
                lambda m: m.parts["model"].patcher.model, "transformer_blocks.2"),
    "stage 2 of a segment": ("Generate", lambda m: {**m.parts, **SMALL, "settings": m.preset},
                             lambda m: m.parts["model"].patcher.model, "transformer_blocks.2"),
    "frames": ("DecodeVideo", decoding, lambda m: m.parts["video_vae"].decoder.model, "up_blocks.5.conv"),
    "film": ("DecodeToFile", lambda m: decoding(m, audio_vae=m.parts["audio_vae"], filename_prefix="film/part"),
             lambda m: m.parts["video_vae"].decoder.model, "up_blocks.5.conv"),
    "audio decoder": ("DecodeAudio", sounding, lambda m: m.parts["audio_vae"].decoder.model, "up.1"),
    "vocoder": ("DecodeAudio", sounding, lambda m: m.parts["audio_vae"].vocoder.model, "vocoder.conv_post"),
}  # fmt: skip


@contextlib.contextmanager
def counted(layer, last: int = 0, kind=None, look=lambda: None):
    """Counts calls of a layer; call number ``last`` raises. look: what is there at that moment."""
    told = SimpleNamespace(calls=0, seen=None)

    def hook(module, inputs):
        told.calls += 1
        if told.calls == last:
            told.seen = look()
            raise kind(ERRORS[kind])

    handle = layer.register_forward_pre_hook(hook)
    try:
        yield told
    finally:
        handle.remove()


def heard(action, kind) -> bool:
    """What a host does with an error: it frees all models when it knows the kind; whether it did. It keeps nothing of
    the error."""
    import comfy.model_management as mm

    try:
        action()
    except Exception as error:
        assert type(error) is kind and str(error) == ERRORS[kind] and error.__cause__ is None
        if known := isinstance(error, mm.OOM_EXCEPTION):
            mm.unload_all_models()
        return known
    raise AssertionError("nothing was raised")


@pytest.fixture(scope="module", autouse=True)
def set_aside(made):
    """What was there before these tests is not looked through again and again for what they leave."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def tensors() -> Counter:
    """All that are alive and were not set aside, by shape and type."""
    return Counter((tuple(one.shape), one.dtype) for one in gc.get_objects() if issubclass(type(one), torch.Tensor))


def files_of(base):
    return {
        path.relative_to(base): path.read_bytes()
        for name in ("output", "temp")
        for path in (base / name).rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
def test_memory_that_runs_out_in_a_network(run, made, folders, site):
    import comfy.model_management as mm

    name, inputs, network, layer = SITES[site]
    inputs, layer = inputs(made), network(made).get_submodule(layer)

    def outcome():
        """Everything that comes out, files by their content: their names are counted on."""
        before = files_of(folders)
        args = run(name, **inputs).args
        new = [content for path, content in files_of(folders).items() if path not in before]
        return new or digest(args)

    mm.unload_all_models()
    untouched = digest(made.parts)
    with counted(layer) as whole:
        expected = outcome()
    for kind in ERRORS:
        mm.unload_all_models()
        gc.collect()
        files, alive = files_of(folders), tensors()
        with counted(layer, whole.calls, kind, lambda there=files: set(files_of(folders)) - set(there)) as told:
            unloaded = heard(lambda: run(name, **inputs), kind)
        assert told.calls == whole.calls, "the error came from there"
        assert bool(told.seen) == (name == "DecodeToFile"), "a film was begun"
        assert files_of(folders) == files
        if unloaded:
            left = tensors() - alive  # at once, not when the garbage collector comes round
            assert not left
            assert digest(made.parts) == untouched
        assert outcome() == expected
    mm.unload_all_models()
    assert digest(made.parts) == untouched


@pytest.mark.slow
def test_a_story_goes_on_with_what_is_finished(run, made, folders):
    def story(folder):
        return run("Story", **made.parts, script=SCRIPT, folder=folder)

    layer, output = made.parts["video_vae"].decoder.model.get_submodule("up_blocks.5.conv"), folders / "output"
    with counted(layer) as whole:
        story("whole")
    for kind in ERRORS:
        film = output / kind.__name__
        with counted(layer, whole.calls, kind, lambda film=film: list(film.glob("segments/.*"))) as told:
            heard(lambda film=film: story(film.name), kind)
        assert told.seen, "the second segment was begun"
        (kept,) = (film / "segments").iterdir()
        assert kept.name.startswith("0001-")
        assert {path.name for path in film.iterdir()} == {"segments", "journal.jsonl", ".lock"}
        finished = files_of(folders)
        assert "1 segment made, 1 kept" in story(film.name).args[2]
        after = files_of(folders)
        assert all(after[path] == content for path, content in finished.items() if path.name != "journal.jsonl")
        assert (film / "film.mp4").read_bytes() == (output / "whole" / "film.mp4").read_bytes()
