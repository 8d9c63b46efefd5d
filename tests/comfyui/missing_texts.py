"""What a node has to bring besides its code, and which file lacks it: a help page, two locales, a case that runs it."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .make_texts import DOCS, LOCALES, english, page

GENERATED = "run `make texts`"
HAN = re.compile("[\u4e00-\u9fff]")
# the host has these words of its menus itself
HOST_WORDS = {"conditioning"}


def complaints(nodes: dict, cases: Iterable[str], docs: Path = DOCS, locales: Path = LOCALES) -> list[str]:
    """One line for everything that is missing: the file, what it lacks, what to do. nodes: classes by short id; cases:
    names of the cases in ``test_inputs_kept``, each a node's short id with or without a remark behind a comma."""
    schemas = {cls.GET_SCHEMA().node_id: cls.GET_SCHEMA() for cls in nodes.values()}
    found = [*_pages(schemas, docs), *_english(nodes, locales), *_chinese(english(nodes), locales)]
    found += _menus(schemas, locales)
    tried = {case.partition(",")[0] for case in cases}
    found += [f"tests/comfyui/test_inputs_kept.py: add a case for {name} to CASES" for name in nodes.keys() - tried]
    found += [
        f"tests/comfyui/test_inputs_kept.py: there is no node {name}, take its case out" for name in tried - set(nodes)
    ]
    return sorted(found)


def _pages(schemas: dict, docs: Path) -> Iterator[str]:
    for path in docs.glob("*.md"):
        if path.stem not in schemas:
            yield f"web/docs/{path.name}: there is no such node, remove the page"
    for name, schema in schemas.items():
        path = docs / f"{name}.md"
        if not path.is_file():
            yield f"web/docs/{path.name} is missing: {GENERATED}, then write its Example and Limits"
            continue
        text = path.read_text("utf-8")
        if text != page(schema, text):
            yield f"web/docs/{path.name} does not follow the node's schema: {GENERATED}"
        example, _, limits = text.partition("## Example")[2].partition("## Limits")
        for title, part in (("Example", example), ("Limits", limits)):
            if len(part.strip()) <= 20:
                yield f"web/docs/{path.name}: write its {title}"


def _english(nodes: dict, locales: Path) -> Iterator[str]:
    kept, wanted = _read(locales, "en/nodeDefs.json"), english(nodes)
    for name in sorted(kept.keys() | wanted.keys()):
        if kept.get(name) != wanted.get(name):
            yield f"locales/en/nodeDefs.json does not follow the schema of {name}: {GENERATED}"


def _chinese(wanted: dict, locales: Path) -> Iterator[str]:
    file, kept = "locales/zh/nodeDefs.json", _read(locales, "zh/nodeDefs.json")
    for name in kept.keys() - wanted.keys():
        yield f"{file}: there is no node {name}, take it out"
    for name, node in wanted.items():
        if name not in kept:
            yield f"{file} lacks {name}: write its name, description, inputs and outputs in Chinese"
            continue
        if not HAN.search(kept[name].get("description", "")):
            yield f"{file}: {name}.description is not Chinese"
        for group in ("inputs", "outputs"):
            texts = kept[name].get(group, {})
            for key in texts.keys() - node[group].keys():
                yield f"{file}: {name} has no {group[:-1]} {key}, take it out"
            for key in node[group]:
                one = texts.get(key, {})
                if not one.get("name") or not HAN.search(one.get("tooltip", "")):
                    yield f"{file} lacks {name}.{group}.{key}: write a name and a Chinese tooltip"


def _menus(schemas: dict, locales: Path) -> Iterator[str]:
    groups = {part for schema in schemas.values() for part in schema.category.split("/")[1:]} - HOST_WORDS
    for language in ("en", "zh"):
        for group in groups - _read(locales, f"{language}/main.json").get("nodeCategories", {}).keys():
            yield f"locales/{language}/main.json lacks the menu {group!r} under nodeCategories"


def _read(locales: Path, name: str) -> dict:
    path = locales / name
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
