"""LoRAs of one stage: applied exactly there, told, and no trace of them in the other."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ltx2.checkpoint.lora import merge_loras, read_lora
from ltx2.checkpoint.stage_loras import STRENGTH_LIMIT, LoraChoice, StageLora, lora_choice, lora_text, read_stage_lora
from ltx2.errors import CheckpointError, RequestError
from ltx2.stages import steps
from ltx2.stages.models import load_models
from ltx2.stages.pipeline import encode_texts, first_pass, inputs_of, make_job, second_pass
from ltx2.stages.request import Request
from tests.stages.conftest import FAST

REQUEST = Request(
    prompt="A lake.", preset="ltx2_fast", width=64, height=64, frames=9, seed=3,
    overrides={"denoise": {"num_inference_steps": 1}, "refine": {"num_inference_steps": 2}},
)  # fmt: skip


@pytest.fixture(scope="module")
def both(models, tiny):
    """Runs both stages with LoRAs: their latents. ``merged``: into the model itself, as a LoRA of both stages is."""
    plain, path = replace(models("2.3"), distilled_lora=None), tiny("2.3")["distilled_lora"]
    positive = encode_texts(plain, ["A lake."])[0]
    lora = read_lora(path)

    def run(*strengths, merged=None):
        networks = replace(plain, stage_loras=tuple(StageLora(lora, s, stage) for s, stage in strengths))
        if merged is not None:
            networks = replace(networks, transformer=merge_loras(plain.transformer, [(lora, merged)]))
        job = make_job(networks, replace(REQUEST, positive=positive))
        inputs = inputs_of(networks, job, positive, None)
        first = first_pass(networks, job, inputs)
        larger = steps.upsample_latent(networks, first)
        return (first, second_pass(networks, job, inputs, larger)), job.notes

    return run


def same(one, other):
    return torch.equal(one.video, other.video) and torch.equal(one.audio, other.audio)


def test_a_stage_without_the_lora_is_as_without_any_and_one_with_it_as_with_it_in_both(both):
    without, all_of_it = both()[0], both(merged=0.5)[0]
    (first, second), notes = both((0.5, 1))
    assert same(first, all_of_it[0]) and not same(first, without[0])
    assert any(
        note.endswith("distilled-lora-384.safetensors: strength 0.5 in stage 1 and 0 in stage 2") for note in notes
    )
    (first, second), notes = both((0.5, 2))
    assert same(first, without[0]) and not same(second, without[1])
    (first, second), notes = both((0.5, 1), (0.5, 2))
    assert same(first, all_of_it[0]) and same(second, all_of_it[1])
    assert same(both((0.0, 1), (0.0, 2))[0][1], without[1])


def test_where_its_stage_is_not_run_is_told(models, tiny):
    lora = read_lora(tiny("2.3")["distilled_lora"])
    given = replace(models("2.3"), stage_loras=(StageLora(lora, 1.0, 1), StageLora(lora, -0.5, 2)))
    one = Request(prompt="A lake.", preset="ltx2_3_distilled", width=64, height=64, frames=9)
    told = make_job(given, one).notes
    assert any(note.endswith("distilled-lora-384.safetensors: strength 1 in the one stage") for note in told)
    assert any("no effect at stage 2: preset ltx2_3_distilled has no second stage" in note for note in told)
    draft = make_job(given, replace(REQUEST, draft=True)).notes
    assert any("has no effect at stage 2: a draft has no second stage" in note for note in draft)


def test_files_with_a_stage_are_read_checked_and_their_part_for_prompts_is_told(tiny, tmp_path):
    files = tiny("2.3")
    found = load_models(files["transformer"], loras=[LoraChoice(files["distilled_lora"], 0.5, 2)], config=FAST)
    assert [(one.strength, one.stage) for one in found.stage_loras] == [(0.5, 2)] and not found.loras
    plain = load_models(files["transformer"], config=FAST).transformer
    assert all(torch.equal(a, b) for a, b in zip(found.transformer.parameters(), plain.parameters()))
    pair = {"blocks.0.lora_A.weight": torch.zeros(2, 3), "blocks.0.lora_B.weight": torch.zeros(3, 2)}
    save_file(pair, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="fits none"):
        load_models(files["transformer"], loras=[LoraChoice(tmp_path / "other.safetensors", 1.0, 1)], config=FAST)
    tensors = load_file(files["distilled_lora"])
    name = next(name for name in tensors if name.endswith("lora_A.weight"))
    save_file({**tensors, name: tensors[name] * torch.nan}, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match="not finite|NaN"):
        read_stage_lora(LoraChoice(tmp_path / "broken.safetensors", 1.0, 1), plain)
    connector = "audio_embeddings_connector.transformer_1d_blocks.0.attn1.to_k"
    save_file(
        {**tensors, f"{connector}.lora_A.weight": torch.ones(1, 8), f"{connector}.lora_B.weight": torch.ones(8, 1)},
        tmp_path / "texts.safetensors",
    )
    told = load_models(files["transformer"], loras=[LoraChoice(tmp_path / "texts.safetensors", 1.0, 1)], config=FAST)
    assert any("1 of its weights act where prompts are read, once for both stages" in note for note in told.notes)


@settings(deadline=None, max_examples=100)
@given(
    st.text("abc:@._- 0", min_size=1, max_size=12).map(lambda name: f"/nowhere/{name}x"),
    st.floats(-10, 10),
    st.sampled_from([None, 1, 2]),
)
def test_what_is_written_is_read(path, strength, stage):
    choice = LoraChoice(path, strength, stage)
    assert lora_choice(lora_text(choice)) == choice


@pytest.mark.parametrize(
    "text, found",
    [
        ("x.safetensors", ("x.safetensors", 1.0, None)),
        (r"C:\x.safetensors:-0.5", (r"C:\x.safetensors", -0.5, None)),
        ("x.safetensors@2", ("x.safetensors", 1.0, 2)),
        ("x.safetensors:.5@1", ("x.safetensors", 0.5, 1)),
        ("x.safetensors@1:0.5", ("x.safetensors", 0.5, 1)),
        ("a@b:c.safetensors:2", ("a@b:c.safetensors", 2.0, None)),
    ],
)
def test_how_a_lora_is_written(text, found):
    assert lora_choice(text) == LoraChoice(*found)


def test_a_stage_that_there_is_not_is_refused():
    with pytest.raises(RequestError, match="the LoRA x is for stage 3, expected 1 or 2, or none for both"):
        lora_choice("x:1@3")


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.floats().filter(lambda x: not abs(x) <= STRENGTH_LIMIT), st.just(-1e400)))
def test_a_strength_beyond_any_use_is_refused_however_it_is_given(strength):
    with pytest.raises(RequestError, match="expected a number from -100 to 100"):
        LoraChoice("x.safetensors", strength)


@pytest.mark.parametrize("behind", [":nan", ":inf", ":-inf", ":abc", ":", ":1,0", ":0x10", "@x", "@", ":1:2", "@1@2"])
def test_what_is_written_behind_a_file_that_is_there_is_not_taken_for_a_part_of_its_name(tmp_path, behind):
    file = tmp_path / "a b:1@2.safetensors"
    file.write_bytes(b"x")
    with pytest.raises(RequestError, match=f"{file.name} is followed by .*, expected a strength such as :0.8"):
        lora_choice(f"{file}{behind}")
    assert lora_choice(str(file)).path == str(file) and lora_choice(f"{file}:0.5@2").strength == 0.5


def test_one_file_given_twice_is_told_with_what_it_comes_to(tiny, tmp_path):
    files = tiny("2.3")
    (tmp_path / "link.safetensors").symlink_to(files["distilled_lora"])
    given = [(files["distilled_lora"], 0.5), (tmp_path / "link.safetensors", 0.25)]
    told = load_models(files["transformer"], loras=given, config=FAST).notes
    assert any("distilled-lora-384.safetensors was given 2 times, which together is strength 0.75" in n for n in told)
    assert not any("given" in note for note in load_models(files["transformer"], loras=given[:1], config=FAST).notes)
