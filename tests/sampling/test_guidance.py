import json

import pytest
import torch

from ltx2.sampling.guidance import Guidance, StreamGuidance, at_sigma, combine, needs_negative, passes, skips
from tests.golden import DATA

GOLDEN = json.loads((DATA / "pipeline/guidance.json").read_text("utf-8"))
PREDICTIONS = {
    name: torch.tensor(GOLDEN[key]).view(GOLDEN["shape"])
    for name, key in {"positive": "pos", "negative": "neg", "isolated": "mod", "perturbed": "ptb"}.items()
}


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_combination_matches_the_reference(case):
    settings = StreamGuidance(cfg=case["cfg"], modality=case["modality"], stg=case["stg"], rescale=case["rescale"])
    assert combine(PREDICTIONS, settings).flatten().tolist() == pytest.approx(case["out"], abs=GOLDEN["tolerance"])


def test_a_missing_pass_counts_as_the_positive_one():
    settings = StreamGuidance(cfg=3, modality=3, stg=1)
    positive = PREDICTIONS["positive"]
    assert combine({"positive": positive}, settings) is positive


def test_rescale_treats_each_sample_by_itself():
    settings = StreamGuidance(cfg=4, rescale=0.7)
    loud = {name: torch.cat([x, 100 * x]) for name, x in PREDICTIONS.items()}
    assert torch.allclose(combine(loud, settings)[:1], combine(PREDICTIONS, settings))


def test_each_pass_runs_only_when_asked_for():
    stg = StreamGuidance(stg=1.0, stg_blocks=(28,))
    assert passes(Guidance()) == ("positive",)
    assert passes(Guidance(video=StreamGuidance(cfg=3))) == ("positive", "negative")
    assert passes(Guidance(audio=stg)) == ("positive", "perturbed")
    assert passes(Guidance(audio=stg), audio=False) == ("positive",)
    assert passes(Guidance(video=StreamGuidance(stg=1.0))) == ("positive",)
    assert passes(Guidance(audio=StreamGuidance(modality=3))) == ("positive", "isolated")
    assert passes(Guidance(video=StreamGuidance(modality=3)), audio=False) == ("positive",)
    everything = StreamGuidance(cfg=3, modality=3, stg=1, stg_blocks=(28,))
    assert passes(Guidance(everything, everything)) == ("positive", "negative", "perturbed", "isolated")


def test_a_negative_prompt_is_read_by_a_pass_or_within_the_attention():
    cfg, nag, off = StreamGuidance(cfg=3), StreamGuidance(nag_scale=11), StreamGuidance(nag_scale=11, nag_alpha=0)
    for one in (cfg, nag):
        assert needs_negative(Guidance(video=one)) and needs_negative(Guidance(audio=one))
        assert not needs_negative(Guidance(video=one), video=False)
        assert not needs_negative(Guidance(audio=one), audio=False)
    assert not needs_negative(Guidance()) and not needs_negative(Guidance(off, off))


def test_guidance_by_noise_level():
    high, low = Guidance(StreamGuidance(cfg=5)), Guidance(StreamGuidance(cfg=2))
    binned = {0.9: high, 0.4: low}
    assert at_sigma(binned, 1.0) is high  # above every key: the largest
    assert at_sigma(binned, 0.9) is high
    assert at_sigma(binned, 0.5) is high
    assert at_sigma(binned, 0.4) is low
    assert at_sigma(binned, 0.01) is low
    assert at_sigma(high, 0.3) is high


def test_skipped_steps():
    assert [skips(StreamGuidance(skip_step=2), step) for step in range(5)] == [False, True, True, False, True]
    assert not any(skips(StreamGuidance(), step) for step in range(5))
