"""GGUF files in a plain host's lists, and what nodes say and do about LoRAs of every kind."""

import json
import logging

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.checkpoint import gguf_files as G

from .shelf import loaded, loaded_anew, shelf  # noqa: F401

PREFIX = "model.diffusion_model."
TO_Q = "transformer_blocks.0.attn1.to_q"
CONNECTOR = "audio_embeddings_connector.transformer_1d_blocks.0.attn1.to_k"
LISTS = {
    "LoadCheckpoint": ("checkpoint", "checkpoints"),
    "LoadSplitFiles": ("transformer", "diffusion_models"),
    "LoadTextEncoder": ("text_encoder", "text_encoders"),
    "LoadUpsampler": ("upsampler", "latent_upscale_models"),
    "ApplyLora": ("lora", "loras"),
}


def options(pack, node: str, name: str) -> list[str]:
    schema = {cls.GET_SCHEMA().node_id: cls for cls in pack.nodes.NODES}[f"LTX2Continuum{node}"].define_schema()
    return next(one for one in schema.inputs if one.id == name).options


@pytest.mark.parametrize("node", LISTS)
def test_every_loader_lists_gguf_files(pack, shelf, folders, node):  # noqa: F811
    shelf("2.3")
    name, kind = LISTS[node]
    folder = folders / "models" / kind / "deeper"
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("one-Q4_K.gguf", "two-00001-of-00002.gguf", "two-00002-of-00002.gguf", "other.txt"):
        (folder / file).write_bytes(b"GGUF")
    found = [one.replace("\\", "/") for one in options(pack, node, name)]
    assert [one for one in found if one.startswith("deeper/")] == [
        "deeper/one-Q4_K.gguf",
        "deeper/two-00001-of-00002.gguf",
    ]


def test_a_gguf_transformer_runs(run, shelf, folders):  # noqa: F811
    names = shelf("2.3")
    with safe_open(folders / "models" / "checkpoints" / names["transformer"], "pt") as file:
        tensors = {n.removeprefix(PREFIX): file.get_tensor(n).float() for n in file.keys() if n.startswith(PREFIX)}
        config = file.metadata()["config"]
    values = [
        G.value("general.architecture", 8, G.text("ltxv")),
        G.value("config", 8, G.text(json.dumps(json.loads(config)))),
    ]
    stored = {name: (tuple(t.shape), 0, t.contiguous().numpy().tobytes()) for name, t in tensors.items()}
    (folders / "models" / "diffusion_models").mkdir(parents=True, exist_ok=True)
    G.write(folders / "models" / "diffusion_models" / "ltx.gguf", stored, values)
    vaes = {"video_vae": names["transformer"], "audio_vae": names["transformer"]}
    model = run("LoadSplitFiles", transformer="ltx.gguf", **vaes, distilled_lora="none").args[0]
    weights = dict(model.patcher.model.named_parameters())
    assert model.version == (2, 3) and torch.equal(weights[f"{TO_Q}.weight"].float(), tensors[f"{TO_Q}.weight"])


def shape_of(folders, names, module) -> tuple[int, int]:
    with safe_open(folders / "models" / "checkpoints" / names["transformer"], "pt") as file:
        return tuple(file.get_slice(f"{PREFIX}{module}.weight").get_shape())


def lora(folders, name, tensors, metadata=None) -> str:
    (folders / "models" / "loras").mkdir(parents=True, exist_ok=True)
    save_file(tensors, folders / "models" / "loras" / name, metadata)
    return name


def pair(module, out, into, gain=1.0):
    g = torch.Generator().manual_seed(len(module))
    down, up = torch.randn(4, into, generator=g), torch.randn(out, 4, generator=g)
    return {f"diffusion_model.{module}.lora_A.weight": down, f"diffusion_model.{module}.lora_B.weight": gain * up}


def test_a_lora_that_fits_in_part_says_so(run, loaded, shelf, folders, caplog):  # noqa: F811
    model, names = loaded()["model"], shelf("2.3")
    out, into = shape_of(folders, names, TO_Q)
    tensors = (
        pair(TO_Q, out, into) | pair("transformer_blocks.99.attn1.to_q", out, into) | pair("some_new.0.to_q", out, into)
    )
    with caplog.at_level(logging.WARNING):
        result = run("ApplyLora", model=model, lora=lora(folders, "part.safetensors", tensors), strength=1.0)
    added, report = result.args
    assert (
        "1 of 3 LoRA weights fit the model; not in the model: some_new.0.to_q, transformer_blocks.99.attn1.to_q"
        in report
    )
    assert any("1 of 3 LoRA weights fit" in note for note in result.ui["text"]) and "1 of 3" in caplog.text
    assert any("1 of 3" in note for note in added.notes) and not model.notes
    whole = run("ApplyLora", model=model, lora=names["distilled_lora"], strength=1.0)
    assert not whole.args[0].notes and not whole.ui["text"]
    again = run("ApplyLora", model=whole.args[0], lora=names["distilled_lora"], strength=-0.5)
    assert "was given 2 times, which together is strength 0.5" in again.args[1] and again.args[0].notes
    older = run(
        "ApplyLora", model=model, lora=lora(folders, "ltx-2-19b-x.safetensors", pair(TO_Q, out, into)), strength=1.0
    )
    assert any("was made for LTX-2.0, the model is LTX-2.3" in note for note in older.ui["text"])
    with pytest.raises(ValueError, match="fits none"):
        run("ApplyLora", model=model, lora=lora(folders, "none.safetensors", pair("unet.x", 8, 8)), strength=1.0)


