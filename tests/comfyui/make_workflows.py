"""Write ``example_workflows``: the page's JSON and the API form of each workflow in ``workflow_texts``, from a host's
/object_info.

    python -m tests.comfyui.make_workflows

Run it again when nodes changed. Thumbnails are made too where there is a browser.
"""

import functools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ltx2 import __version__

from . import hosting, mini_templates, real
from .workflow_texts import MODELS, NEGATIVE, OURS, WORKFLOWS, Link, Node, Workflow

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
COLUMN, GAP_X, GAP_Y = 380, 70, 50
TITLE, MARGIN = 70, 20  # of a frame
TEXT, SMALL_TEXT = 160, 70  # of a box to type in
CARD, PICTURE, FILM = 90, 280, 330  # what nodes show below their inputs
RESULTS = {
    **dict.fromkeys(("MakeState", "AVLatentToState"), CARD),
    **dict.fromkeys(("LoadState", "LoadAudio"), CARD + SMALL_TEXT),
    **dict.fromkeys(("Generate", "SaveState"), CARD + FILM),
    **dict.fromkeys(("LoadImage", "LoadVideo", "SaveVideo", "DecodeToFile"), PICTURE),
    "JoinSegments": 2 * CARD,
    "Story": CARD + 2 * PICTURE,
}
SCREEN_WIDTH = 2640  # of a row, beside the note, at 60 percent
REGISTRY_ID = "ltx2-continuum"


def inputs_of(info: dict, kind: str) -> list[tuple[str, Any, dict, bool]]:
    """Inputs of a node in the page's order: (name, type or list of choices, options, optional)."""
    found = []
    for group in ("required", "optional"):
        for name in info[kind]["input_order"].get(group, []):
            spec = info[kind]["input"][group][name]
            found.append((name, spec[0], spec[1] if len(spec) > 1 else {}, group == "optional"))
    return found


def is_widget(kind, options: dict) -> bool:
    if isinstance(kind, str) and "," in kind:  # several types; a widget where it has a default
        return "default" in options
    return (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput")


def default_of(kind, options: dict):
    if "default" in options:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options", [""])
    first = choices[0] if choices else ""
    return first["key"] if isinstance(first, dict) else first


def api_form(info: dict, workflow: Workflow) -> dict:
    ids = {node.name: str(index) for index, node in enumerate(workflow.nodes, 1)}
    kinds = {node.name: node.kind for node in workflow.nodes}

    def value(given):
        return (
            [ids[given.node], info[kinds[given.node]]["output_name"].index(given.output)]
            if isinstance(given, Link)
            else given
        )

    form = {}
    for node in workflow.nodes:
        inputs = {}
        for name, kind, options, optional in inputs_of(info, node.kind):
            if name in node.inputs:
                inputs[name] = value(node.inputs[name])
            elif is_widget(kind, options) and not (optional and not node.kind.startswith(OURS)):
                inputs[name] = default_of(kind, options)
        assert set(node.inputs) <= set(inputs), (node.kind, set(node.inputs) - set(inputs))
        title = node.title or info[node.kind]["display_name"]
        form[ids[node.name]] = {"class_type": node.kind, "inputs": inputs, "_meta": {"title": title}}
    return form


def height_of(info: dict, node: Node) -> int:
    """Of a node with its card, and room for what a run shows on it."""
    sockets, height = 0, 40
    for name, kind, options, _ in inputs_of(info, node.kind):
        if is_widget(kind, options):
            small = name == "negative_prompt" or node.title == NEGATIVE
            text = SMALL_TEXT if small else TEXT
            height += text if options.get("multiline") else 54 if options.get("control_after_generate") else 26
        else:
            sockets += 1
    height += 22 * max(sockets, len(info[node.kind]["output_name"]))
    return height + RESULTS.get(node.kind.removeprefix(OURS), 0)


def in_groups(info: dict, workflow: Workflow) -> tuple[dict[str, list[int]], list[dict]]:
    """Places of nodes by name, and their frames as the page saves them: frames from left to right, in rows that fit
    a screen, each with its nodes in columns."""
    stacks: dict[str, list[list[Node]]] = {}
    for node in workflow.nodes:
        columns = stacks.setdefault(node.group or "", [])
        columns += [[] for _ in range(node.column + 1 - len(columns))]
        columns[node.column].append(node)
    places: dict[str, list[int]] = {}
    frames: list[dict] = []
    left, top, row = 0, 0, 0
    for number, (title, columns) in enumerate(stacks.items(), 1):
        width = len(columns) * (COLUMN + GAP_X) - GAP_X
        if left + width > SCREEN_WIDTH:
            left, top, row = 0, top + row + GAP_Y, 0
        height = 0
        for column, nodes in enumerate(columns):
            y = top + TITLE
            for node in nodes:
                places[node.name] = [left + column * (COLUMN + GAP_X), y]
                y += height_of(info, node) + GAP_Y
            height = max(height, y - top)
        box = [left - MARGIN, top - MARGIN, width + 2 * MARGIN, height]
        frames.append({"id": number, "title": title, "bounding": box, "color": "#3f789e", "font_size": 24, "flags": {}})
        left, row = left + width + GAP_X, max(row, height)
    return places, frames


def page_form(info: dict, workflow: Workflow) -> dict:
    """What the page saves: positions, links by number, widget values in order."""
    ids = {node.name: index for index, node in enumerate(workflow.nodes, 1)}
    places, groups = in_groups(info, workflow)
    nodes, links = [], _Links(info, workflow, ids)
    for node in workflow.nodes:
        sockets, values = _sockets(info, node, links)
        entry = {
            "id": ids[node.name],
            "type": node.kind,
            "pos": places[node.name],
            "size": [COLUMN, height_of(info, node)],
            "flags": {},
            "order": ids[node.name] - 1,
            "mode": 0,
            "inputs": sockets,
            "outputs": [],
            "properties": _properties(node),
            "widgets_values": values,
        }
        if node.title:
            entry["title"] = node.title
        nodes.append(entry)
    for node, entry in zip(workflow.nodes, nodes):
        described = zip(info[node.kind]["output_name"], info[node.kind]["output"], links.of_outputs[node.name])
        entry["outputs"] = [{"name": name, "type": kind, "links": found or None} for name, kind, found in described]
    nodes.append(_note(workflow, len(nodes) + 1))
    return {
        "id": _uuid(workflow.title), "revision": 0, "last_node_id": len(nodes), "last_link_id": len(links.rows),
        "nodes": nodes, "links": links.rows,
        "groups": groups, "config": {}, "extra": {}, "version": 0.4,
    }  # fmt: skip


class _Links:
    """Links of a page, numbered as they come. rows: as the page saves them; of_outputs: node → numbers by slot."""

    def __init__(self, info: dict, workflow: Workflow, ids: dict[str, int]):
        self.info, self.ids, self.rows = info, ids, []
        self.kinds = {node.name: node.kind for node in workflow.nodes}
        self.of_outputs = {node.name: [[] for _ in info[node.kind]["output_name"]] for node in workflow.nodes}

    def add(self, given: Link, node: Node, socket: int) -> int:
        source = self.info[self.kinds[given.node]]
        slot, number = source["output_name"].index(given.output), len(self.rows) + 1
        self.rows.append([number, self.ids[given.node], slot, self.ids[node.name], socket, source["output"][slot]])
        self.of_outputs[given.node][slot].append(number)
        return number


def _sockets(info: dict, node: Node, links: _Links) -> tuple[list[dict], list]:
    """A node's inputs as the page saves them, and its widgets' values."""
    sockets: list[dict] = []
    values: list = []
    for name, kind, options, optional in inputs_of(info, node.kind):
        given = node.inputs.get(name)
        widget = is_widget(kind, options)
        socket: dict[str, Any] = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind, "link": None}
        if optional and not widget:
            socket["shape"] = 7
        if widget:
            socket["widget"] = {"name": name}
            values.append(default_of(kind, options) if given is None or isinstance(given, Link) else given)
            if options.get("control_after_generate"):
                values.append(node.control)
            if options.get("image_upload"):
                values.append("image")
        if isinstance(given, Link):
            socket["link"] = links.add(given, node, len(sockets))
        sockets.append(socket)
    return sockets, values


