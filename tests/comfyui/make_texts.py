"""Write what follows from the nodes' schemas: ``locales/en/nodeDefs.json`` and the tables in ``web/docs``.

    python -m tests.comfyui.make_texts

What stands below the tables in a help page, and the Chinese locale, is written by hand; ``test_texts`` says what is
missing there.
"""

import json
import re
import sys
from pathlib import Path

from . import hosting

DOCS, LOCALES = hosting.ROOT / "web/docs", hosting.ROOT / "locales"


def english(nodes: dict) -> dict:
    """Locale entries of all nodes, from their schemas."""
    found = {}
    for cls in nodes.values():
        schema = cls.GET_SCHEMA()
        found[schema.node_id] = {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {
                one.id: {"name": one.display_name or one.id.replace("_", " "), "tooltip": one.tooltip}
                for one in schema.inputs
            },
            "outputs": {
                str(slot): {"name": one.display_name.replace("_", " "), "tooltip": one.tooltip}
                for slot, one in enumerate(schema.outputs)
            },
        }
    return dict(sorted(found.items()))


def tables(schema) -> str:
    """The part of a help page that lists inputs and outputs."""

    def row(name: str, kind: str, text: str) -> str:
        # the page shows it in a narrow panel, whose right end is seen last
        return f"| `{name}` | {text.replace('|', '/')} | {kind} |"

    lines = ["## Inputs", "", "| input | what | type |", "| --- | --- | --- |"]
    for one in schema.inputs:
        kind = one.io_type.replace(",", " or ")
        lines.append(row(one.id, kind + (", optional" if one.optional else "") + _range(one), one.tooltip))
    lines += ["", "## Outputs", "", "| output | what | type |", "| --- | --- | --- |"]
    lines += [row(one.display_name, one.io_type, one.tooltip or "") for one in schema.outputs]
    return "\n".join(lines) + "\n"


def _range(one) -> str:
    given = getattr(one, "extra", vars(one))  # of the stand-in, or of a host
    low, high, default = given.get("min"), given.get("max"), getattr(one, "default", None)
    if low is None or high is None:
        return ""
    return f", {low:g} to {high:g}, default {default:g}" if high < 1e6 else f", from {low:g}, default {default:g}"


def page(schema, existing: str) -> str:
    """A help page with fresh head and tables; what stands from ``## Example`` on is kept."""
    kept = re.search(r"^## Example.*", existing, re.S | re.M)
    head = f"# {schema.display_name}\n\n{schema.description}\n\n{tables(schema)}\n"
    return head + (kept[0].strip() if kept else "## Example\n\n## Limits") + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent / "standin"))
    import asyncio

    from .conftest import import_pack

    classes = asyncio.run(import_pack().comfy_entrypoint().get_node_list())
    listed = {cls.GET_SCHEMA().node_id: cls for cls in classes}
    (LOCALES / "en").mkdir(parents=True, exist_ok=True)
    (LOCALES / "en/nodeDefs.json").write_text(json.dumps(english(listed), indent=1, ensure_ascii=False) + "\n", "utf-8")
    for name, cls in listed.items():
        path = DOCS / f"{name}.md"
        path.write_text(page(cls.GET_SCHEMA(), path.read_text("utf-8") if path.exists() else ""), "utf-8")
