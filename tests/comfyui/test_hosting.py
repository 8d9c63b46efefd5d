"""What is said of a host that cannot be used, and what is left out without one."""

import subprocess
import sys
from pathlib import Path

import pytest

from . import hosting
from .conftest import REAL

pytestmark = pytest.mark.skipif(REAL, reason="the same on every host")


@pytest.fixture
def bare_python(tmp_path):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    return bare


def test_a_python_without_pytest_is_named(bare_python):
    assert str(bare_python) in hosting.lacks_pytest(bare_python) and "make host" in hosting.lacks_pytest(bare_python)
    assert hosting.lacks_pytest(Path(sys.executable)) == ""


# which tests of some files are marked, as a run of pytest finds them
MARKED = """
import sys, pytest
class Told:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("told", item.path.name, item.get_closest_marker("host") is not None)
sys.exit(pytest.main(["-p", "no:cacheprovider", "--collect-only", *sys.argv[1:]], plugins=[Told()]))
"""


@pytest.mark.slow
def test_what_needs_a_host_is_marked():
    files = ("test_real_host.py", "test_pack.py")
    # without the run of node tests in the host's own Python, beside which those of this one are left out
    command = [sys.executable, "-c", MARKED, "-k", "not own_python", *(f"tests/comfyui/{name}" for name in files)]
    done = subprocess.run(command, cwd=hosting.ROOT, capture_output=True, text=True, check=True)
    told = {tuple(line.split()[1:]) for line in done.stdout.splitlines() if line.startswith("told ")}
    assert told == {("test_real_host.py", "True"), ("test_pack.py", "False")}


@pytest.mark.skipif(not hosting.available(), reason=hosting.NO_HOST)
def test_node_tests_are_skipped_where_they_cannot_run(bare_python, monkeypatch):
    from .test_real_host import node_tests

    monkeypatch.setenv("COMFYUI_PYTHON", str(bare_python))
    with pytest.raises(pytest.skip.Exception, match="has no pytest"):
        node_tests(hosting.main_checkout(), "tests/comfyui/test_pack.py")
