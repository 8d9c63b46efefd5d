"""Loading nodes: whatever released layout, every network ends up in the host's hands."""

from dataclasses import replace

import pytest
import torch

from .conftest import REAL
from .shelf import digest, loaded, shelf  # noqa: F401


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
def test_every_release_loads(loaded, version):  # noqa: F811
    found = loaded(version)
    model, text = found["model"], found["text_encoder"]
    assert ".".join(map(str, model.version[:2])) == version and str(model).startswith(f"LTX-{version} ltx-2")
    patchers = [model.patcher, found["upsampler"].patcher, *text.get_models()]
    patchers += [*found["video_vae"].get_models(), *found["audio_vae"].get_models()]
    assert len(patchers) == 11 and all(hasattr(patcher, "load_device") for patcher in patchers)
    assert found["video_vae"].missing == found["audio_vae"].missing == {}
    assert all(str(value) and len(str(value)) < 100 for value in found.values())
    # what has weights of some size is made of the host's layers
    for patcher in patchers:
        plain = [
            type(layer)
            for layer in patcher.model.modules()
            if type(layer).__module__.startswith("torch.nn.modules.linear")
        ]
        assert not plain, type(patcher.model)
    assert text.encoder.compute_device == text.patcher.load_device


def test_a_lora_is_a_patch_on_a_clone(run, loaded, shelf, pack):  # noqa: F811
    model = loaded()["model"]
    before = digest(model)
    added = run("ApplyLora", model=model, lora=shelf("2.3")["distilled_lora"], strength=0.5).args[0]
    assert digest(model) == before and added.patcher is not model.patcher and added.patcher.model is model.patcher.model
    assert added.patcher.patches and not model.patcher.patches
    assert str(added).endswith("distilled-lora-384 × 0.5")
    assert run("ApplyLora", model=model, lora=shelf("2.3")["distilled_lora"], strength=0.0).args[0] is model
    name = next(iter(added.patcher.patches))
    host = pack.nodes.host
    host.load(model.patcher)  # another test may have left a LoRA on what all share
    weight = dict(model.patcher.model.named_parameters())[name].detach().clone()
    (network,) = host.load(added.patcher)
    assert not torch.equal(dict(network.named_parameters())[name], weight) or REAL
    (network,) = host.load(model.patcher)
    assert torch.equal(dict(network.named_parameters())[name], weight)


def test_a_lora_of_another_model_is_refused(run, loaded, shelf):  # noqa: F811
    model = loaded("2.0")["model"]
    with pytest.raises(ValueError, match="use a LoRA for this model"):
        run("ApplyLora", model=model, lora=shelf("2.5")["distilled_lora"], strength=1.0)


