"""Small CPU tensors everywhere: one thread each is fastest, and the same result on every machine."""

import functools

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """``tiny("2.3")`` → role → path of tiny checkpoints in the released layout; written once for each worker of a
    run."""
    from ltx2.tiny.write import write_tiny

    return functools.cache(lambda version: write_tiny(tmp_path_factory.mktemp(f"tiny-{version}"), version))


def pytest_collection_modifyitems(items):
    """Mark what needs a real ComfyUI as ``host``, so that ``-m "not host"`` leaves it out."""
    for item in items:
        if "comfyui/test_real_" in item.nodeid or {"host", "older_host"} & set(item.fixturenames):
            item.add_marker("host")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Spread tests over the workers one by one, but keep those on a real ComfyUI together, since they share servers."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            shares = "comfyui/test_real_" in nodeid and "own_python" not in nodeid
            return "real host" if shares else nodeid

    return Scheduling(config, log)
