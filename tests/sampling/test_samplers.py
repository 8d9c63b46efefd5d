import pytest
import torch

from ltx2.sampling import noise, schedules
from ltx2.sampling.samplers import SAMPLERS
from ltx2.sampling.samplers.euler_ancestral_cfg_pp import _ancestral
from ltx2.sampling.tokens import AVTokens
from tests.golden import DATA, LIMIT
from tests.golden.sampling import differences

SIGMAS = schedules.distilled_sigmas(5)
TARGET = AVTokens(torch.randn(2, 6, 8), torch.randn(2, 4, 8))


def start():
    sources = noise.generators(3, 2)
    return noise.draw_tokens(6, 4, sources, dtype=torch.float32, device="cpu", channels=8)


def run(sampler, denoise, x=None, restore=lambda x0: x0, after_step=None, seeds=(1, 2), sigmas=SIGMAS, **extra):
    """One sampler of the registry, with the noise sources that it asks for; the negative prompt predicts the same."""
    last = []

    def remembered(x, sigma, step):
        last[:] = [denoise(x, sigma, step)]
        return last[0]

    if sampler.uses_negative:
        extra.setdefault("negative", lambda: last[0])
    x = start() if x is None else x
    given = sampler.sources(seeds, "cpu") | extra
    return sampler.run(remembered, x, sigmas, restore=restore, after_step=after_step, **given)


ALL = [pytest.param(sampler, id=name) for name, sampler in SAMPLERS.items()]
NOISY = [pytest.param(sampler, id=name) for name, sampler in SAMPLERS.items() if sampler.noise]


def test_each_file_of_the_folder_is_a_sampler():
    names = ["euler", "euler_ancestral", "res_2s", "gradient_estimation", "euler_cfg_pp", "euler_ancestral_cfg_pp"]
    assert list(SAMPLERS) == names


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
    assert len(calls) == (2 if sampler.name == "res_2s" else 1)


@pytest.mark.parametrize("sampler", NOISY)
def test_clips_of_a_batch_do_not_depend_on_each_other(sampler):
    def toy(x, sigma, step):
        return x.map(lambda t: t.tanh() * 0.6)

    both = run(sampler, toy, seeds=(5, 6))
    alone = run(sampler, toy, start().map(lambda t: t[1:]), seeds=(6,))
    assert torch.equal(both.video[1:], alone.video) and torch.equal(both.audio[1:], alone.audio)


@pytest.mark.parametrize("sampler", ALL)
def test_a_schedule_that_stops_early_leaves_noise(sampler):
    result = run(sampler, lambda x, sigma, step: TARGET, sigmas=SIGMAS[:3])
    assert torch.isfinite(result.video).all()
    assert (result.video - TARGET.video).std() > 0.3


def test_cfg_pp_without_a_negative_pass_is_euler():
    def toy(x, sigma, step):
        return x.map(lambda t: t.tanh() * 0.6)

    plain, other = (run(SAMPLERS[name], toy) for name in ("euler", "euler_cfg_pp"))
    assert torch.allclose(plain.video, other.video, atol=1e-5) and torch.allclose(plain.audio, other.audio, atol=1e-5)


def test_cfg_pp_takes_its_noise_from_the_negative_prompt():
    """By hand, in double precision: x' = (1 − σ')·x0 + σ'·(x − (1 − σ)·negative)/σ."""
    negative = TARGET.map(lambda t: -t)
    found = run(SAMPLERS["euler_cfg_pp"], lambda *_: TARGET, sigmas=SIGMAS[:3], negative=lambda: negative)
    x = start().video.double()
    for sigma, to in zip(SIGMAS[:2].double(), SIGMAS[1:3].double()):
        x = (1 - to) * TARGET.video.double() + to * (x - (1 - sigma) * negative.video.double()) / sigma
    assert torch.allclose(found.video.double(), x, atol=1e-5)


def test_ancestral_cfg_pp_without_fresh_noise_is_cfg_pp():
    def toy(x, sigma, step):
        return x.map(lambda t: t.tanh() * 0.6)

    plain = run(SAMPLERS["euler_cfg_pp"], toy)
    other = run(SAMPLERS["euler_ancestral_cfg_pp"], toy, eta=0.0)
    assert torch.allclose(plain.video, other.video, atol=1e-5)


@pytest.mark.parametrize("sigma, to, eta", [(0.8, 0.5, 0.7), (0.5, 0.4, 1.0), (0.3, 0.1, 0.2), (1.0, 0.6, 0.5)])
def test_an_ancestral_step_of_cfg_pp_renews_its_share_of_the_noise(sigma, to, eta):
    """The variances of what is kept and what is drawn anew, as noise over signal, add up to those of the next level."""
    down, up = _ancestral(*torch.tensor([sigma, to], dtype=torch.float64), eta)
    level = to / (1 - to)
    kept = 1.0 if sigma == 1 else 1 - (level / (sigma / (1 - sigma))) ** 2
    assert float(up) == pytest.approx(level * min(1, eta * kept**0.5))
    assert float(down**2 + up**2) == pytest.approx(level**2)


def test_ancestral_cfg_pp_keeps_signal_and_noise_in_proportion():
    """For a prediction that is right, x at sigma is (1 − σ)·x0 plus noise of deviation σ."""
    many = AVTokens(torch.randn(1, 4000, 8), None)
    clean = many.map(torch.zeros_like)
    sigmas = torch.tensor([1.0, 0.8, 0.5, 0.3])
    found = run(SAMPLERS["euler_ancestral_cfg_pp"], lambda *_: clean, many, seeds=(3,), sigmas=sigmas)
    assert abs(float(found.video.std()) - 0.3) < 0.01
