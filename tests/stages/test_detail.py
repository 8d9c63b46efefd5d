"""A second stage that looks at the first one's result, as detailing LoRAs expect."""

from dataclasses import replace

import pytest
import torch

from ltx2.checkpoint.lora import Reference, read_lora
from ltx2.checkpoint.stage_loras import StageLora
from ltx2.errors import RequestError
from ltx2.stages import steps
from ltx2.stages.pipeline import generate, make_job, second_pass
from ltx2.stages.request import Request

SMALL = Request(prompt="A lake.", width=64, height=64, frames=9, preset="ltx2_5_detail")
QUICK = {"denoise": {"num_inference_steps": 1}, "refine": {"num_inference_steps": 2}}


@pytest.fixture
def known(models, tiny):
    """``known(downscale)``: models of 2.3 with an IC-LoRA at stage 2; 0: without one."""

    def made(downscale):
        plain = replace(models("2.3"), distilled_lora=None)
        if not downscale:
            return plain
        lora = replace(read_lora(tiny("2.3")["distilled_lora"]), reference=Reference(downscale))
        return replace(plain, stage_loras=(StageLora(lora, 1.0, 2),), reference_loras=(lora,))

    return made


def test_the_first_stage_is_shown_to_the_second(known, monkeypatch):
    made, really = [], steps.denoise

    def denoise(*args, conditioning, **more):
        result = really(*args, conditioning=conditioning, **more)
        made.append((conditioning, result))
        return result

    monkeypatch.setattr(steps, "denoise", denoise)
    shown = generate(known(2), replace(SMALL, overrides=QUICK))
    without = generate(known(2), replace(SMALL, overrides={**QUICK, "refine": {**QUICK["refine"], "detail": False}}))
    (first, half), (second, _), _, (plain, _) = made
    assert not first.references and not plain.references
    (reference,) = second.references
    assert torch.equal(reference.latent, half.video) and (reference.downscale, reference.temporal) == (2, 1)
    assert reference.strength == 1 and (reference.weights == 1).all()
    # the second stage's tokens take those of the first as well, and none of them is left
    assert shown.latent.video.shape == without.latent.video.shape
    assert not torch.equal(shown.latent.video, without.latent.video)
    # the sound that is heard is the first stage's in either case
    assert torch.equal(shown.latent.audio, half.audio) and torch.equal(shown.latent.audio, without.latent.audio)


def test_what_it_needs_is_said_first(known, models):
    job = make_job(known(2), SMALL)
    assert job.stages[1].detail and not job.stages[0].detail and job.stages[1].tokens == 8 + 2
    assert not any("detailing LoRA" in note for note in job.notes)
    assert any("no detailing LoRA is loaded" in note for note in make_job(known(0), SMALL).notes)
    with pytest.raises(
        RequestError, match="divided by 4, refine.detail shows it the first stage at the size divided by 2"
    ):
        make_job(known(4), SMALL)
    one_stage = replace(SMALL, preset="ltx2_distilled", overrides={"refine": {"detail": True}})
    assert any("there is no second stage" in note for note in make_job(known(0), one_stage).notes)
    with pytest.raises(RequestError, match="which are not here"):
        second_pass(known(0), job, None, None, conditioning=object())
    with pytest.raises(RequestError, match="size is 96x64, expected multiples of 64 for two stages: use 128x64"):
        make_job(known(2), replace(SMALL, width=96))
    assert make_job(known(2), replace(SMALL, width=96, snap=True)).geometry.width == 128
