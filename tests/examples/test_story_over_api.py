"""The story client of the examples: one film, counted, whatever becomes of the servers."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ltx2 import media
from ltx2.story.script import parse_script
from ltx2.values import Waveform

from .stand_in import StandIn

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def client(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("story_over_api", "comfy_client", "mp4_facts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import story_over_api

    yield story_over_api
    for name in ("story_over_api", "comfy_client", "mp4_facts"):
        sys.modules.pop(name, None)


@pytest.fixture
def tell(client, tmp_path, monkeypatch, capsys):
    """Runs the client against stand-ins; gives its exit status and what it said."""

    def run(*servers, prompts=("a", "b", "--scene", "c", "--scene", "d", "e"), seconds="1", more=()):
        given = [part for server in servers for part in ("--server", getattr(server, "url", server))]
        words = ["--out", str(tmp_path / "out"), "--seconds", seconds, "--size", "64x64", *given, *more]
        monkeypatch.setattr(sys, "argv", ["story_over_api.py", *prompts, *words])
        status = client.main()
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def servers(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda *dies, **keywords: [
            stack.enter_context(StandIn(tmp_path / f"server{number}", one, **keywords))
            for number, one in enumerate(dies)
        ]


def never(run):
    return False


def at_once(run):
    return True


FRAMES = 25 + 16 + 25 + 25 + 16


def test_one_server_makes_the_story_in_one_run(tell, servers, tmp_path):
    (server,) = servers(never)
    status, said = tell(server)
    assert status == 0 and len(server.runs) == 1 and f"{FRAMES} frames" in said
    script = parse_script(server.runs[0]["story"]["inputs"]["script"], "script")
    assert [(s.prompt, s.seed, s.cut) for s in script.segments] == [
        ("a", 10, True), ("b", 11, False), ("c", 12, True), ("d", 13, True), ("e", 14, False)
    ]  # fmt: skip
    assert len(media.read_video(tmp_path / "out/film.mp4").frames) == FRAMES
    assert (tmp_path / "out/film.state.safetensors").read_bytes() == b"state of e"
    # the same story has the same folder, another one another
    tell(server)
    tell(server, prompts=("a", "B"))
    folders = [run["story"]["inputs"]["folder"] for run in server.runs]
    assert folders[0] == folders[1] != folders[2]


def test_several_servers_make_scenes_side_by_side(tell, servers, tmp_path):
    ones = servers(never, never)
    status, said = tell(*ones)
    assert status == 0, said
    stories = [run for one in ones for run in one.runs if "story" in run]
    assert sorted(len(parse_script(run["story"]["inputs"]["script"]).segments) for run in stories) == [1, 2, 2]
    frames = media.read_video(tmp_path / "out/film.mp4").frames
    shades = [147, 84, 189]  # of seeds 10 + 11, 12, 13 + 14
    starts = [0, 41, 66]
    assert len(frames) == FRAMES and [abs(int(frames[i].mean()) - s) < 4 for i, s in zip(starts, shades)] == [True] * 3
    assert (tmp_path / "out/film.state.safetensors").read_bytes() == b"state of e"
    # what has come is not asked for again, what changed or was damaged is
    for prompts, damaged, asked in ((("a", "b"), None, []), (("a", "B"), None, [["a", "B"]]), (("a", "B"), 2, [["c"]])):
        if damaged:
            (tmp_path / f"out/scene_00{damaged}.mp4").write_bytes(b"half")
        before = sum(len(one.runs) for one in ones)
        assert tell(*ones, prompts=(*prompts, "--scene", "c", "--scene", "d", "e"))[0] == 0
        runs = [run["story"]["inputs"]["script"] for one in ones for run in one.runs if "story" in run]
        told = [[segment.prompt for segment in parse_script(script, "script").segments] for script in runs]
        assert sum(len(one.runs) for one in ones) - before == len(asked) + 1
        assert told.count(["d", "e"]) == 1 and all(one in told for one in asked)


def test_a_server_that_dies_costs_its_scene_a_second_try(tell, servers, tmp_path):
    first, second, third = servers(lambda run: run == 2, at_once, never)
    status, said = tell(first, second, third, "http://127.0.0.1:9")
    assert status == 0, said
    assert said.count("another server") >= 1 and "http://127.0.0.1:9 does not answer" in said
    assert len(media.read_video(tmp_path / "out/film.mp4").frames) == FRAMES


def test_when_no_server_is_left(tell, servers, tmp_path):
    status, said = tell(*servers(at_once, at_once))
    assert status == 1 and ("no server is left" in said or "was lost with" in said) and "Traceback" not in said
    assert not (tmp_path / "out/film.mp4").exists()
    status, said = tell("http://127.0.0.1:9", prompts=("a",))
    assert status == 1 and "refused" in said and "Traceback" not in said


def test_one_scene_goes_to_the_first_server_that_answers(tell, servers):
    (server,) = servers(never)
    assert tell("http://127.0.0.1:9", server, prompts=("a", "b"))[0] == 0 and len(server.runs) == 1


def test_what_a_server_refuses_ends_the_story(tell, servers):
    some = servers(never, never)
    status, said = tell(*some, more=("--checkpoint", "nothing.safetensors"))
    assert status == 1 and "nothing.safetensors" in said and sum(len(one.runs) for one in some) <= 2


def test_a_film_that_is_too_short_is_not_called_done_and_replaces_none(tell, servers, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/film.mp4").write_bytes(b"of yesterday")
    status, said = tell(*servers(never, short=1))
    assert status == 1 and f"has {FRAMES - 1} frames" in said and f"expected {FRAMES}" in said
    assert (tmp_path / "out/film.mp4").read_bytes() == b"of yesterday"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["film.mp4"]


@pytest.mark.parametrize(
    "address", ["", "ftp://a", "http://[x", "http://127.0.0.1:port", "http://127.0.0.1:99999", "http://a b", "http://"]
)
def test_what_is_no_address_is_said_in_one_sentence(tell, tmp_path, address):
    status, said = tell(address)
    assert status == 1 and said == (
        f"story_over_api: {address!r} is no server's address: use one such as http://127.0.0.1:8188\n"
    )
    assert not (tmp_path / "out").exists()


def test_addresses_as_people_type_them(client, tell, servers):
    (server,) = servers(never)
    assert client.Client(" https://pod.example/proxy/ ").url == "https://pod.example/proxy"
    assert tell(f"{server.url.removeprefix('http://')}/", prompts=('Ñandú – „schön“, 漁港 🎬: "#" {x}',))[0] == 0
    assert parse_script(server.runs[0]["story"]["inputs"]["script"]).segments[0].prompt.startswith("Ñandú – „")


REFUSED = {
    "a node's own sentence": (
        {"node_errors": {"story": {"class_type": "Story", "errors": [
            {"type": "custom_validation_failed", "message": "Failed", "details": f"{name} - size is 0x0"}
            for name in ("script", "folder", "redo")]}}},
        "node story (Story): size is 0x0",
    ),
    "no pack": ({"error": {"type": "missing_node_type", "message": "Node 'Story' not found"}, "node_errors": {}},
                "{url} lacks a node: Node 'Story' not found"),
    "no ComfyUI": ("<html>\n<h1>no</h1>", "{url} refused it: <html> <h1>no</h1>"),
    "a list": ([1, 2], "{url} refused it: [1, 2]"),
}  # fmt: skip


@pytest.mark.parametrize("body, sentence", REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_sentence(client, body, sentence):
    from comfy_client import _refusal

    data = body if isinstance(body, str) else json.dumps(body)
    assert _refusal("http://a:1", data.encode()) == sentence.replace("{url}", "http://a:1")


def test_what_is_no_text_or_no_folder_is_said_before_a_server_is_asked(tell, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        tell("http://127.0.0.1:9", prompts=("a \udcff",))
    assert "holds bytes that are no text" in capsys.readouterr().err
    (tmp_path / "out").write_bytes(b"a file")
    status, said = tell("http://127.0.0.1:9")
    assert status == 1 and said == f"story_over_api: {tmp_path / 'out'}: File exists\n"


def test_more_scenes_than_the_node_joins_at_once(tell, servers, tmp_path):
    ones = servers(never, never)
    prompts = ["p0", *(word for i in range(1, 11) for word in ("--scene", f"p{i}"))]
    status, said = tell(*ones, prompts=prompts, seconds="0.3")
    assert status == 0, said
    assert len(media.read_video(tmp_path / "out/film.mp4").frames) == 11 * 9
    joins = [run for one in ones for run in one.runs if "film" in run]
    assert len(joins) == 3 and all(len(run["film"]["inputs"]) - 3 <= 8 for run in joins)


@pytest.mark.parametrize("rate", (44100, 48000))
@pytest.mark.parametrize("fps", (24, 25, "24000/1001"))
@pytest.mark.parametrize("frames", (9, 25, 113))
def test_films_are_counted_as_they_are(client, tmp_path, rate, fps, frames):
    """The tables of a film say what a decoder finds."""
    from mp4_facts import film_facts

    pictures = np.zeros((frames, 64, 64, 3), np.uint8)
    path = media.write_video(tmp_path / "a.mp4", pictures, fps=fps, sound=Waveform(torch.zeros(2, rate // 4), rate))
    known = media.video_info(path)
    facts = film_facts(path)
    assert (facts.frames, facts.samples, facts.sample_rate) == (known.frames, known.samples, rate)
    media.write_video(tmp_path / "b.mp4", pictures, fps=fps)
    assert film_facts(tmp_path / "b.mp4").sample_rate == 0
    (tmp_path / "c.mp4").write_bytes(b"no film")
    with pytest.raises(ValueError, match="no MP4"):
        film_facts(tmp_path / "c.mp4")
