"""What of an adapter acts in which network, what is told, and what is refused before anything runs."""

import itertools
import json
import random

import pytest
import torch
from safetensors import safe_open

from ltx2.checkpoint import models
from ltx2.checkpoint.layout import find_component
from ltx2.checkpoint.lora import Scaled, check_lora, match_lora, merged, read_lora
from ltx2.checkpoint.lora_report import report_lora
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError, Ltx2Error, RequestError
from ltx2.stages.models import PipelineConfig, load_models
from ltx2.text.gemma import load_text_encoder

from .files import save

TO_Q = "transformer_blocks.0.attn1.to_q"
FAST = PipelineConfig(
    **dict.fromkeys(("transformer", "text_encoder", "video_vae", "upsampler", "latents"), torch.float32)
)


def pair(module, shape, prefix="diffusion_model."):
    g = torch.Generator().manual_seed(len(module))
    out, into = shape
    return {
        f"{prefix}{module}.lora_A.weight": torch.randn(2, into, generator=g),
        f"{prefix}{module}.lora_B.weight": torch.randn(out, 2, generator=g),
    }


# One module of each network that a LoRA may change: where it is, and how a file may call it.
MODULES = {
    "transformer": (TO_Q, f"diffusion_model.{TO_Q}"),
    "video_connector": (
        "transformer_1d_blocks.0.attn1.to_q",
        "connectors.video_connector.transformer_blocks.0.attn1.to_q",
    ),
    "audio_connector": (
        "transformer_1d_blocks.0.ff.net.2",
        "diffusion_model.audio_embeddings_connector.transformer_1d_blocks.0.ff.net.2",
    ),
    "text_projection": ("video_aggregate_embed", "text_embedding_projection.video_aggregate_embed"),
    "text_encoder": ("layers.1.mlp.up_proj", "text_encoder.model.layers.1.mlp.up_proj"),
}


def networks_of(loaded):
    video, audio = loaded.connectors
    return {
        "transformer": loaded.transformer,
        "video_connector": video,
        "audio_connector": audio,
        "text_projection": loaded.text_projection,
        "text_encoder": loaded.text_encoder.model,
    }


def files_of(tiny, version):
    files = tiny(version)
    names = ["transformer"] if version != "2.5" else ["transformer", "video_vae", "audio_vae"]
    return {"checkpoints": [files[name] for name in names], "text_encoder": files["text_encoder"]}


def without_codecs(path, folder):
    """A copy of a checkpoint without the networks that no LoRA may change: they take longest to load."""
    with safe_open(path, "pt") as file:
        kept = [name for name in file.keys() if not name.startswith(("vae.", "audio_vae.", "vocoder."))]
        return save(folder / path.name, {name: file.get_tensor(name) for name in kept}, file.metadata())


def every_network(tiny, tmp_path, version, more=()):
    where = files_of(tiny, version)
    opened = open_checkpoint(*where["checkpoints"], where["text_encoder"])
    tensors = dict(more)
    for network, (module, spelled) in MODULES.items():
        shape = find_component(opened, network).shapes[f"{module}.weight"]
        tensors |= pair(spelled, shape, "")
    return save(tmp_path / "lora.safetensors", tensors)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.3", "2.5"])
