"""Small CPU tensors everywhere: one thread each is fastest, and the same result on every machine."""

import contextlib
import functools
import gc
import json
import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
if hasattr(os, "register_at_fork"):
    # what a fork finds is not its own to free: a picture's scaler waits for threads that a fork does not have
    os.register_at_fork(after_in_child=gc.freeze)
with contextlib.suppress(ImportError):  # a host's Python need not have it
    from hypothesis import settings

    # what is drawn is the same in every run; `--hypothesis-profile=default` draws anew
    settings.register_profile("same", derandomize=True)
    settings.load_profile("same")
# rooms and files whose tests run whole programs, films, trainings or campaigns
SLOW = (
    *("benchmarks/", "cli/", "examples/", "fuzz/", "mini/", "parallel/", "stages/placing/", "training/"),
    *("networks/transformer/test_compiled", "stages/test_pipeline", "stages/test_text_cache", "stages/test_doubling"),
    *("comfyui/test_film_nodes", "comfyui/test_road", "comfyui/test_sound_node", "comfyui/test_story_node"),
    *("checkpoint/test_lora_networks", "media/test_found_files", "media/test_refusing_disks", "stages/test_sound"),
    *("comfyui/test_console", "comfyui/test_stages", "media/test_film_extension", "story/test_bridges"),
    "networks/video_vae/test_diffusion_tiling",
)
# files whose tests share what the first of them makes: one worker runs them all
TOGETHER = (
    *("tests/test_house_rules", "tests/test_import_rules", "tests/test_portable_code", "tests/story/test_faults"),
    *("tests/networks/transformer/test_parity", "tests/networks/video_vae/test_parity_diffusion"),
)
# names the folder of a run's tiny checkpoints for tests that it starts in a Python of their own
TINY_FOLDER = "CONTINUUM_TEST_TINY"


@pytest.fixture(scope="session")
def tiny(request, tmp_path_factory):
    """``tiny("2.3")`` → role → path of tiny checkpoints in the released layout; written once a run, for all of its
    processes, which leave them as they are."""
    own = tmp_path_factory.getbasetemp()
    of_run = own.parent if hasattr(request.config, "workerinput") else own
    folder = Path(os.environ.get(TINY_FOLDER) or of_run / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TINY_FOLDER, str(folder))
        yield functools.cache(lambda version: written_once(folder / version, version))


def written_once(folder: Path, version: str) -> dict[str, Path]:
    """Role → path of the tiny checkpoints in ``folder``, which whoever comes first writes."""
    from ltx2.atomic_files import atomic_folder, file_lock
    from ltx2.tiny.write import write_tiny

    roles = folder / "roles.json"
    with file_lock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            with atomic_folder(folder) as partial:
                paths = write_tiny(partial, version)
                places = {role: path.relative_to(partial).as_posix() for role, path in paths.items()}
                (partial / roles.name).write_text(json.dumps(places), "utf-8")
    return {role: folder / place for role, place in json.loads(roles.read_text("utf-8")).items()}


@pytest.hookimpl(hookwrapper=True)
def pytest_collection():
    """Modules and tests stay to the end: nobody looks through them for garbage, now or later."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """Mark what needs a real ComfyUI as ``host`` and what takes long as ``slow``, so that both can be left out."""
    for item in items:
        if any(f"tests/{place}" in item.nodeid for place in SLOW):
            item.add_marker("slow")
        if "comfyui/test_real_" in item.nodeid or {"host", "older_host"} & set(item.fixturenames):
            item.add_marker("host")


class OncePerRun:
    """Node tests that a real host's own Python runs in this very run are not run on the stand-in too."""

    @pytest.hookimpl(trylast=True)  # when -m and -k have left out theirs
    def pytest_collection_modifyitems(self, config, items):
        if not any("test_node_tests_pass_in_the_hosts_own_python" in item.nodeid for item in items):
            return
        from .comfyui import hosting

        python = hosting.host_python() if hosting.available() else None
        if python and not hosting.lacks_pytest(python):
            twice = [item for item in items if _runs_there(item)]
            items[:] = [item for item in items if not _runs_there(item)]
            config.hook.pytest_deselected(items=twice)


def pytest_configure(config):
    config.pluginmanager.register(OncePerRun())


def _runs_there(item) -> bool:
    return "tests/comfyui/" in item.nodeid and "pack" in item.fixturenames and not item.get_closest_marker("host")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Spread tests over the workers one by one, but keep together those on a real ComfyUI, since they share servers,
    and those of a file whose tests share what the first of them makes."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            if "comfyui/test_real_" in nodeid and "own_python" not in nodeid:
                return "real host"
            return nodeid.partition("::")[0] if nodeid.startswith(TOGETHER) else nodeid

    return Scheduling(config, log)
