"""What stands beside the code says the same as the code: version, changelog, checks, pictures, documents."""

import importlib.util
import json
import pkgutil
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import ltx2
from ltx2.stages.presets import PRESETS
from ltx2.version import UNKNOWN, read_version

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md", "docs/python-api.md")


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_the_version_is_the_project_files():
    (written,) = re.findall(r'^version = "(.*)"$', text("pyproject.toml"), re.M)
    assert ltx2.__version__ == written
    others = [
        p
        for p in [*(ROOT / "ltx2").rglob("*.py"), *(ROOT / "nodes").glob("*.py")]
        if f'"{written}"' in p.read_text("utf-8")
    ]
    assert not others, "the version stands in pyproject.toml alone"


def test_where_the_version_comes_from(tmp_path, monkeypatch):
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[tool.x]\nversion = "9.9.9"\n[project]\nversion = "1.2.3"\nname = "ltx2-continuum"\n[a]\nname = "b"\n'
    )
    assert read_version(file) == "1.2.3"
    monkeypatch.setattr(metadata, "version", lambda name: {"ltx2-continuum": "4.5.6"}[name])
    assert read_version(tmp_path / "missing") == "4.5.6"
    file.write_text('[project]\nname = "somebody-elses"\nversion = "7.0.0"\n')
    assert read_version(file) == "4.5.6"

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert read_version(file) == UNKNOWN


def test_the_changelog_is_dated_and_knows_the_version():
    heads = re.findall(r"^## (.*)$", text("CHANGELOG.md"), re.M)
    dated = heads[1:] if heads[0] == "Unreleased" else heads
    for head in dated:
        assert re.fullmatch(r"\d+\.\d+\.\d+ – \d{4}-\d{2}-\d{2}", head), head
    assert dated[0].startswith(f"{ltx2.__version__} – ")


def test_no_merge_was_left_half_done():
    marks = re.compile(r"^(<{7} |>{7} |={7}$)", re.M)
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "web").rglob("*.md"), ROOT / "pyproject.toml"]
    assert len(texts) > 50 and not [path.name for path in texts if marks.search(path.read_text("utf-8"))]


def test_one_ruff_for_all_checks():
    pinned = dict(re.findall(r"^(\w+)==(.*)$", text("constraints.txt"), re.M))
    assert f"rev: v{pinned['ruff']}" in text(".pre-commit-config.yaml")


def test_checks_call_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.M))
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        for line in re.findall(r"\bmake (?:-s )?([a-z -]+)", path.read_text("utf-8")):
            assert set(line.split()) <= targets, f"{path.name}: make {line}"
    assert "make test" in text(".ci/run")


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs/draw_architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["rooms.svg", "walks.svg"])
def test_pictures_are_what_the_code_is(drawing, name):
    assert drawing.PICTURES[name]() == text(f"docs/{name}"), "run `make picture`"


def test_an_arrow_up_is_not_drawn(drawing, monkeypatch):
    found = drawing.arrows()
    assert {("stages", "sampling"), ("film", "continuation"), ("nodes", "stages")} <= found
    monkeypatch.setattr(drawing, "arrows", lambda: found | {("continuation", "film")})
    with pytest.raises(SystemExit, match="ltx2/continuation imports ltx2/film"):
        drawing.draw_rooms()


def test_walks_pass_through_files_that_are_there(drawing):
    for _, _, steps in drawing.WALKS:
        for place, _ in steps:
            path = ROOT / (place if place.startswith("nodes") else f"ltx2/{place}")
            assert path.is_dir() or path.with_suffix(".py").is_file(), place


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_documents_name_are_there(name):
    """Links, and paths in code marks that start with a folder of the project."""
    tops = "|".join(re.escape(p.name) for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith("."))
    content, home = text(name), (ROOT / name).parent
    links = [one.partition("#")[0] for one in re.findall(r"\]\((?!https?:)([^)\s]+)\)", content)]
    assert all((home / one).exists() for one in links), links
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", content):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", DOCUMENTS)
def test_names_in_documents_are_those_of_the_engine(name):
    for path in re.findall(r"`(ltx2(?:\.\w+)+)(?:\([^`]*\))?`", text(name)):
        if path == "ltx2.v1":  # the kind of an envelope
            continue
        try:
            assert pkgutil.resolve_name(path) is not None
        except (ImportError, AttributeError) as error:
            pytest.fail(f"{name}: {path}: {error}")