@pytest.mark.parametrize("quantized", ["dequantize", "on_use"])
def test_every_network_gets_its_part(tiny, tmp_path, version, quantized):
    path = every_network(tiny, tmp_path, version)
    files, config = tiny(version), PipelineConfig(**{**vars(FAST), "quantized": quantized})
    where = {"checkpoints": [without_codecs(files["transformer"], tmp_path)], "text_encoder": files["text_encoder"]}
    plain, changed = (load_models(**where, loras=loras, config=config) for loras in ((), [(path, 0.5)]))
    lora = read_lora(path)
    for (network, before), after in zip(networks_of(plain).items(), networks_of(changed).values()):
        name = f"{MODULES[network][0]}.weight"
        old, new = dict(before.named_parameters()), dict(after.named_parameters())
        differs = [one for one in old if not torch.equal(old[one], new[one])]
        assert differs == [name], (network, differs)
    (report, strength), *others = changed.loras
    assert not others and strength == 0.5 and report.fitted == dict.fromkeys(MODULES, 1) and report.for_text == 4
    assert str(report) == "5 of 5 LoRA weights fit the model" and not changed.notes
    # prompts encoded without it are not taken for those encoded with it
    assert plain.context_identity != changed.context_identity
    assert plain.text_encoder.identity != changed.text_encoder.identity
    alone, weaker = (
        load_text_encoder(where["text_encoder"], dtype=torch.float32, loras=[(lora, strength)], quantized=quantized)
        for strength in (0.5, 0.25)
    )
    assert alone.identity == changed.text_encoder.identity != weaker.identity
    name = f"{MODULES['text_encoder'][0]}.weight"
    assert torch.equal(alone.model.get_parameter(name), changed.text_encoder.model.get_parameter(name))


def test_what_does_not_fit_is_told_and_the_rest_acts(tiny, tmp_path):
    more = pair("transformer_blocks.99.attn1.to_q", (64, 64)) | pair("new_part.0.to_q", (64, 64))
    more |= pair("text_encoders.gemma3_12b.transformer.model.layers.0.self_attn.q_proj", (7, 9))  # another encoder's
    path = every_network(tiny, tmp_path, "2.3", more)
    loaded = load_models(**files_of(tiny, "2.3"), loras=[(path, 1.0)], config=FAST)
    (note,) = loaded.notes
    assert note.startswith("LoRA lora.safetensors: 5 of 8 LoRA weights fit the model; not in the model: ")
    assert "transformer_blocks.99.attn1.to_q" in note and "text_encoder.layers.0.self_attn.q_proj" in note
    transformer = find_component(open_checkpoint(*files_of(tiny, "2.3")["checkpoints"]), "transformer")
    report = report_lora(read_lora(path), {"transformer": transformer.shapes})
    assert report.elsewhere == {
        "text_encoder": 2, "video_connector": 1, "audio_connector": 1, "text_projection": 1
    }  # fmt: skip
    assert str(report).startswith("1 of 8 LoRA weights fit the model; ") and "2 are for the text encoder" in str(report)


@pytest.mark.parametrize(
    "name, metadata, factors",
    [
        ("lora", {"reference_downscale_factor": "2"}, (2, 1)),
        ("lora", {"x.reference_downscale_factor": "1.9", "reference_temporal_scale_factor": "4"}, (2, 4)),
        ("ltx-2.3-IC-LoRA-depth", {}, (1, 1)),
        ("ltx2_ic_lora_pose", {}, (1, 1)),
        ("lora", {"reference": "2"}, None),
        ("plastic-lora", {}, None),
    ],
)
def test_ic_loras_are_told(tiny, tmp_path, name, metadata, factors):
    path = save(tmp_path / f"{name}.safetensors", pair(TO_Q, (64, 64)), metadata)
    lora = read_lora(path)
    assert (lora.reference and (lora.reference.downscale, lora.reference.temporal)) == factors
    notes = report_lora(lora, {"transformer": {f"{TO_Q}.weight": (64, 64)}}).notes()
    assert any("is an IC-LoRA" in note for note in notes) == (factors is not None)
    assert not report_lora(lora, {"transformer": {f"{TO_Q}.weight": (64, 64)}}).notes(with_reference=True)


@pytest.mark.parametrize("text", ["0", "nan", "two", "-1", "1e400", "65"])
def test_factors_that_are_none_are_noted(tmp_path, text):
    metadata = {"reference_downscale_factor": text}
    lora = read_lora(save(tmp_path / "a.safetensors", pair(TO_Q, (64, 64)), metadata))
    assert lora.reference is None and "is no factor" in lora.notes[0]


