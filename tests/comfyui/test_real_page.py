"""The pack on ComfyUI's page in a headless browser, with both renderers: every template, cards, colours, uploads."""

import json
import shutil
from pathlib import Path

import pytest

from . import hosting, pages, real
from .pages import SHOTS
from .workflow_texts import OURS, WORKFLOWS

pytestmark = pages.pytestmark
# as they were saved with 0.1.0, whose nodes took each model by itself, with their API forms of then
OLDER, SAVED_BEFORE = Path(__file__).parent / "data/older", ("three_segment_film", "story", "native_continuation")
# the one that is queued on the page, cut down to size
QUEUED = "three_segment_film"
# what people type after a double click on the canvas
SEARCHED = ("extend", "ltx2 extend", "continue video", "image to video", "first frame", "last frame", "long video")
WHOLE = ("Generate", "Story", "ExtendVideo")  # nodes that need no other to make something
CARD = {False: "canvas_film", True: "vue_film"}  # what its state is saved as, by whether Nodes 2.0 draw the page
SMALL = {OURS + "Generate": {"width": 64, "height": 64, "seconds": 0.7, "preset": "ltx2_fast"}}

SCRIPT = """# my film
size: 128x96
defaults: {seconds: 1}
segments:
  # morning
  - A red ball rolls by day.
  - A blue box jumps at night. # dark
"""


def visited(vue: bool) -> list[str]:
    """The templates to open: all on the canvas, and with Nodes 2.0, which takes long to draw them, as few as have
    every kind of node between them, or all where pictures are wanted."""
    if not vue or pages.SHOTS:
        return list(WORKFLOWS)
    chosen, kinds = [QUEUED], {node.kind for node in WORKFLOWS[QUEUED].nodes}
    while True:
        name = max(WORKFLOWS, key=lambda one: len({node.kind for node in WORKFLOWS[one].nodes} - kinds))
        news = {node.kind for node in WORKFLOWS[name].nodes} - kinds
        if not news:
            return chosen
        chosen.append(name)
        kinds |= news


@pytest.fixture(scope="module", params=[False, True], ids=["canvas", "nodes-2.0"])
def seen(request, host, browser, tmp_path_factory):
    """Every template opened once, one of them run, files uploaded."""
    folder = tmp_path_factory.mktemp("page")
    uploads = []
    for suffix in (".png", ".safetensors", ".json"):
        uploads.append(folder / f"any_state_{'vue' if request.param else 'canvas'}{suffix}")
        uploads[-1].write_bytes(b"not read by the page")
    # another seed, since nodes that the host has in its cache tell nothing, and a name that no other test saves under
    small = {kind: {**widgets, "seed": int(request.param)} for kind, widgets in SMALL.items()}
    small[OURS + "SaveState"] = {"filename_prefix": f"page/{CARD[request.param]}"}
    workflows = [{"name": name, "path": str(real.WORKFLOWS / f"{name}.json")} for name in visited(request.param)]
    workflows = [{**one, "queue": small} if one["name"] == QUEUED else one for one in workflows]
    workflows += [{"name": f"older {name}", "path": str(OLDER / f"{name}.json")} for name in SAVED_BEFORE]
    dropped = str(host.base / f"output/page/{CARD[request.param]}_00001_.png")
    given = {"workflows": workflows, "uploads": [str(path) for path in uploads], "dropped": dropped, "search": SEARCHED}
    given["story"] = {"script": SCRIPT, "folder": f"board/{request.param}"}
    return browser.visit(host, vue=request.param, **given)


def test_no_errors_and_nothing_from_outside(seen):
    assert not seen["consoleErrors"] and not seen["pageErrors"]
    assert not [url for url in seen["outside"] if "continuum" in url]


def test_every_template_opens_and_says_the_same_as_its_api_form(seen):
    for name in seen["workflows"].keys() & WORKFLOWS.keys():
        says_the_same(seen["workflows"][name], name)


def says_the_same(found, name):
    assert not found["unknown"] and found["nodes"] == len(WORKFLOWS[name].nodes) + 1, name

    def plain(form: dict) -> dict:
        return {key: (node["class_type"], node["inputs"]) for key, node in form.items()}

    expected = plain(real.api_workflow(name))
    for key, (kind, inputs) in plain(found["api"]).items():
        if kind.startswith(OURS):
            assert (kind, inputs) == expected[key], name
        else:  # the host's own nodes gain inputs from release to release
            assert expected[key][1].items() <= inputs.items() and kind == expected[key][0]


