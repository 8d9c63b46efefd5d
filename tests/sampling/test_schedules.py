import itertools
import json

import pytest
import torch

from ltx2.errors import RequestError
from ltx2.sampling import schedules
from tests.golden import DATA

PIPELINE = json.loads((DATA / "pipeline/schedules.json").read_text("utf-8"))


@pytest.mark.parametrize("steps", range(1, 9))
def test_distilled_subset(steps):
    expected = PIPELINE["distilled_subset"][str(steps)]
    assert list(schedules.distilled_subset(steps)) == expected["indices"]
    assert torch.equal(schedules.distilled_sigmas(steps), torch.tensor(expected["sigmas"]))


@pytest.mark.parametrize("steps", [0, 9, -1])
def test_distilled_runs_one_to_eight_steps(steps):
    with pytest.raises(RequestError, match="expected 1 to 8"):
        schedules.distilled_sigmas(steps)


def test_refine_runs_two_or_three_steps():
    for steps in (2, 3):
        assert torch.equal(schedules.refine_sigmas(steps), torch.tensor(PIPELINE["refine"][str(steps)]))
    with pytest.raises(RequestError, match="2 or 3"):
        schedules.refine_sigmas(4)


@pytest.mark.parametrize("steps", [1, 2, 9, 15, 30, 40, 100])
@pytest.mark.parametrize("tokens", [384, 4096, 8160])
def test_dev_schedule_runs_from_one_through_a_tenth_to_zero(steps, tokens):
    sigmas = schedules.dev_sigmas(steps, tokens=tokens)
    assert len(sigmas) == steps + 1 and sigmas[0] == 1 and sigmas[-1] == 0
    assert all(a > b for a, b in itertools.pairwise(sigmas.tolist()))
    if steps > 1:
        assert sigmas[-2] == pytest.approx(0.1)
    assert torch.equal(schedules.check_sigmas(sigmas, to_zero=True), sigmas)


def test_dev_schedule_matches_the_reference():
    for steps, expected in PIPELINE["base"].items():
        assert schedules.dev_sigmas(int(steps)).tolist() == pytest.approx(expected, abs=PIPELINE["base_tolerance"])


def test_without_stretch_the_shift_alone_is_left():
    sigmas = schedules.dev_sigmas(4, terminal=None)
    weight = torch.tensor(2.05).exp()
    for i, sigma in enumerate(sigmas[:-1]):
        even = 1 - i / 4
        assert sigma == pytest.approx(float(weight / (weight + 1 / even - 1)), abs=1e-6)


@pytest.mark.parametrize(
    "sigmas, sentence",
    [
        ([1.0, 0.5, 0.5, 0.0], "value 3 is 0.5 after 0.5"),
        ([0.5, 1.0, 0.0], "does not descend"),
        ([1.0], "two or more"),
        ([2.0, 0.0], "between 1 and 0"),
        ([1.0, 0.5, -0.5], "between 1 and 0"),
        (["a"], "expected numbers"),
        ([1.0, float("nan"), 0.0], "does not descend"),
    ],
)
def test_bad_sigma_lists_are_told(sigmas, sentence):
    with pytest.raises(RequestError, match=sentence):
        schedules.check_sigmas(sigmas)


def test_a_list_that_stops_early_is_refused_only_where_it_matters():
    assert len(schedules.check_sigmas([1.0, 0.4])) == 2
    with pytest.raises(RequestError, match="expected 0"):
        schedules.check_sigmas([1.0, 0.4], to_zero=True)