def test_an_ic_lora_says_that_it_needs_a_reference(run, loaded, shelf, folders):  # noqa: F811
    model, names = loaded()["model"], shelf("2.3")
    file = lora(
        folders, "ic.safetensors", pair(TO_Q, *shape_of(folders, names, TO_Q)), {"x.reference_downscale_factor": "2.0"}
    )
    result = run("ApplyLora", model=model, lora=file, strength=1.0)
    assert "is an IC-LoRA, made for a reference video at the size divided by 2" in result.ui["text"][0]


def test_an_ic_lora_is_shown_its_reference(run, loaded, shelf, folders):  # noqa: F811
    """At the size that its file names, in the stage that asks for it; a size that it does not divide is refused."""
    parts, names = loaded(), shelf("2.3")
    file = lora(
        folders, "ic2.safetensors", pair(TO_Q, *shape_of(folders, names, TO_Q)), {"reference_downscale_factor": "2"}
    )
    model = run("ApplyLora", model=parts["model"], lora=file, strength=1.0).args[0]
    texts = run("EncodePrompt", text_encoder=parts["text_encoder"], prompt="A lake.", negative_prompt="").args[:2]
    preset = run("Preset", preset="ltx2_fast", steps=1, refine_steps=2, sampler="euler", two_stages="on").args[0]
    shown = run("ReferenceVideo", frames=torch.rand(10, 40, 40, 3), strength=1.0, attention=1.0, stages="first stage")

    def denoised(size, conditions):
        clip = {"width": size, "height": size, "length": 9, "unit": "frames", "fps": 24.0, "conditions": conditions}
        latent = run("PrepareLatent", **clip).args[0]
        options = {"positive": texts[0], "negative": texts[1], "preset": preset, "video_vae": parts["video_vae"]}
        return run("Denoise", latent=latent, model=model, seed=1, **options).args[0]

    with_reference = denoised(128, shown.args[0])
    assert any("10 frames, the first 9 are shown" in note for note in with_reference.notes)
    assert not any("runs as a plain LoRA" in note for note in with_reference.notes)
    plain = denoised(128, None)
    assert any("runs as a plain LoRA" in note for note in plain.notes)
    assert plain.latent.video.shape == with_reference.latent.video.shape
    assert not torch.equal(plain.latent.video, with_reference.latent.video)
    with pytest.raises(ValueError, match="size is 64x64, expected multiples of 128"):
        denoised(64, shown.args[0])


def test_a_lora_of_one_stage_is_there_and_not_in_the_other(run, loaded, shelf, folders):  # noqa: F811
    parts, names = loaded(), shelf("2.3")
    file = lora(folders, "one-stage.safetensors", pair(TO_Q, *shape_of(folders, names, TO_Q), gain=20))
    texts = run("EncodePrompt", text_encoder=parts["text_encoder"], prompt="A lake.", negative_prompt="").args
    clip = run("PrepareLatent", width=64, height=64, length=9, unit="frames", fps=24.0).args[0]
    preset = run("Preset", preset="ltx2_fast", steps=1, refine_steps=0, sampler="euler", two_stages="off").args[0]
    made = {"none": run("Denoise", model=parts["model"], positive=texts[0], latent=clip, seed=1, preset=preset).args[0]}
    for stages in ("both stages", "first stage", "second stage"):
        added = run("ApplyLora", model=parts["model"], lora=file, strength=0.5, stages=stages).args
        model = added[0]
        assert (added[1].endswith("in the first stage alone"), str(model).endswith(" × 0.5 in stage 1")) == (
            (stages == "first stage",) * 2
        )
        made[stages] = run("Denoise", model=model, positive=texts[0], latent=clip, seed=1, preset=preset).args[0]
    videos = {name: one.latent.video for name, one in made.items()}
    assert torch.equal(videos["first stage"], videos["both stages"])
    assert torch.equal(videos["second stage"], videos["none"]) and not torch.equal(
        videos["none"], videos["both stages"]
    )
    assert any("one-stage.safetensors: strength 0.5 in the one stage" in note for note in made["first stage"].notes)
    assert any("has no effect at stage 2" in note for note in made["second stage"].notes)


