"""The pack on real ComfyUI servers: node tests in the host's Python, every version's start, and the contract automation
reads."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ltx2.tiny.configs import VERSIONS

from . import hosting, real

pytestmark = real.pytestmark
SNAPSHOT = Path(__file__).parent / "data/object_info.json"


@pytest.fixture
def written(tiny):
    """The tiny checkpoints that tests in another Python read are there, and their folder is in the environment."""
    return [tiny(version) for version in VERSIONS]


def test_node_tests_pass_in_the_hosts_own_python(written):
    files = sorted(str(p) for p in Path(__file__).parent.glob("test_*.py") if not p.name.startswith("test_real"))
    node_tests(hosting.main_checkout(), *files)


@pytest.mark.skipif(real.OLDEST not in hosting.checkouts(), reason="the oldest ComfyUI is not beside the main one")
def test_partial_loading_on_the_oldest_version(written):
    """What a host leaves in main memory, and how it brings that to the card, differs from version to version."""
    file = str(Path(__file__).parent / "test_partial_loading.py")
    node_tests(hosting.checkouts()[real.OLDEST], file, "-k", "2.0-half or every_format or own_upsampler or blocks_own")


def node_tests(checkout: Path, *what: str) -> None:
    """Tests in the host's own Python, which reads the tiny checkpoints of this run."""
    if reason := hosting.lacks_pytest(hosting.host_python()):
        pytest.skip(reason)
    root = str(hosting.ROOT)
    command = [str(hosting.host_python()), "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", root, *what]
    environment = {**hosting.environment(), "CONTINUUM_HOST": "real", "COMFYUI_DIR": str(checkout)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-1000:]}"


@pytest.fixture(scope="module")
def servers(tmp_path_factory, host, older_host):
    """Every version: → (what it says of our nodes, its log). Those that no other test needs run for this alone, two at
    a time."""
    main = hosting.version_of(hosting.main_checkout())
    kept = {main: host, **({real.OLDEST: older_host} if real.OLDEST in hosting.checkouts() else {})}

    def look(version: str):
        with real.running(tmp_path_factory.mktemp("start"), version) as one:
            return one.server.get("/object_info"), one.log

    others = [version for version in hosting.checkouts() if version not in kept]
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(others, pool.map(look, others)))
    return {**found, **{version: (one.server.get("/object_info"), one.log) for version, one in kept.items()}}


def test_every_version_starts_with_all_nodes(servers, nodes):
    assert len(servers) == len(hosting.checkouts())
    for version, (info, log) in servers.items():
        # the host's own extras may miss a library of this machine
        failed = re.search(r"(IMPORT FAILED|Cannot import)[^\n]*continuum", log)
        assert not failed, f"{version}: {log[-2000:]}"
        missing = {real.PREFIX + name for name in nodes} - set(info)
        assert not missing, f"{version} lacks {missing}"
        for name in nodes:
            assert info[real.PREFIX + name]["category"].startswith("LTX-2 Continuum/")


def normalised(info: dict) -> dict:
    """Our nodes as automation sees them: file lists, which differ from machine to machine, emptied."""

    def one(spec: list) -> list:
        kind, *rest = spec
        options = dict(rest[0]) if rest else {}
        files = isinstance(options.get("options"), list) and any(
            str(v).endswith((".safetensors", ".png", "[output]", ".gguf")) for v in options["options"]
        )
        if isinstance(options.get("options"), list) and (files or options["options"] in ([], ["none"], ["mini"])):
            options["options"], kind = "files", "COMBO"
            options.pop("default", None)
        return [kind, options]

    found = {}
    for name in sorted(info):
        if name.startswith(real.PREFIX):
            node = info[name]
            inputs = {
                group: {key: one(spec) for key, spec in given.items()}
                for group, given in node["input"].items()
                if group != "hidden"
            }
            kept = ("output", "output_name", "display_name", "description", "category", "output_node", "input_order")
            found[name] = {"input": inputs, **{key: node[key] for key in kept}}
            found[name]["input_order"] = {g: names for g, names in node["input_order"].items() if g != "hidden"}
    return found


def test_object_info_is_what_was_recorded(host):
    """Automation is written against this: names never go away, and new inputs are appended.

    After a wanted change ``python -m tests.comfyui.make_workflows`` records it.
    """
    found, kept = normalised(host.server.get("/object_info")), json.loads(SNAPSHOT.read_text("utf-8"))
    assert sorted(found) == sorted(kept)
    for name, node in found.items():
        for key, value in node.items():
            assert value == kept[name][key], f"{name}.{key}"