def test_what_a_service_is_told_to_use_is_in_the_room_of_the_state():
    states = text("docs/python-api.md").partition("## Making clips")[0]
    names = set(re.findall(r"`([A-Z]\w+)`", states)) | set(re.findall(r"`([a-z_]+)\(\w", states)) - {"drop"}
    names -= {"KeyError"}  # Python's own
    assert len(names) > 10 and names <= set(ltx2.continuation.__all__), names - set(ltx2.continuation.__all__)


def test_the_rooms_of_the_engine_stand_in_the_table():
    table = text("docs/architecture.md").partition("## Rooms")[2].partition("\n## ")[0]
    parts = {p.name for p in (ROOT / "ltx2").iterdir() if (p / "__init__.py").is_file()}
    files = {p.name for p in (ROOT / "ltx2").glob("[!_]*.py")}
    for row in re.findall(r"^\| `(\w+)/` \| (.*)$", table, re.M):  # folders and files that a row names lie in its room
        for name in re.findall(r"`(\w+(?:/|\.py))`", row[1]):
            assert list((ROOT / "ltx2" / row[0]).rglob(name.rstrip("/"))), name
    named = set(re.findall(r"`([\w.]+?)/?`", "".join(re.findall(r"^\| (.*?) \|", table, re.M))))
    assert named == parts | files, named ^ (parts | files)


def test_every_preset_stands_in_the_table_of_pipelines():
    table = text("docs/architecture.md").partition("## Pipelines")[2].partition("\n## ")[0]
    assert {p.name for p in PRESETS} == {n for n in re.findall(r"`(\w+)`", table)}


def test_nodes_in_the_table_of_abilities_have_these_names():
    table = text("docs/architecture.md").partition("## Abilities")[2].partition("\n## ")[0]
    known = {node["display_name"] for node in json.loads(text("locales/en/nodeDefs.json")).values()}
    named = set(re.findall(r"\*([^*\n]+)\*", table))
    assert named and named <= known, named - known


def test_the_readme_names_every_template_and_nodes_by_what_they_are_called():
    rows = [row.strip("| ").split(" | ") for row in text("README.md").splitlines() if row.startswith("| ")]
    made = {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
    shown = {name for row in rows if len(row) == 3 for name in re.findall(r"\*(\w+)\*", row[1])}
    told = set(re.findall(r"(first_steps|three_segment_film)\*", text("README.md")))  # in "Your first film"
    assert shown | told == made and len(told) == 2
    known = {node["display_name"] for node in json.loads(text("locales/en/nodeDefs.json")).values()}
    named = {name for row in rows for cell in row[1:] for name in re.findall(r"\*\*([^*]+)\*\*", cell)}
    assert len(named) > 15 and named <= known, named - known


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("web/docs/*.md"))]
)
def test_templates_that_documents_name_are_there(page):
    made = {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
    named = set(re.findall(r"(?<!official )[Tt]emplates? \*([^*]+)\*", page.read_text("utf-8")))
    assert named <= made, f"{page.name}: {named - made}"


@pytest.mark.slow
def test_the_wheel_has_the_engine_and_its_types(tmp_path):
    pytest.importorskip("setuptools")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "ltx2").symlink_to(ROOT / "ltx2")
    code = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel = tmp_path / done.stdout.split()[-1]
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith(f"ltx2_continuum-{ltx2.__version__}-")
    wanted = {str(p.relative_to(ROOT)) for p in (ROOT / "ltx2").rglob("*.py")} | {"ltx2/py.typed"}
    assert wanted <= set(names), sorted(wanted - set(names))
    assert not [name for name in names if not name.startswith(("ltx2/", "ltx2_continuum-"))]