@pytest.mark.parametrize("name", SAVED_BEFORE)
def test_a_workflow_that_was_saved_before_keeps_its_links_and_values(seen, name):
    found = seen["workflows"][f"older {name}"]
    before = json.loads((OLDER / f"api/{name}.json").read_text("utf-8"))
    assert not found["unknown"] and set(found["api"]) == set(before)
    for key, node in before.items():
        assert found["api"][key]["class_type"] == node["class_type"]
        assert node["inputs"].items() <= found["api"][key]["inputs"].items(), node["class_type"]


SCREEN = (3200, 1800)  # of 1920 × 1080 at 60 percent


def test_a_template_is_seen_whole_and_nothing_in_it_is_covered(seen):
    """Nodes at the size that the page gives them, in their frames, before a run and with its results."""
    for name in seen["workflows"].keys() & WORKFLOWS.keys():
        is_seen_whole(seen["workflows"][name], name)


def is_seen_whole(found, name):
    for places in filter(None, (found["places"], found.get("done"))):
        nodes, frames = places["nodes"], places["frames"]
        right, bottom = (max(one["box"][i] + one["box"][2 + i] for one in nodes + frames) for i in (0, 1))
        left, top = (min(one["box"][i] for one in nodes + frames) for i in (0, 1))
        assert right - left <= SCREEN[0] and bottom - top <= SCREEN[1], name
        for i, one in enumerate(nodes):
            covered = [other["title"] for other in nodes[:i] if shared(one["box"], other["box"])]
            assert not covered, f"{name}: {one['title']} covers {covered}"
            framed = [frame for frame in frames if shared(one["box"], frame["box"])]
            if one["title"] != "Markdown Note":
                assert len(framed) == 1 and inside(one["box"], framed[0]["box"]), (name, one["title"])
        small = [text for text in places["texts"] if text["text"] == "full" and not 30 < text["height"] < 100]
        assert not small, f"{name}: {small}"


def shared(one: list[float], other: list[float]) -> bool:
    """Whether boxes [left, top, width, height] have more than an edge in common."""
    return all(one[i] + 1 < other[i] + other[2 + i] and other[i] + 1 < one[i] + one[2 + i] for i in (0, 1))


def inside(one: list[float], other: list[float]) -> bool:
    return all(one[i] >= other[i] - 1 and one[i] + one[2 + i] <= other[i] + other[2 + i] + 1 for i in (0, 1))


def test_a_template_runs_from_the_page_and_cards_tell_of_its_states(seen):
    found = seen["workflows"][QUEUED]
    assert found["run"] == {"status": "success"}
    told = [card for card in found["cards"] if "s of sound" in card["text"]]
    assert len(told) == 4 and any(card["picture"] for card in told)
    assert ["segment 1", "segment 2", "segment 3"] == [card["text"].split("\n")[0] for card in told[:3]]
    assert "64×64, 9 frames" in told[0]["text"] and "17 frames at 24 fps" in told[0]["text"]
    # each segment plays, and the seams are told where they are joined
    assert [card["film"] for card in told[:3]] == [64] * 3 and not any(card["clipped"] for card in found["cards"])
    assert [card for card in found["cards"] if "seam before segment 3" in card["text"]]


def test_any_attachment_can_be_uploaded(seen):
    for suffix, found in zip((".png", ".safetensors", ".json"), seen["uploads"]):
        assert found["value"].endswith(suffix) and found["api"] == {"file": found["value"]}
        assert found["saved"][0] == found["value"]


@pytest.mark.parametrize("words", SEARCHED)
def test_a_search_finds_what_makes_a_segment_before_its_helpers(seen, words):
    found = [name.removeprefix(OURS) for name in seen["search"][words] if name.startswith(OURS)]
    assert "Generate" in found and found[0] in WHOLE
    assert set(found[: found.index("Generate")]) <= set(WHOLE)


def test_a_card_that_is_dropped_on_the_loader_is_loaded_and_one_on_the_canvas_opens_its_workflow(seen):
    on_node, on_canvas = seen["uploads"][3:]
    assert on_node["value"] in {f"{name}_00001_.png" for name in CARD.values()}
    assert on_node["picture"] == 64 and on_node["nodes"] == 1
    assert on_node["text"].split("\n")[:2] == ["segment 3", "64×64, 9 frames carried"]
    # only states are listed, the newest first
    assert on_node["listed"][0] == on_node["value"] and any("page/" in name for name in on_node["listed"])
    assert not [name for name in on_node["listed"] if "any_state" in name or "first.png" in name]
    assert on_canvas["nodes"] == len(WORKFLOWS[QUEUED].nodes) + 1


