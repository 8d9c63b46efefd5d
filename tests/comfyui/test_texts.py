"""Help pages, locales and packaging: complete, and in step with the nodes."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from . import hosting
from .make_texts import DOCS, LOCALES, page
from .make_workflows import inputs_of, is_widget
from .missing_texts import complaints
from .test_inputs_kept import CASES
from .workflow_texts import MODELS, OURS, WORKFLOWS, Link


def test_every_node_brings_its_texts_and_a_case(nodes):
    missing = complaints(nodes, CASES)
    assert not missing, "\n".join(missing)


def test_what_a_new_node_lacks_is_named(nodes, tmp_path):
    """A node more, one less, and one whose schema changed: every file that has to follow is told by name."""
    new = nodes["SizeHelper"].GET_SCHEMA()
    new = SimpleNamespace(**{**vars(new), "node_id": "LTX2ContinuumNew", "category": "LTX-2 Continuum/novelties"})
    changed = nodes["Preset"].GET_SCHEMA()
    changed = SimpleNamespace(**{**vars(changed), "description": "Another description, which is long enough."})
    given = {name: cls for name, cls in nodes.items() if name != "UseAudio"}
    given |= {"New": SimpleNamespace(GET_SCHEMA=lambda: new), "Preset": SimpleNamespace(GET_SCHEMA=lambda: changed)}
    missing = complaints(given, CASES)
    for beginning in (
        "web/docs/LTX2ContinuumNew.md is missing",
        "locales/en/nodeDefs.json does not follow the schema of LTX2ContinuumNew",
        "locales/zh/nodeDefs.json lacks LTX2ContinuumNew",
        "locales/en/main.json lacks the menu 'novelties'",
        "locales/zh/main.json lacks the menu 'novelties'",
        "tests/comfyui/test_inputs_kept.py: add a case for New",
        "web/docs/LTX2ContinuumUseAudio.md: there is no such node",
        "locales/en/nodeDefs.json does not follow the schema of LTX2ContinuumUseAudio",
        "locales/zh/nodeDefs.json: there is no node LTX2ContinuumUseAudio",
        "tests/comfyui/test_inputs_kept.py: there is no node UseAudio",
        "web/docs/LTX2ContinuumPreset.md does not follow",
        "locales/en/nodeDefs.json does not follow the schema of LTX2ContinuumPreset",
    ):
        assert sum(line.startswith(beginning) for line in missing) == 1, (beginning, missing)
    assert len(missing) == 12, missing


def test_unwritten_parts_are_named(nodes, tmp_path):
    docs, locales = (shutil.copytree(folder, tmp_path / folder.name) for folder in (DOCS, LOCALES))
    schema = nodes["Preset"].GET_SCHEMA()
    (docs / "LTX2ContinuumPreset.md").write_text(page(schema, ""), "utf-8")
    chinese = json.loads((locales / "zh/nodeDefs.json").read_text("utf-8"))
    chinese["LTX2ContinuumPreset"]["inputs"]["preset"]["tooltip"] = "English"
    (locales / "zh/nodeDefs.json").write_text(json.dumps(chinese), "utf-8")
    assert complaints(nodes, CASES, docs, locales) == [
        "locales/zh/nodeDefs.json lacks LTX2ContinuumPreset.inputs.preset: write a name and a Chinese tooltip",
        "web/docs/LTX2ContinuumPreset.md: write its Example",
        "web/docs/LTX2ContinuumPreset.md: write its Limits",
    ]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_examples_are_ready_for_the_registry(name):
    folder = hosting.ROOT / "example_workflows"
    graph = json.loads((folder / f"{name}.json").read_text("utf-8"))
    ours = [node for node in graph["nodes"] if node["type"].startswith(OURS)]
    assert ours and all(node["properties"]["cnr_id"] == "ltx2-continuum" and node["properties"]["ver"] for node in ours)
    assert (folder / f"{name}.jpg").stat().st_size <= 60_000
    named = {model["name"] for node in graph["nodes"] for model in node["properties"].get("models", [])}
    used = [value for node in WORKFLOWS[name].nodes for value in node.inputs.values() if isinstance(value, str)]
    assert named == set(used) & set(MODELS)
    for node in graph["nodes"]:
        for model in node["properties"].get("models", []):
            assert (
                model["url"].startswith("https://huggingface.co/")
                and model["url"].endswith(model["name"])
                and model["directory"]
            )
    if name == "three_segment_film":
        links = [value for node in WORKFLOWS[name].nodes for value in node.inputs.values() if isinstance(value, Link)]
        assert len(WORKFLOWS[name].nodes) <= 8 and len(links) <= 12
    boxes = [(*node["pos"], *node["size"]) for node in graph["nodes"]]
    for i, (x, y, width, height) in enumerate(boxes):
        for left, top, across, down in boxes[:i]:
            assert x >= left + across or left >= x + width or y >= top + down or top >= y + height, (
                "nodes cover each other"
            )
    if name == "native_continuation":
        assert len(ours) <= 4


@pytest.mark.parametrize("name", WORKFLOWS)
def test_templates_have_the_inputs_of_the_recorded_nodes(name):
    """A node that got an input since a template was written: `make workflows`."""
    recorded = json.loads((hosting.ROOT / "tests/comfyui/data/object_info.json").read_text("utf-8"))
    folder = hosting.ROOT / "example_workflows"
    form = json.loads((folder / f"api/{name}.json").read_text("utf-8"))
    graph = {str(node["id"]): node for node in json.loads((folder / f"{name}.json").read_text("utf-8"))["nodes"]}
    for key, node in form.items():
        if node["class_type"].startswith(OURS):
            found = inputs_of(recorded, node["class_type"])
            wanted = [one for one, kind, options, _ in found if is_widget(kind, options) or one in node["inputs"]]
            assert list(node["inputs"]) == wanted, (key, node["class_type"])
            assert [socket["name"] for socket in graph[key]["inputs"]] == [one for one, *_ in found]


def test_journeys_are_as_long_as_their_templates():
    table = (hosting.ROOT / "docs/journeys.md").read_text("utf-8")
    rows = re.findall(r"^\| [^|]+ \| `(\w+)` \| (?:\d+|–) \| (\d+) \| (?:\d+|–) \| (\d+) \|", table, re.M)
    assert len(rows) == 13
    made = {name: (int(nodes), int(wires)) for name, nodes, wires in rows}
    assert made["extend_a_video"][0] <= 6 and made["three_segment_film"][0] <= 8
    assert made["three_segment_film"][1] <= 12
    for name, nodes, wires in rows:
        links = [value for node in WORKFLOWS[name].nodes for value in node.inputs.values() if isinstance(value, Link)]
        assert (len(WORKFLOWS[name].nodes), len(links)) == (int(nodes), int(wires)), name


def comfy_cli() -> str | None:
    beside = Path(sys.executable).with_name("comfy")
    return str(beside) if beside.exists() else shutil.which("comfy")


@pytest.mark.slow
@pytest.mark.skipif(comfy_cli() is None, reason="comfy-cli is not installed: it is among the test extras")
@pytest.mark.skipif(os.environ.get("CONTINUUM_HOST") == "real", reason="the same on every host")
def test_the_registry_accepts_the_pack(tmp_path):
    """In a copy of what git tracks, since the tool writes its archive into the folder it runs in."""
    listed = (
        subprocess.run(["git", "ls-files", "-z"], cwd=hosting.ROOT, capture_output=True, check=True)
        .stdout.decode()
        .split("\0")
    )
    for name in filter(None, listed):
        if (hosting.ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(hosting.ROOT / name, tmp_path / name)
    environment = {**os.environ, "DO_NOT_TRACK": "1", "HOME": str(tmp_path / ".home"), "GIT_CONFIG_GLOBAL": os.devnull}
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for verb in ("validate", "pack"):
        command = [comfy_cli(), "--skip-prompt", "node", verb]
        done = subprocess.run(
            command, cwd=tmp_path, env={**environment, "PATH": path}, capture_output=True, text=True, timeout=300
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "error" not in said.lower(), said[-3000:]
        assert not re.search(r"\b(S102|S307|E702)\b", said), said[-3000:]
    with zipfile.ZipFile(tmp_path / "node.zip") as archive:
        names = archive.namelist()
    needed = {
        "__init__.py",
        "pyproject.toml",
        "nodes/host.py",
        "web/continuum.js",
        "locales/zh/nodeDefs.json",
        "LICENSE",
    }
    assert needed <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".ci/"))]
    assert sum((tmp_path / name).stat().st_size for name in names) < 30_000_000  # the demonstration model is most of it
