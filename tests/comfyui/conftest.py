"""The pack imported as a host imports it: on a small stand-in, or on a real ComfyUI where CONTINUUM_HOST=real says so.

The same node tests run both ways; ``test_real_host.py`` starts the second run in the host's own Python.
"""

import contextlib
import functools
import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from . import hosting

REAL = os.environ.get("CONTINUUM_HOST") == "real"
PACK_NAME = "continuum_pack"


def import_pack():
    if PACK_NAME in sys.modules:
        return sys.modules[PACK_NAME]
    if REAL:
        sys.path.insert(0, str(hosting.main_checkout()))
        # the attention that people's machines run on a card; servers started with --cpu alone run the other one
        sys.argv = ["host", "--cpu", "--use-pytorch-cross-attention"]
        import comfy.options

        comfy.options.enable_args_parsing()
        import folder_paths

        # tests encode alike prompts and mean it; test_text_cache.py has the folder back
        del folder_paths.get_system_user_directory
    else:
        sys.path.insert(0, str(Path(__file__).parent / "standin"))
    where = hosting.ROOT / "__init__.py"
    spec = importlib.util.spec_from_file_location(PACK_NAME, where, submodule_search_locations=[str(hosting.ROOT)])
    sys.modules[PACK_NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACK_NAME])
    if REAL:
        leave_constants()
    return sys.modules[PACK_NAME]


def leave_constants():
    """Hypothesis looks for telling values in all code that is no installed package; the host's need not be read."""
    with contextlib.suppress(ImportError):
        from hypothesis.internal.conjecture import providers

        outside = [module for module in sys.modules.values() if not own_code(getattr(module, "__file__", None))]
        getattr(providers, "_seen_modules", set()).update(map(id, outside))


def own_code(file) -> bool:
    return file is None or Path(file).is_relative_to(hosting.ROOT)


@pytest.fixture(scope="session")
def pack():
    return import_pack()


@pytest.fixture(scope="session")
def nodes(pack):
    """Node classes by id without the prefix."""
    import asyncio

    async def listed():
        return await pack.comfy_entrypoint().get_node_list()

    found = {cls.GET_SCHEMA().node_id: cls for cls in asyncio.run(listed())}
    return {name.removeprefix("LTX2Continuum"): cls for name, cls in found.items()}


@contextlib.contextmanager
def host_folders(base: Path):
    """Host folders (input, output, temp, models) below ``base`` while the block runs."""
    import folder_paths

    if not REAL:
        before, folder_paths.base = folder_paths.base, str(base)
        yield base
        folder_paths.base = before
        return
    before = folder_paths.get_input_directory(), folder_paths.get_output_directory(), folder_paths.get_temp_directory()
    setters = folder_paths.set_input_directory, folder_paths.set_output_directory, folder_paths.set_temp_directory
    for setter, name in zip(setters, ("input", "output", "temp")):
        (base / name).mkdir()
        setter(str(base / name))
    yield base
    for setter, folder in zip(setters, before):
        setter(folder)


@pytest.fixture
def folders(pack, tmp_path):
    """Host folders of this test alone."""
    with host_folders(tmp_path) as base:
        yield base


@pytest.fixture
def few_steps(pack, monkeypatch):
    """All presets denoise in two steps, for nodes that have no input for another number."""
    presets = sys.modules[f"{PACK_NAME}.ltx2.stages.presets"]
    for name in ("PRESETS", "SOUND_PRESETS"):
        fewer = [replace(one, denoise=replace(one.denoise, num_inference_steps=2)) for one in getattr(presets, name)]
        monkeypatch.setattr(presets, name, tuple(fewer))


@pytest.fixture(scope="session")
def run(nodes):
    """Execute one node by its short id and give its outputs: run("MakeState", …) → tuple."""

    def call(name, **inputs):
        return nodes[name].EXECUTE_NORMALIZED(**inputs)

    return call


@pytest.fixture(scope="session")
def made(run, pack, tiny, tmp_path_factory):
    """One value of every kind that travels between nodes, shared by all tests of a worker, which leave them as they
    are."""
    from .made import make
    from .shelf import shelves

    with host_folders(tmp_path_factory.mktemp("made")) as folders, shelves(folders, tiny) as put:
        return make(run, pack.nodes.host, put("2.3"), folders / "output")


@pytest.fixture(scope="session")
def parts(run, tiny, tmp_path_factory):
    """``parts("2.3", True)`` → the values that the loading nodes give, by input name; with the distilled LoRA or
    without."""
    from .shelf import load, shelves

    @functools.cache
    def load_once(version, distilled):
        with host_folders(tmp_path_factory.mktemp("parts")) as folders, shelves(folders, tiny) as put:
            return load(run, put(version), version, distilled)

    return load_once


@pytest.fixture(scope="session")
def host(tmp_path_factory, tiny):
    """A real server of the main checkout with tiny models, shared by all tests that need one."""
    from . import real

    base = real.make_base(tmp_path_factory.mktemp("host"), tiny, native=True)
    real.put_inputs(base)
    with real.running(base) as one:
        yield one


@pytest.fixture(scope="session")
def older_host(tmp_path_factory, tiny):
    """A second machine: a server of the oldest supported version, where its checkout is there, with models and no
    files."""
    from . import real

    version = real.OLDEST if real.OLDEST in hosting.checkouts() else None
    with real.running(real.make_base(tmp_path_factory.mktemp("older"), tiny), version) as one:
        yield one


@pytest.fixture(scope="session")
def browser():
    """A browser for all tests on the host's page."""
    from . import pages

    with pages.browsing() as one:
        yield one
