import pytest
import torch

from ltx2.sampling import noise, schedules
from ltx2.sampling.samplers import SAMPLERS
from ltx2.sampling.tokens import AVTokens
from tests.golden import DATA, LIMIT
from tests.golden.sampling import differences

SIGMAS = schedules.distilled_sigmas(5)
TARGET = AVTokens(torch.randn(2, 6, 8), torch.randn(2, 4, 8))


def start():
    sources = noise.generators(3, 2)
    return noise.draw_tokens(6, 4, sources, dtype=torch.float32, device="cpu", channels=8)


def run(sampler, denoise, x=None, restore=lambda x0: x0, after_step=None, seed=1):
    batch = 2
    extra = {}
    if sampler is SAMPLERS["euler_ancestral"].run:
        extra = {"generators": noise.generators(seed, batch)}
    if sampler is SAMPLERS["res_2s"].run:
        extra = {
            "step_generators": noise.generators(seed, batch),
            "substep_generators": noise.generators(seed + 100, batch),
        }
    return sampler(denoise, start() if x is None else x, SIGMAS, restore=restore, after_step=after_step, **extra)


ALL = [
    SAMPLERS["euler"].run,
    SAMPLERS["gradient_estimation"].run,
    SAMPLERS["euler_ancestral"].run,
    SAMPLERS["res_2s"].run,
]


@pytest.mark.parametrize("path", sorted((DATA / "sampling").iterdir()), ids=lambda p: p.stem)
def test_golden(path):
    for name, difference in differences(path):
        assert difference <= (LIMIT if path.suffix == ".json" else 0), name


@pytest.mark.parametrize("sampler", ALL)
def test_a_perfect_prediction_is_reached(sampler):
    result = run(sampler, lambda x, sigma, step: TARGET)
    for stream in ("video", "audio"):
        assert torch.allclose(getattr(result, stream), getattr(TARGET, stream), atol=1e-5)


@pytest.mark.parametrize("sampler", ALL)
def test_one_stream_alone_and_input_untouched(sampler):
    x = AVTokens(start().video, None)
    before = x.video.clone()
    result = run(sampler, lambda x, sigma, step: x.map(torch.tanh), x)
    assert result.audio is None and result.video.shape == before.shape
    assert torch.equal(x.video, before)


@pytest.mark.parametrize("sampler", ALL)
def test_reports_every_step_with_a_preview(sampler):
    seen = []
    run(sampler, lambda x, sigma, step: TARGET, after_step=lambda step, x0: seen.append((step, x0.video.shape)))
    assert seen == [(step, TARGET.video.shape) for step in range(len(SIGMAS) - 1)]


@pytest.mark.parametrize("sampler", ALL)
def test_raising_from_the_report_stops_at_once(sampler):
    calls = []

    def interrupt(step, x0):
        raise KeyboardInterrupt

    def denoise(x, sigma, step):
        calls.append(sigma)
        return TARGET

    with pytest.raises(KeyboardInterrupt):
        run(sampler, denoise, after_step=interrupt)
    assert len(calls) == (2 if sampler is SAMPLERS["res_2s"].run else 1)


@pytest.mark.parametrize("sampler", [SAMPLERS["euler_ancestral"].run, SAMPLERS["res_2s"].run])
def test_samples_of_a_batch_do_not_depend_on_each_other(sampler):
    def toy(x, sigma, step):
        return x.map(lambda t: t.tanh() * 0.6)

    both = run(sampler, toy, seed=5)
    x = start().map(lambda t: t[1:])
    if sampler is SAMPLERS["euler_ancestral"].run:
        alone = sampler(toy, x, SIGMAS, restore=lambda x0: x0, generators=noise.generators(6, 1))
    else:
        sources = {"step_generators": noise.generators(6, 1), "substep_generators": noise.generators(106, 1)}
        alone = sampler(toy, x, SIGMAS, restore=lambda x0: x0, **sources)
    assert torch.equal(both.video[1:], alone.video) and torch.equal(both.audio[1:], alone.audio)


@pytest.mark.parametrize("sampler", ALL)
def test_a_schedule_that_stops_early_leaves_noise(sampler):
    sigmas = SIGMAS[:3]
    extra = {}
    if sampler is SAMPLERS["euler_ancestral"].run:
        extra = {"generators": noise.generators(0, 2)}
    if sampler is SAMPLERS["res_2s"].run:
        extra = {"step_generators": noise.generators(0, 2), "substep_generators": noise.generators(1, 2)}
    result = sampler(lambda x, sigma, step: TARGET, start(), sigmas, restore=lambda x0: x0, **extra)
    assert torch.isfinite(result.video).all()
    assert (result.video - TARGET.video).std() > 0.3