def test_a_story_is_edited_and_made_by_clicking_on_its_segments(seen):
    steps = {step["name"]: step for step in seen["story"]}
    script = {name: step["script"] for name, step in steps.items()}
    assert script["prompt"] == SCRIPT.replace("A red ball rolls by day.", 'prompt: "A green ball rests by day."')
    assert "    seconds: 2\n" in script["seconds"] and "# dark" in script["seconds"]
    assert [len(steps[name]["states"]) for name in ("seconds", "add", "remove")] == [2, 3, 2]
    assert script["move"].index("cut: true") < script["move"].index("# dark") < script["move"].index("A blue box")
    assert script["remove"] == script["seconds"]
    # a picture has settings; where a segment goes on from another it is its last frame's until told otherwise
    first, second = '{file: "first.png", frame: "last", strength: 0.5}', '{file: "last.png", frame: 20}'
    assert 'image: {file: "first.png", frame: "last"}' in script["image"]
    assert f"image: {first}\n" in script["image strength"] and f"image: [{first}, {second}]" in script["image frame"]
    assert '{file: "last.png", frame: 24}' in script["second image"]
    # two at one place are told, and the text stays
    assert "two images stand at frame 48, the last one" in steps["image taken"]["says"]
    assert script["image taken"] == script["second image"]
    assert f"image: {second}\n" in script["one image less"] and script["no image"] == script["remove"]
    # what cannot be is told and changes nothing
    assert "seed is '-5'" in steps["wrong"]["says"] and script["wrong"] == script["remove"]
    assert steps["shorter"]["says"] == "2 segments, 1.71 s" and steps["shorter"]["states"] == ["waiting"] * 2
    made = steps["made"]
    assert made["states"] == ["made"] * 2 and min(made["pictures"]) > 0 and made["film"] == 128
    assert "frames differ by" in made["seam"]
    # what a press does is said before it is done; the wish is for one run
    assert "Segment 2 gets a fresh seed; all others stay" in steps["asked"]["says"]
    assert steps["fits"]["says"].startswith("Segment 1 gets a fresh seed and leads into segment 2; that stays as made")
    assert steps["taken"]["states"] == ["kept", "made"] and steps["taken"]["redo"] == ""
    assert script["taken"] == script["shorter"]
    said = {name: steps[name]["failure"] or steps[name]["says"] for name in ("refused", "failed")}
    assert "'../elsewhere'" in said["refused"] and "line 2: there is no preset ltx9" in said["failed"]
    assert steps["mended"]["failure"] == "" and steps["mended"]["states"] == ["kept", "kept"]


def test_sockets_have_their_colours(seen):
    assert set(seen["colours"].values()) == {"#c98a3a"}


def test_chinese(host, browser):
    path = str(real.WORKFLOWS / "story.json")
    seen = browser.visit(host, vue=True, language="zh", workflows=[{"name": "story", "path": path}])
    assert seen["title"] == "生成 LTX-2 片段" and not seen["pageErrors"]


def test_help_pages_and_templates_are_served(host):
    templates = host.server.get("/workflow_templates")["ltx2-continuum"]
    assert set(templates) == set(WORKFLOWS)
    for name in ("Generate", "Story"):
        page = (
            hosting.urllib.request.urlopen(f"{host.server.url}/extensions/ltx2-continuum/docs/{OURS}{name}.md")
            .read()
            .decode()
        )
        assert page.startswith("# ")


def thumbnails(host, folder: Path) -> None:
    """Pictures of all templates, as the page shows them."""
    from PIL import Image

    outputs = host.run(real.small(real.api_workflow("image_to_video")))
    (card,) = [one for reported in outputs.values() for one in reported.get("states", []) if one.get("picture")]
    shutil.copy(host.path(card["picture"]), host.base / "input" / real.STATE_INPUT)
    workflows = [{"name": name, "path": str(real.WORKFLOWS / f"{name}.json")} for name in WORKFLOWS]
    with pages.browsing() as browser:
        browser.visit(host, SHOTS or folder, vue=True, language="en", thumbnails=True, workflows=workflows)
    for name in WORKFLOWS:
        picture = Image.open((Path(SHOTS) if SHOTS else folder) / f"vue/en/{name}.png").convert("RGB")
        picture.thumbnail((1280, 720), Image.LANCZOS)
        for quality in range(88, 20, -6):
            picture.save(real.WORKFLOWS / f"{name}.jpg", quality=quality, optimize=True)
            if (real.WORKFLOWS / f"{name}.jpg").stat().st_size <= 58_000:
                break