def test_a_refinement_lora_is_checked_at_load(tiny, tmp_path):
    checkpoint = without_codecs(tiny("2.3")["transformer"], tmp_path)
    wrong = save(tmp_path / "wrong.safetensors", pair("unet.x", (8, 8)))
    damaged = pair(TO_Q, (64, 64))
    damaged[f"diffusion_model.{TO_Q}.lora_B.weight"][3, 1] = torch.inf
    for path, said in ((wrong, "fits none"), (save(tmp_path / "nan.safetensors", damaged), "not finite")):
        with pytest.raises(CheckpointError, match=said):
            load_models(checkpoint, distilled_lora=path, config=FAST)


DTYPES = "bfloat16", "bf16", torch.int8, torch.uint8, torch.bool, 16, torch.float32.__class__


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_no_dtype_is_said(tiny, dtype):
    checkpoint = open_checkpoint(tiny("2.3")["transformer"])
    loaders = (models.load_transformer, models.load_connectors, models.load_video_encoder, models.load_vocoder)
    for load in loaders:
        with pytest.raises(RequestError, match="expected a floating-point torch.dtype"):
            load(checkpoint, dtype=dtype)
    with pytest.raises(RequestError, match="transformer is .*, expected a floating-point torch.dtype"):
        PipelineConfig(transformer=dtype)


def test_what_is_no_device_is_said(tiny):
    checkpoint = open_checkpoint(tiny("2.3")["transformer"])
    for device in ("cuda:x", "nowhere", 2.5, ""):
        with pytest.raises(RequestError, match="expected one such as 'cpu'"):
            models.load_vocoder(checkpoint, device=device)


# --- damaged files


def mutations(data: bytes, number: int):
    """Copies of a file with bytes of its header changed."""
    size = 8 + int.from_bytes(data[:8], "little")
    chance = random.Random(0)
    words = (b"lora_A", b"lora_B", b"alpha", b"hada_w1_a", b"lokr_w1", b"oft_blocks", b"dora_scale", b"F32", b"F16",
             b"I32", b"F8_E4M3", b"diff", b"[0]", b"9e9", b'"', b"weight", b".")  # fmt: skip
    for _ in range(number):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(8, size)
            word = chance.choice(words) if chance.random() < 0.6 else bytes([chance.randrange(256)])
            changed[at : at + len(word)] = word
        yield bytes(changed)


def sound_files():
    g = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=g)

    kinds = [
        {"lora_A.weight": noise(2, 8), "lora_B.weight": noise(8, 2), "alpha": torch.tensor(2.0)},
        {"hada_w1_a": noise(8, 2), "hada_w1_b": noise(2, 8), "hada_w2_a": noise(8, 2), "hada_w2_b": noise(2, 8)},
        {"lokr_w1": noise(2, 2), "lokr_w2_a": noise(4, 2), "lokr_w2_b": noise(2, 4), "alpha": torch.tensor(1.0)},
        {"oft_blocks": noise(2, 4, 4), "rescale": torch.ones(8, 1)},
        {"lora_up.weight": noise(8, 2), "lora_down.weight": noise(2, 8), "dora_scale": torch.ones(8, 1)},
        {"diff": noise(8, 8), "diff_b": noise(8)},
    ]
    for parts in kinds:
        yield {f"diffusion_model.{TO_Q}.{part}": tensor for part, tensor in parts.items()}


def test_damaged_adapters_never_give_another_error(tmp_path):
    """Whatever is in them: one sentence on one line, or an adapter that can be applied."""
    path, applied = tmp_path / "b.safetensors", 0
    shapes = {f"{TO_Q}.weight": (8, 8), f"{TO_Q}.bias": (8,)}
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 4})}
    for tensors in sound_files():
        sound = save(tmp_path / "a.safetensors", tensors, metadata).read_bytes()
        for data in itertools.chain([sound], mutations(sound, 150)):
            path.write_bytes(data)
            try:
                lora = read_lora(path)
                check_lora(lora)
                for name, difference in match_lora(lora, shapes).matched.items():
                    merged(torch.ones(shapes[name]), [Scaled(difference, 0.5)])
                    applied += 1
            except Ltx2Error as error:
                text = str(error)
                assert isinstance(error, CheckpointError) and "\n" not in text and not text.endswith("."), text
                assert len(text) < 400 + len(str(tmp_path)), text
    assert applied > 6