def _properties(node: Node) -> dict[str, Any]:
    """Where a node comes from, and the model files that it names."""
    ours = node.kind.startswith(OURS)
    origin = {"cnr_id": REGISTRY_ID, "ver": __version__} if ours else {"cnr_id": "comfy-core", "ver": "0.16.0"}
    named = [] if "prompt" in node.inputs else [value for value in node.inputs.values() if value in MODELS]
    models = [{"name": n, "url": MODELS[n][1], "directory": MODELS[n][0]} for n in named]
    return {"Node name for S&R": node.kind, **origin, **({"models": models} if models else {})}


def _note(workflow: Workflow, number: int) -> dict:
    names = [
        name for node in workflow.nodes for name in node.inputs.values() if isinstance(name, str) and name in MODELS
    ]
    files = "\n".join(f"- **models/{MODELS[name][0]}**: [{name}]({MODELS[name][1]})" for name in dict.fromkeys(names))
    text = f"## {workflow.title}\n\n{workflow.note}\n"
    text += f"\n**Models**\n\n{files}\n" if files else ""
    return {
        "id": number, "type": "MarkdownNote", "pos": [-COLUMN - GAP_X, 0], "size": [COLUMN, 420], "flags": {},
        "order": number - 1,
        "mode": 0, "inputs": [], "outputs": [], "properties": {}, "widgets_values": [text],
    }  # fmt: skip


def _uuid(text: str) -> str:
    import uuid

    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def write(info: dict) -> None:
    (real.WORKFLOWS / "api").mkdir(parents=True, exist_ok=True)
    for name, workflow in WORKFLOWS.items():
        for path, form in ((f"{name}.json", page_form(info, workflow)), (f"api/{name}.json", api_form(info, workflow))):
            (real.WORKFLOWS / path).write_text(json.dumps(form, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    from ltx2.tiny.write import write_tiny

    if not hosting.available():
        sys.exit(hosting.NO_HOST)
    with tempfile.TemporaryDirectory() as folder:
        files = functools.cache(lambda version: write_tiny(Path(folder) / version, version))
        base = real.make_base(Path(folder) / "host", files, native=True)
        real.put_inputs(base)
        mini_templates.put_inputs(base)
        with real.running(base) as host:
            write(host.server.get("/object_info"))
            from .pages import missing
            from .test_real_host import SNAPSHOT, normalised
            from .test_real_page import thumbnails

            SNAPSHOT.write_text(
                json.dumps(normalised(host.server.get("/object_info")), indent=1, ensure_ascii=False) + "\n", "utf-8"
            )
            from . import make_pictures

            if not missing:
                thumbnails(host, Path(folder))
                make_pictures.make(host)
                make_pictures.make_board(host, Path(folder))
