"""What a forward of the transformer can be asked to do, beside its golden files."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ltx2.config.transformer import transformer_config
from ltx2.errors import RequestError
from ltx2.networks.layers.rope import video_positions
from ltx2.networks.transformer.block import Perturbation
from ltx2.networks.transformer.model import StreamInput, Transformer
from tests.golden import DATA
from tests.golden import transformer as golden

from .samples import VERSIONS, inputs, random_weights, small_config, small_transformer

torch.set_grad_enabled(False)
GOLDEN = sorted((DATA / "transformer").glob("dit_*.safetensors"))


def streams(config, case="plain", seed=1):
    given = inputs(config, seed, case)
    return StreamInput(**given["video"]), StreamInput(**given["audio"])


def sample(stream, index):
    return StreamInput(
        **{k: v[index : index + 1] if isinstance(v, torch.Tensor) else v for k, v in vars(stream).items()}
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path):
    for name, difference in golden.differences(path):
        assert difference <= 5e-6, name


def test_there_are_golden_files_of_every_version():
    assert {path.stem.split("_")[1] for path in GOLDEN} == set(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_bfloat16_stays_within_its_rounding(version):
    """Relative RMS error at most 2 · 2⁻⁸ · √(1 + layers): a value of bfloat16 has 8 bits, and errors of layers add like
    noise."""
    layers = 4
    config = small_config(version, num_layers=layers)
    model = small_transformer(config, seed=5)
    video, audio = streams(config, "first_frame")
    half = [replace(s, latent=s.latent.bfloat16(), context=s.context.bfloat16()) for s in (video, audio)]
    expected = model(*(replace(s, latent=s.latent.float(), context=s.context.float()) for s in half))
    for found, exact in zip(model.bfloat16()(*half), expected):
        assert found.dtype == torch.bfloat16
        assert (found.float() - exact).norm() / exact.norm() <= 2 * 2**-8 * (1 + layers) ** 0.5


def test_entries_of_a_batch_do_not_mix():
    config = small_config("2.5")
    model = small_transformer(config)
    video, audio = streams(config, "appended")
    flags = [
        Perturbation(skip_video_self_attention=(0,), skip_video_to_audio=None),
        Perturbation(skip_audio_self_attention=(1,)),
    ]
    together = model(video, audio, flags)
    for i, flag in enumerate(flags):
        alone = model(sample(video, i), sample(audio, i), [flag])
        for a, b in zip(together, alone):
            torch.testing.assert_close(a[i : i + 1], b, atol=5e-6, rtol=0)


def test_order_of_tokens_does_not_matter():
    config = small_config("2.5")
    model = small_transformer(config)
    video, audio = streams(config, "slots")
    order = torch.randperm(video.latent.shape[1], generator=torch.Generator().manual_seed(0))
    names = ("latent", "timesteps", "keyframes_mask")
    mixed = replace(
        video, positions=video.positions[:, :, order], **{name: getattr(video, name)[:, order] for name in names}
    )
    expected, found = model(video, audio), model(mixed, audio)
    torch.testing.assert_close(found[0], expected[0][:, order], atol=5e-6, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=5e-6, rtol=0)


def test_video_alone_equals_isolated_video():
    config = small_config("2.3")
    model = small_transformer(config)
    video, audio = streams(config, "first_frame")
    alone, nothing = model(video, None)
    assert nothing is None
    isolated = model(video, audio, [Perturbation(skip_audio_to_video=None, skip_video_to_audio=None)] * 2)
    torch.testing.assert_close(alone, isolated[0], atol=5e-6, rtol=0)
    torch.testing.assert_close(model(None, audio)[1], isolated[1], atol=5e-6, rtol=0)


def test_disabled_stream_is_listened_to_but_not_updated():
    ltx_core = pytest.importorskip("ltx_core.model.transformer.modality")
    from ltx_core.model.transformer.model_configurator import LTXModelConfigurator

    config = small_config("2.3")
    model = small_transformer(config)
    video, audio = streams(config)
    nothing, found = model(replace(video, enabled=False), audio)
    assert nothing is None
    theirs = LTXModelConfigurator.from_config({"transformer": config})
    theirs.load_state_dict(model.state_dict(), assign=True)
    given = [
        {k: v for k, v in vars(s).items() if k not in ("keyframes_mask", "negative_context", "nag")}
        for s in (replace(video, enabled=False), audio)
    ]
    _, expected = theirs.eval()(*(ltx_core.Modality(**parts) for parts in given), None)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)


def test_one_timestep_may_be_given_for_all_tokens():
    config = small_config("2.3")
    model = small_transformer(config)
    video, audio = streams(config)
    short = replace(video, timesteps=video.sigma[:, None])
    for a, b in zip(model(short, audio), model(video, audio)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("mode, gate_follows_tokens", [("own", True), ("hybrid", False), ("cross", False)])
def test_av_timestep_modes_differ_for_known_tokens(mode, gate_follows_tokens):
    config = small_config("2.3")
    video, audio = streams(config, "first_frame")
    outputs = {m: small_transformer(config, av_timestep_mode=m)(video, audio)[0] for m in ("own", "hybrid", "cross")}
    assert all(not torch.allclose(outputs[mode], other, atol=1e-3) for m, other in outputs.items() if m != mode)
    plain = streams(config)
    same = [small_transformer(config, av_timestep_mode=m)(*plain)[0] for m in (mode, "hybrid")]
    torch.testing.assert_close(*same, atol=5e-6, rtol=0)
    with pytest.raises(RequestError, match="av_timestep_mode"):
        small_transformer(config, av_timestep_mode="mixed")


def test_inputs_are_not_written_to():
    config = small_config("2.5")
    model = small_transformer(config)
    given = streams(config, "appended")
    before = [{k: v.clone() for k, v in vars(s).items() if isinstance(v, torch.Tensor)} for s in given]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    model(*given)
    assert all(torch.equal(getattr(s, k), v) for s, copy in zip(given, before) for k, v in copy.items())
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_layers_and_attention_are_those_handed_in():
    calls = {"attention": 0, "linear": 0}

    class HostLinear(nn.Linear):
        def forward(self, x):
            calls["linear"] += 1
            return nn.functional.linear(x, self.hidden["weight"], self.hidden.get("bias"))

    class HostOps:  # keeps weights where forward alone finds them, as a host that streams them
        Linear = HostLinear
        RMSNorm = nn.RMSNorm

    def attention(q, k, v, *, heads, mask=None):
        calls["attention"] += 1
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        logits = q @ k.mT / q.shape[-1] ** 0.5
        return ((logits if mask is None else logits + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)

    config = small_config("2.3")
    plain = small_transformer(config)
    hosted = Transformer(transformer_config(config, {}), ops=HostOps, attention=attention, device="meta")
    hosted.load_state_dict(random_weights(plain, 0), assign=True)
    for layer in hosted.modules():
        if isinstance(layer, HostLinear):
            layer.hidden = {name: tensor.data for name, tensor in layer.named_parameters()}
            layer.weight = layer.bias = None
    given = streams(config, "fractional_mask")
    for a, b in zip(hosted(*given), plain(*given)):
        torch.testing.assert_close(a, b, atol=5e-6, rtol=0)
    assert calls["attention"] == 6 * config["num_layers"]
    assert calls["linear"] > 34 * config["num_layers"] - 2


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that an operation made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_nothing_as_large_as_tokens_times_rows_is_made():
    config = small_config("2.3", num_layers=1)
    model = small_transformer(config)
    _, audio = streams(config)
    tokens, width = 4 * 32 * 32, config["num_attention_heads"] * config["attention_head_dim"]
    sigma = torch.tensor([0.9])
    timesteps = torch.full((1, tokens), 0.9)
    timesteps[:, : 32 * 32] = 0
    video = StreamInput(
        latent=torch.randn(1, tokens, 8),
        timesteps=timesteps,
        sigma=sigma,
        positions=video_positions(4, 32, 32, 24, device="cpu"),
        context=torch.randn(1, 4, 32),
    )
    with LargestTensor() as meter:
        model(video, sample(audio, 0))
    assert meter.elements <= 2 * tokens * width  # the hidden tokens of half the stream


@pytest.mark.parametrize(
    "change, message",
    [
        ({"positions": torch.zeros(2, 3, 4, 2)}, "positions of 4"),
        ({"timesteps": torch.zeros(2, 5)}, "timesteps of shape"),
        ({"latent": torch.zeros(1, 18, 8)}, "entries"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    config = small_config("2.3")
    video, audio = streams(config)
    with pytest.raises(RequestError, match=message):
        small_transformer(config)(replace(video, **change), audio)


def test_perturbations_are_counted_and_something_must_be_given():
    config = small_config("2.3")
    model = small_transformer(config)
    with pytest.raises(RequestError, match="perturbations 3"):
        model(*streams(config), [Perturbation()] * 3)
    with pytest.raises(RequestError, match="neither"):
        model(None, None)
