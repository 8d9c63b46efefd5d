"""Texts and numbers that nobody meant, in every node that takes them as they are: one sentence of ours, or it works."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .made import CLIP

NAMES = (
    "", " ", ".", "..", "../x", "/etc/passwd", "~/x", "C:\\x", "a/../../b", "x" * 300, "é" * 300, "a\0b", "a\nb",
    "\ud800", "%date:yyyy%", "x.safetensors", "x.gguf", "mini ", "None", "0", "-1", "nan", "1e999", "[", "{", "&a [*a]",
    "!!int ''", "denoise.stg_scale=nan", "denoise.sigmas=[1,", "refine.=1", "=", "a.b.c=1", "²", "1" * 400, "2:new, 3",
    "denoise.num_inference_steps=999999999999999999999", "denoise.sampler=euler\x1b[31m",
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(NAMES),
    st.text(st.characters(), max_size=20),
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=3).map("\n".join),
)
# the host makes numbers of what stands for one, of the kind that the input takes
WHOLE = st.one_of(st.integers(-(2**70), 2**70), st.integers(-2, 300), st.booleans())
REAL = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 1e-300, 1e300]), st.integers(-2, 300).map(float))
NUMBERS = {name: WHOLE for name in ("frame", "width", "height", "video_overlap", "audio_overlap")}
NUMBERS |= {name: REAL for name in ("strength", "crf", "length", "fps")}
COUNT = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# node → its text inputs, and what else it needs
TEXTS = {
    "Preset": (
        ("overrides", "preset", "sampler", "two_stages"),
        lambda made: {"preset": "ltx2_fast", "steps": 0, "refine_steps": 0, "sampler": "euler", "two_stages": "on"},
    ),
    "LoadCheckpoint": (("checkpoint", "distilled_lora"), lambda made: {"checkpoint": "x.safetensors"}),
    "LoadSplitFiles": (
        ("transformer", "video_vae", "audio_vae", "distilled_lora"),
        lambda made: {"transformer": "x", "video_vae": "y", "audio_vae": "z"},
    ),
    "LoadTextEncoder": (("text_encoder",), lambda made: {"model": made.parts["model"]}),
    "LoadUpsampler": (("upsampler",), lambda made: {}),
    "ApplyLora": (("lora",), lambda made: {"model": made.parts["model"], "strength": 1.0}),
    "LoadState": (("file",), lambda made: {}),
    "NegativePreset": (("preset",), lambda made: {}),
    "SaveState": (("filename_prefix",), lambda made: {"state": made.state, "form": "PNG card"}),
}


def only_ours(pack, folders, call):
    """Whether it worked; what is raised is one sentence that tells nothing of where the host's folders lie."""
    try:
        call()
    except pack.ltx2.errors.Ltx2Error as error:
        told = str(error)
        assert told and len(told) <= 300 and told.isprintable() and str(folders) not in told
        return False
    return True


@pytest.mark.parametrize("node", TEXTS)
def test_odd_texts_in_nodes(run, pack, made, folders, node):
    names, others = TEXTS[node]

    @COUNT
    @given(st.sampled_from(names), texts)
    def check(name, text):
        only_ours(pack, folders, lambda: run(node, **{**others(made), name: text}))

    check()


def test_odd_texts_in_a_story(pack, folders):
    problem = pack.nodes.story.problem

    @COUNT
    @given(st.one_of(texts, texts.map("segments:\n  - {}".format)), texts, texts)
    def check(script, folder, redo):
        said = problem(script, folder, redo)
        assert said is True or (len(said) <= 300 and said.isprintable() and str(folders) not in said)

    check()
    assert asyncio.run(pack.nodes.story.Story.validate_inputs("A lake.", "film", "1")) is True


def test_odd_numbers_in_conditions(run, pack, made, folders):
    @COUNT
    @given(st.sampled_from(list(NUMBERS)).flatmap(lambda name: st.tuples(st.just(name), NUMBERS[name])))
    def check(one):
        name, value = one

        def call():
            given_here = {name: value}
            taken = {key: given_here.pop(key) for key in ("frame", "strength", "crf") if key in given_here}
            image = run("AddImage", **{"image": made.frames, "frame": 0, "strength": 1.0, **taken}).args[0]
            carried = {key: given_here.pop(key) for key in ("video_overlap", "audio_overlap") if key in given_here}
            if carried:
                image = run("ContinueFrom", state=made.state, **carried).args[0]
            run("PrepareLatent", **{**CLIP, "conditions": image, **given_here})

        only_ours(pack, folders, call)

    check()
