"""``ltx2 state``: every vector and every form, and one sentence for a bad one."""

import argparse
import json

import pytest

from ltx2.cli import state as verb
from ltx2.continuation import save_attachment
from ltx2.errors import ContinuationError

from .test_attachments import NAMES
from .test_codec import full_state
from .vectors import DATA, MALFORMED, VALID, described


def run(*arguments):
    parser = argparse.ArgumentParser()
    verb.add_parser(parser.add_subparsers(dest="verb"))
    args = parser.parse_args(["state", *map(str, arguments)])
    return args.run(args)


@pytest.mark.parametrize("vector", VALID, ids=lambda v: v["name"])
@pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
def test_show_prints_fields_and_hashes(vector, capsys):
    run("show", DATA / vector["file"], "--json", *(["--blobs", DATA / "blobs"] if vector["blobs"] else []))
    found = json.loads(capsys.readouterr().out)
    for name, value in vector["reference"]["ok"].items():
        assert (repr(found[name]) if isinstance(found[name], float) else found[name]) == value, name


@pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
def test_show_without_blobs_keeps_the_ids(capsys):
    vector = next(v for v in VALID if v["name"].startswith("v09"))
    run("show", DATA / vector["file"], "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["video"] is None and found["video_frames_blob_id"] in vector["blobs"]


@pytest.mark.parametrize("form", NAMES)
def test_every_form_is_shown_and_converted(form, tmp_path, capsys):
    path = save_attachment(full_state(), tmp_path / NAMES[form], texts={"workflow": "{}"})
    run("show", path)
    assert "segment_index: 3" in capsys.readouterr().out
    run("convert", path, tmp_path / "out.png")
    capsys.readouterr()
    run("show", tmp_path / "out.png", "--json")
    found = json.loads(capsys.readouterr().out)
    expected = described(full_state())
    assert found["video"] == expected["video"] and found["audio"] == expected["audio"] and found["form"] == "card"


@pytest.mark.parametrize(
    "name", ("m01_wrong_kind", "m14_strength_nan", "m36_packed_count_too_big", "m48_audio_not_safetensors")
)
def test_a_bad_state_is_one_sentence(name):
    vector = next(v for v in MALFORMED if v["name"] == name)
    with pytest.raises(ContinuationError) as caught:
        run("show", DATA / vector["file"], "--blobs", DATA / "blobs")
    assert "\n" not in str(caught.value)


def test_notes_are_told(tmp_path, capsys):
    vector = next(v for v in MALFORMED if v["name"] == "m06_schema_version_missing")
    run("convert", DATA / vector["file"], tmp_path / "out.png")
    assert capsys.readouterr().err == "ltx2: note: payload.schema_version is missing and was read as 1\n"
    run("show", DATA / vector["file"])
    assert "schema_version is missing" in capsys.readouterr().out
