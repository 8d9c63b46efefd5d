"""What people and other libraries give in the fields of a request, and a track of one's own."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx2.config.versions import release
from ltx2.errors import Ltx2Error, MediaError, RequestError
from ltx2.networks.audio.mel import waveform_to_mel
from ltx2.resampling import mix_to_stereo
from ltx2.stages.models import Models, PipelineConfig
from ltx2.stages.request import TEXT, Request, make_job
from ltx2.values import AudioCondition, ClipCondition, ImageCondition, LatentCondition, ReferenceCondition, Waveform

PLAIN = Request(prompt="a lake", preset="ltx2_base", width=64, height=64, frames=9, seed=1)
PICTURE = np.zeros((8, 8, 3), np.uint8)
MODELS = Models(PipelineConfig(), release((2, 3)), ("x.safetensors",), None)

numbers = st.one_of(st.integers(), st.floats(), st.integers(-9, 9).map(np.int64), st.floats(width=32).map(np.float32))
odd = st.one_of(
    numbers,
    st.none(),
    st.booleans(),
    st.text(max_size=400),
    st.characters(categories=["Cs"]),
    st.binary(max_size=9),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([torch.tensor(3), torch.zeros(2), np.array([1, 2]), np.array("x"), PICTURE, object, "0", "9"]),
)


def parts_with(kind, values):
    """Conditions of a kind of which one field is odd."""
    whole = {
        ImageCondition: ImageCondition(PICTURE),
        ClipCondition: ClipCondition(np.zeros((1, 8, 8, 3), np.uint8)),
        LatentCondition: LatentCondition(torch.zeros(1, 128, 1, 2, 2)),
        AudioCondition: AudioCondition(torch.zeros(1, 8, 2, 16)),
        ReferenceCondition: ReferenceCondition(np.zeros((9, 8, 8, 3), np.uint8), mask=torch.ones(1, 8, 8)),
        Waveform: Waveform(torch.zeros(2, 800), 16000),
    }[kind]
    # pictures and frames are opened later, with errors of their own
    names = [field.name for field in fields(kind) if field.name not in ("image", "frames")]
    return st.builds(lambda name, value: replace(whole, **{name: value}), st.sampled_from(names), values)


requests = st.one_of(
    st.builds(
        lambda name, value: replace(PLAIN, **({"frames": None} if name == "seconds" else {}), **{name: value}),
        st.sampled_from([field.name for field in fields(Request) if field.name != "frames"]),
        odd,
    ),
    parts_with(ImageCondition, odd).map(lambda one: replace(PLAIN, images=(one,))),
    parts_with(ClipCondition, odd).map(lambda one: replace(PLAIN, clips=(one,))),
    parts_with(ReferenceCondition, odd).map(lambda one: replace(PLAIN, references=(one,))),
    parts_with(LatentCondition, odd).map(lambda one: replace(PLAIN, latents=(one, None))),
    parts_with(AudioCondition, odd).map(lambda one: replace(PLAIN, audio=one)),
    parts_with(Waveform, odd).map(lambda one: replace(PLAIN, audio=one)),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(requests)
@pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
def test_any_value_in_any_field_is_taken_or_refused_in_one_sentence(request_given):
    try:
        job = make_job(MODELS, request_given, parts=())
    except Ltx2Error as error:
        assert len(str(error)) <= 300 and str(error).isprintable()
        return
    for name in ("width", "height", "frames", "seed", "batch_size", "audio_latents"):
        assert type(getattr(job.request, name)) is int
    for image in job.request.images:
        assert type(image.frame) is int and type(image.strength) is float


def test_numbers_of_other_libraries_mean_the_same_as_plain_ones():
    other = replace(PLAIN, width=np.int64(64), frames=torch.tensor(9), images=(ImageCondition(PICTURE, np.int64(8)),))
    same = replace(PLAIN, images=(ImageCondition(PICTURE, 8),))
    assert make_job(MODELS, other, parts=()).request == make_job(MODELS, same, parts=()).request
    for value in ("0", True, 1.5):
        with pytest.raises(RequestError, match="frame of an image is .*, expected a whole number"):
            make_job(MODELS, replace(PLAIN, images=(ImageCondition(PICTURE, value),)), parts=())


@pytest.mark.parametrize("channels", range(1, 10))
def test_a_sound_of_any_channels_is_heard_by_model_and_film_alike(channels):
    samples = torch.zeros(channels, 16000)
    # the channel that only a mix brings to the first two; the low one of 5.1 to 7.1 is left out by the standard
    samples[min(2, channels - 1)] = 0.5 * torch.sin(torch.arange(16000) * 0.2)
    sound = Waveform(samples, 16000)
    job = make_job(MODELS, replace(PLAIN, audio=sound), parts=())
    told = [note for note in job.notes if f"has {channels} channels: they are mixed down" in note]
    heard = job.request.audio
    assert len(told) == (channels > 2) and heard.samples.shape == (min(channels, 2), 16000)
    assert heard.samples.abs().max() > 0.05
    assert torch.equal(waveform_to_mel(sound), waveform_to_mel(heard))
    assert torch.equal(heard.samples, mix_to_stereo(sound).samples)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(0, 999), st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_a_sound_that_is_not_finite_is_refused_before_anything_is_made(channels, place, value):
    samples = torch.zeros(channels, 1000)
    samples[channels - 1, place] = value
    with pytest.raises(MediaError, match=r"holds NaN or infinite samples at [\de.+-]+ s"):
        make_job(MODELS, replace(PLAIN, audio=Waveform(samples, 1000)), parts=())


def test_a_prompt_that_is_cut_is_told_with_the_job(models):
    words = "".join(f"the sea at {i} " for i in range(2000))
    loaded = models("2.3")

    def notes(**changed):
        return [n for n in make_job(loaded, replace(PLAIN, **changed), parts=(TEXT,)).notes if "are not read" in n]

    assert not notes()
    (note,) = notes(prompt=words)
    assert note.startswith("the prompt has ")
    (note,) = notes(negative_prompt=words)
    assert note.startswith("the negative prompt has ")
    # a distilled preset looks at no negative prompt
    assert not notes(negative_prompt=words, preset="ltx2_distilled")
