"""External the models' own package: schedules, guidance, a step."""

import importlib.util
import sys
import types

import pytest
import torch

from ltx2.sampling import schedules
from ltx2.sampling.guidance import Guidance, StreamGuidance, at_sigma, combine, passes, skips
from ltx2.sampling.samplers import SAMPLERS
from ltx2.sampling.tokens import AVTokens

pytest.importorskip("ltx_core")
guiders = pytest.importorskip("ltx_core.components.guiders")
with pytest.MonkeyPatch.context() as patch:
    if importlib.util.find_spec("scipy") is None:
        # only a schedule that is not compared here uses it
        patch.setitem(sys.modules, "scipy", types.ModuleType("scipy"))
    schedulers = pytest.importorskip("ltx_core.components.schedulers")
steps = pytest.importorskip("ltx_core.components.diffusion_steps")


@pytest.mark.parametrize("count", [2, 8, 15, 40])
@pytest.mark.parametrize("tokens", [384, 4096, 8160])
def test_dev_schedule(count, tokens):
    latent = torch.empty(1, 128, tokens, 1, 1)
    expected = schedulers.LTX2Scheduler().execute(steps=count, latent=latent)
    assert torch.allclose(schedules.dev_sigmas(count, tokens=tokens), expected, atol=2e-6)


@pytest.mark.parametrize("count", [4, 8, 20])
def test_linear_quadratic_schedule(count):
    expected = schedulers.LinearQuadraticScheduler().execute(steps=count)
    assert torch.allclose(schedules.linear_quadratic_sigmas(count), expected.float(), atol=1e-6)


@pytest.mark.parametrize(
    "cfg, stg, modality, rescale",
    [(3, 1, 3, 0.7), (7, 1, 3, 0.7), (3, 0, 3, 0.45), (7, 0, 3, 1.0), (4, 0, 1, 0), (1, 1, 1, 0.5)],
)
def test_guidance(cfg, stg, modality, rescale):
    given = guiders.MultiModalGuiderParams(
        cfg_scale=cfg, stg_scale=stg, stg_blocks=[1], rescale_scale=rescale, modality_scale=modality
    )
    guider = guiders.MultiModalGuider(params=given)
    ours = StreamGuidance(cfg=cfg, stg=stg, modality=modality, rescale=rescale, stg_blocks=(1,))
    c, u, p, m = (torch.randn(1, 30, 128) for _ in range(4))
    wanted = passes(Guidance(video=ours))
    assert ("negative" in wanted, "perturbed" in wanted, "isolated" in wanted) == (
        guider.do_unconditional_generation(),
        guider.do_perturbed_generation(),
        guider.do_isolated_modality_generation(),
    )
    predictions = {"positive": c, "negative": u, "perturbed": p, "isolated": m}
    expected = guider.calculate(
        c, *(predictions[name] if name in wanted else c for name in ("negative", "perturbed", "isolated"))
    )
    assert torch.allclose(combine({name: predictions[name] for name in wanted}, ours), expected, atol=1e-5)


def test_guidance_by_noise_level_and_skipped_steps():
    levels = {1.0: 5.0, 0.8: 4.0, 0.3: 2.0}
    factory = guiders.MultiModalGuiderFactory.from_dict(
        {k: guiders.MultiModalGuiderParams(cfg_scale=v) for k, v in levels.items()}
    )
    ours = {k: Guidance(StreamGuidance(cfg=v)) for k, v in levels.items()}
    for sigma in (1.2, 1.0, 0.9, 0.8, 0.5, 0.3, 0.1, 0.0):
        assert at_sigma(ours, sigma).video.cfg == factory.params(sigma).cfg_scale
    for skip in (0, 1, 2):
        guider = guiders.MultiModalGuider(params=guiders.MultiModalGuiderParams(skip_step=skip))
        assert [skips(StreamGuidance(skip_step=skip), i) for i in range(7)] == [
            guider.should_skip_step(i) for i in range(7)
        ]


def test_euler_step():
    sigmas = schedules.distilled_sigmas(5)
    x, x0 = torch.randn(1, 9, 128).bfloat16(), torch.randn(1, 9, 128).bfloat16()
    for i in range(5):
        expected = steps.EulerDiffusionStep().step(x, x0, sigmas, i)
        found = SAMPLERS["euler"].run(
            lambda *_: AVTokens(x0, None), AVTokens(x, None), sigmas[i : i + 2], restore=lambda t: t
        )
        assert torch.equal(found.video, expected)
