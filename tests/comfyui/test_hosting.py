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


@pytest.mark.slow
@pytest.mark.parametrize("wanted, found", [("host", {"test_real_host.py"}), ("not host", {"test_pack.py"})])
def test_what_needs_a_host_is_marked(wanted, found):
    files = [f"tests/comfyui/{name}" for name in ("test_real_host.py", "test_pack.py")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-m", wanted, *files]
    done = subprocess.run(command, cwd=hosting.ROOT, capture_output=True, text=True, check=True)
    assert {line.partition("::")[0].rpartition("/")[2] for line in done.stdout.splitlines() if "::" in line} == found


@pytest.mark.skipif(not hosting.available(), reason=hosting.NO_HOST)
def test_node_tests_are_skipped_where_they_cannot_run(bare_python, monkeypatch):
    from .test_real_host import node_tests

    monkeypatch.setenv("COMFYUI_PYTHON", str(bare_python))
    with pytest.raises(pytest.skip.Exception, match="has no pytest"):
        node_tests(hosting.main_checkout(), "tests/comfyui/test_pack.py")