def test_what_a_file_lacks_is_said_when_it_is_needed(run, loaded, shelf, tmp_path):  # noqa: F811
    from safetensors import safe_open
    from safetensors.torch import save_file

    from .samples import frames

    names = shelf("2.5")
    folder = tmp_path / "models" / "vae"
    with safe_open(folder / names["conv_video_vae"], "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("encoder.")}
        metadata = file.metadata()
    save_file(kept, folder / "decoder_only.safetensors", metadata)
    found = loaded("2.5")
    files = {
        "transformer": names["transformer"],
        "video_vae": "decoder_only.safetensors",
        "audio_vae": names["audio_vae"],
    }
    _, video_vae, _ = run("LoadSplitFiles", **files, distilled_lora="none").args[:3]
    assert video_vae.encoder is None and video_vae.decoder is not None and len(video_vae.get_models()) == 1
    conditions = run("AddImage", image=frames(1), frame=0, strength=1.0).args[0]
    clip = run("PrepareLatent", width=64, height=64, length=9, unit="frames", fps=24.0, conditions=conditions).args[0]
    positive = run("EncodePrompt", text_encoder=found["text_encoder"], prompt="A lake.", negative_prompt="").args[0]
    with pytest.raises(ValueError, match="video_encoder|video encoder"):
        run(
            "Denoise",
            model=found["model"],
            positive=positive,
            latent=clip,
            seed=1,
            video_vae=video_vae,
            preset=fast(run),
        )
    with pytest.raises(ValueError, match="connect video_vae"):
        run("Denoise", model=found["model"], positive=positive, latent=clip, seed=1, preset=fast(run))


def fast(run):
    return run(
        "Preset",
        preset="ltx2_fast",
        steps=1,
        refine_steps=0,
        sampler="as the preset says",
        two_stages="as the preset says",
    ).args[0]


def test_the_text_encoder_of_another_release_is_refused(run, loaded, shelf):  # noqa: F811
    model = loaded("2.5")["model"]
    with pytest.raises(ValueError, match="[Gg]emma"):
        run("LoadTextEncoder", text_encoder=shelf("2.3")["text_encoder"], model=model)


def test_names_that_are_not_there(run, folders):
    with pytest.raises(ValueError, match="not in ComfyUI's model folders"):
        run("LoadCheckpoint", checkpoint="../../etc/passwd")


@pytest.mark.slow
def test_quantised_files_stay_small_and_take_loras(run, loaded, shelf, tmp_path):  # noqa: F811
    from safetensors import safe_open
    from safetensors.torch import save_file

    names = shelf("2.3")
    folder = tmp_path / "models" / "checkpoints"
    with safe_open(folder / names["transformer"], "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    for name in [
        name
        for name in tensors
        if "diffusion_model.transformer_blocks" in name and tensors[name].ndim == 2 and ".to_" in name
    ]:
        scale = tensors[name].float().abs().max() / 448
        tensors[f"{name}_scale"] = scale
        tensors[name] = (tensors[name].float() / scale).to(torch.float8_e4m3fn)
    save_file(tensors, folder / "fp8-distilled.safetensors", metadata)
    parts = loaded()
    plain = parts["model"]
    model = run("LoadCheckpoint", checkpoint="fp8-distilled.safetensors", distilled_lora=names["distilled_lora"]).args[
        0
    ]
    kept = [layer for layer in model.patcher.model.modules() if type(layer).__name__ == "QuantizedLinear"]
    assert kept and model.dtype == plain.dtype
    added = run("ApplyLora", model=model, lora=names["distilled_lora"], strength=1.0).args[0]
    assert added.patcher.model is not model.patcher.model and not added.patcher.patches and added.loras[0][1] == 1.0
    twice = run("ApplyLora", model=added, lora=names["distilled_lora"], strength=-1.0).args[0]
    positive, negative, _ = run(
        "EncodePrompt", text_encoder=parts["text_encoder"], prompt="A lake.", negative_prompt=""
    ).args
    clip = run("PrepareLatent", width=64, height=64, length=9, unit="frames", fps=24.0).args[0]
    given = {"positive": positive, "negative": negative, "latent": clip, "seed": 1, "preset": fast(run)}
    before = digest(model)
    films = {
        name: run("Denoise", model=one, **given).args[0].latent.video.float()
        for name, one in (("plain", plain), ("fp8", model), ("lora", added), ("taken back", twice), ("again", model))
    }
    assert digest(model) == before and torch.equal(films["fp8"], films["again"])
    spread = (films["plain"] - films["lora"]).abs().mean()
    assert (films["plain"] - films["fp8"]).abs().mean() < 0.5 * spread
    assert torch.allclose(films["fp8"], films["taken back"], atol=0.1)
    # the distilled LoRA of a stage goes the same way
    hq = run("Preset", preset="ltx2_hq", steps=1, refine_steps=0, sampler="euler", two_stages="off").args[0]
    models = model, replace(model, distilled_lora=None)
    with_it, without = (run("Denoise", model=one, **{**given, "preset": hq}).args[0] for one in models)
    assert not torch.equal(with_it.latent.video, without.latent.video)


def test_errors_name_no_folder_of_the_host(run, loaded, shelf, tmp_path):  # noqa: F811
    """Files by their name within a model folder; what somebody shares shows nobody's disk."""
    (tmp_path / "models/loras/mine").mkdir(parents=True, exist_ok=True)
    (tmp_path / "models/loras/mine/broken.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "models/checkpoints").mkdir(exist_ok=True)
    (tmp_path / "models/checkpoints/broken.safetensors").write_bytes(b"\xff" * 64)
    model = loaded()["model"]
    with pytest.raises(ValueError, match=r"^mine.broken\.safetensors") as told:
        run("ApplyLora", model=model, lora="mine/broken.safetensors", strength=1.0)
    assert str(tmp_path) not in str(told.value)
    with pytest.raises(ValueError, match=r"^broken\.safetensors"):
        run("LoadCheckpoint", checkpoint="broken.safetensors", distilled_lora="none")