def test_text_weights_of_a_lora_act_or_are_told(run, loaded, shelf, folders):  # noqa: F811
    """Whatever the order of the nodes."""
    parts, names = loaded(), shelf("2.3")
    tensors = pair(TO_Q, *shape_of(folders, names, TO_Q)) | pair(
        CONNECTOR, *shape_of(folders, names, CONNECTOR), gain=20
    )
    result = run("ApplyLora", model=parts["model"], lora=lora(folders, "both.safetensors", tensors), strength=1.0)
    model = result.args[0]
    assert "connect the model with the LoRA to Load LTX-2 Text Encoder" in result.ui["text"][0]
    clip = run("PrepareLatent", width=64, height=64, length=9, unit="frames", fps=24.0).args[0]
    preset = run("Preset", preset="ltx2_fast", steps=1, refine_steps=0, sampler="euler", two_stages="off").args[0]
    with_it = run("LoadTextEncoder", text_encoder=names["text_encoder"], model=model).args[0]
    contexts = {}
    for name, encoder in (("before", parts["text_encoder"]), ("after", with_it)):
        prompts = {"prompt": "A lake.", "negative_prompt": ""}
        contexts[name], *_ = run("EncodePrompt", text_encoder=encoder, **prompts).args
        made = run("Denoise", model=model, positive=contexts[name], latent=clip, seed=1, preset=preset).args[0]
        told = [note for note in made.notes if "both.safetensors also changes how prompts are encoded" in note]
        assert bool(told) == (name == "before"), made.notes
    assert torch.equal(contexts["before"].context.video, contexts["after"].context.video)  # the LoRA is of the sound's
    assert not torch.equal(contexts["before"].context.audio, contexts["after"].context.audio)


KINDS = {
    "LoHa": lambda out, into: {f"hada_w{n}_{s}": (out, 2) if s == "a" else (2, into) for n in "12" for s in "ab"},
    "LoKr": lambda out, into: {"lokr_w1": (2, 2), "lokr_w2": (out // 2, into // 2)},
    "OFT": lambda out, into: {"oft_blocks": (out // 8, 8, 8)},
    "DoRA": lambda out, into: {"lora_up.weight": (out, 2), "lora_down.weight": (2, into), "dora_scale": (out, 1)},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_every_kind_does_in_the_host_what_it_does_in_the_engine(run, loaded, shelf, folders, pack, kind, strength):  # noqa: F811
    from ltx2.checkpoint.lora import Scaled, match_lora, merged, read_lora

    model, names = loaded()["model"], shelf("2.3")
    out, into = shape_of(folders, names, TO_Q)
    g = torch.Generator().manual_seed(5)
    tensors = {
        f"diffusion_model.{TO_Q}.{part}": (0.2 if kind == "OFT" else 0.7) * torch.randn(*size, generator=g)
        for part, size in KINDS[kind](out, into).items()
    }
    file = lora(folders, f"{kind}.safetensors", tensors)
    (network,) = pack.nodes.host.load(model.patcher)  # with no LoRA of tests before this one
    before = dict(network.named_parameters())[f"{TO_Q}.weight"].detach().clone()
    found = match_lora(read_lora(folders / "models" / "loras" / file), {f"{TO_Q}.weight": (out, into)}).matched[
        f"{TO_Q}.weight"
    ]
    expected = merged(before.float(), [Scaled(found, strength)])
    assert (expected - before.float()).abs().max() > 0.05
    added = run("ApplyLora", model=model, lora=file, strength=strength).args[0]
    (network,) = pack.nodes.host.load(added.patcher)
    # what the layer computes: some hosts change a weight when it is loaded, some when it is used
    x = torch.randn(5, into, generator=g)
    layer = network.get_submodule(TO_Q)
    with torch.inference_mode():
        made, wanted = layer(x), torch.nn.functional.linear(x, expected, layer.bias.float())
    assert torch.allclose(made, wanted, atol=0.01 * wanted.abs().max())
    (network,) = pack.nodes.host.load(model.patcher)
    assert torch.equal(dict(network.named_parameters())[f"{TO_Q}.weight"], before)


def test_a_damaged_lora_is_refused_before_anything_runs(run, loaded, shelf, folders):  # noqa: F811
    model, names = loaded()["model"], shelf("2.3")
    tensors = pair(TO_Q, *shape_of(folders, names, TO_Q))
    tensors[f"diffusion_model.{TO_Q}.lora_A.weight"][0, 0] = torch.nan
    file = lora(folders, "nan.safetensors", tensors)
    with pytest.raises(ValueError, match="not finite in diffusion_model"):
        run("ApplyLora", model=model, lora=file, strength=1.0)
    with pytest.raises(ValueError, match="not finite in diffusion_model"):
        run("LoadCheckpoint", checkpoint=names["transformer"], distilled_lora=file)
