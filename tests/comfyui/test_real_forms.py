"""Every template and its API twin against the nodes of a real ComfyUI: inputs that it has, links that fit, both forms
the same graph. The host itself ignores an input that it does not know."""

import json

import pytest

from . import real

pytestmark = real.pytestmark
NAMES = sorted(path.stem for path in real.WORKFLOWS.glob("*.json"))
NOTES = ("MarkdownNote", "Note")
CHANGING = ("DYNAMIC", "AUTOGROW")  # kinds of inputs that stand for others


@pytest.fixture(scope="module")
def nodes(host):
    """The host's nodes: class → inputs (name → (required, kind)) and kinds of outputs."""

    def kind(given) -> str:
        return given if isinstance(given, str) else "COMBO"

    def inputs(parts: dict) -> dict:
        shown = [(part, parts.get(part) or {}) for part in ("required", "optional")]
        return {name: (part == "required", kind(one[0])) for part, ones in shown for name, one in ones.items()}

    found = host.server.get("/object_info")
    return {name: (inputs(one["input"]), [kind(out) for out in one["output"]]) for name, one in found.items()}


def fits(output: str, taken: str) -> bool:
    one, other = set(output.split(",")), set(taken.split(","))
    return bool(one & other) or "*" in one | other or taken.startswith("COMFY_")


def wrong_inputs(form: dict, nodes: dict) -> list[str]:
    """What a host would not understand of an API form."""
    found = []
    for key, node in form.items():
        known, _ = nodes[node["class_type"]]
        grow = {name for name, (_, kind) in known.items() if any(word in kind for word in CHANGING)}
        unknown = [name for name in node["inputs"] if name not in known and name.partition(".")[0] not in grow]
        missing = [
            name for name, (needed, _) in known.items() if needed and name not in {*node["inputs"], *grow}
        ]  # fmt: skip
        found += [f"{key} {node['class_type']}: {what} {name}" for what, names in
                  (("unknown", unknown), ("missing", missing)) for name in names]  # fmt: skip
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                outputs = nodes[form[value[0]]["class_type"]][1]
                if not (value[1] < len(outputs) and fits(outputs[value[1]], known.get(name, (False, "*"))[1])):
                    found.append(f"{key} {node['class_type']}: {name} does not take output {value} of {outputs}")
    return found


def links_of(graph: dict) -> set[tuple]:
    """(node, input, node before, its output) of a graph as the page holds it; both ends know each link."""
    by_id, found = {node["id"]: node for node in graph["nodes"]}, set()
    for number, before, slot, after, place, _ in graph["links"]:
        taken = by_id[after]["inputs"][place]
        assert taken["link"] == number and number in by_id[before]["outputs"][slot]["links"]
        found.add((str(after), taken["name"], str(before), slot))
    told = [one["link"] for node in graph["nodes"] for one in node.get("inputs", ()) if one.get("link") is not None]
    assert sorted(told) == sorted(link[0] for link in graph["links"])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_template_and_its_twin_fit_the_host(nodes, name):
    form = real.api_workflow(name)
    assert wrong_inputs(form, nodes) == []
    graph = json.loads((real.WORKFLOWS / f"{name}.json").read_text("utf-8"))
    assert (real.WORKFLOWS / f"{name}.jpg").is_file()
    shown = {str(node["id"]): node for node in graph["nodes"] if node["type"] not in NOTES}
    assert {key: node["type"] for key, node in shown.items()} == {key: node["class_type"] for key, node in form.items()}
    for node in shown.values():
        known, outputs = nodes[node["type"]]
        assert [one["type"] for one in node.get("outputs", ())] == outputs, node["type"]
        assert {one["name"] for one in node.get("inputs", ())} <= set(known), node["type"]
    wired = {
        (key, name, *value) for key, node in form.items() for name, value in node["inputs"].items()
        if isinstance(value, list)
    }  # fmt: skip
    assert links_of(graph) == wired


def test_what_does_not_fit_is_seen(nodes):
    form = real.api_workflow("continue_from_state")
    (key,) = real.nodes_of(form, "Generate")
    inputs = form[key]["inputs"]
    inputs |= {"colour": 3, "state": inputs["models"]}
    del inputs["prompt"]
    told = " ".join(wrong_inputs(form, nodes))
    assert "unknown colour" in told and "missing prompt" in told and "state does not take" in told
