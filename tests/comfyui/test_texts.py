"""Help pages, locales and packaging: complete, and in step with the nodes."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from . import hosting
from .make_texts import DOCS, LOCALES, english
from .workflow_texts import MODELS, OURS, WORKFLOWS

HAN = re.compile("[\u4e00-\u9fff]")


def test_every_node_has_a_help_page_that_names_all_of_it(nodes):
    assert {path.stem for path in DOCS.glob("*.md")} == {f"LTX2Continuum{name}" for name in nodes}
    for name, cls in nodes.items():
        schema = cls.GET_SCHEMA()
        page = (DOCS / f"LTX2Continuum{name}.md").read_text("utf-8")
        assert page.startswith(f"# {schema.display_name}\n\n{schema.description}\n"), (
            f"{name}: python -m tests.comfyui.make_texts"
        )
        for one in schema.inputs:
            told = f"| `{one.id}` |" in page and one.tooltip.replace("|", "/") in page
            assert told, f"{name}.{one.id}: python -m tests.comfyui.make_texts"
        for one in schema.outputs:
            assert f"| `{one.display_name}` |" in page, name
        example, limits = page.partition("## Example")[2].split("## Limits")
        assert len(example.strip()) > 20 and len(limits.strip()) > 20, name


def test_english_follows_the_schemas(nodes):
    kept = json.loads((LOCALES / "en/nodeDefs.json").read_text("utf-8"))
    assert kept == english(nodes), "python -m tests.comfyui.make_texts"


def test_chinese_is_complete(nodes):
    kept = json.loads((LOCALES / "zh/nodeDefs.json").read_text("utf-8"))
    wanted = english(nodes)
    assert set(kept) == set(wanted)
    for name, node in wanted.items():
        assert HAN.search(kept[name]["description"]), name
        for group in ("inputs", "outputs"):
            assert set(kept[name][group]) == set(node[group]), f"{name}.{group}"
            for key, one in kept[name][group].items():
                assert one["name"] and HAN.search(one["tooltip"]), f"{name}.{key}"


def test_menus_are_translated(nodes):
    groups = {part for cls in nodes.values() for part in cls.GET_SCHEMA().category.split("/")[1:]}
    for language in ("en", "zh"):
        known = json.loads((LOCALES / language / "main.json").read_text("utf-8"))["nodeCategories"]
        assert groups - {"conditioning"} <= set(known)  # the host has that word itself


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
        assert len(WORKFLOWS[name].nodes) <= 10
    if name == "native_continuation":
        assert len(ours) <= 4


def comfy_cli() -> str | None:
    beside = Path(sys.executable).with_name("comfy")
    return str(beside) if beside.exists() else shutil.which("comfy")


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
    assert sum((tmp_path / name).stat().st_size for name in names) < 5_000_000
