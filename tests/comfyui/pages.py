"""ComfyUI's page in a headless browser: what that needs, and one browser for all visits of a run."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from concurrent import futures
from pathlib import Path

import pytest

from . import real

SCRIPT = Path(__file__).parent / "page/page.mjs"
JS = Path(os.environ.get("HOST_JS") or Path.home() / ".cache/comfy_host/js")
SHOTS = os.environ.get("CONTINUUM_SHOTS")  # a folder to keep screenshots in
LONGEST_SECONDS = 400  # of one visit


def browser_program() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


NEEDED = {
    "node": shutil.which("node"),
    "chromium": browser_program(),
    f"playwright-core in {JS} (or HOST_JS)": (JS / "node_modules/playwright-core").is_dir(),
}
missing = [what for what, found in NEEDED.items() if not found]
pytestmark = [*real.pytestmark, pytest.mark.skipif(bool(missing), reason=f"the page needs {', '.join(missing)}")]


class Browser:
    """Runs page.mjs, which answers one visit after another."""

    def __init__(self, process: subprocess.Popen, log):
        self.process, self.log = process, log

    def visit(self, host, shots: Path | str | None = SHOTS, **plan) -> dict:
        """Do what a plan says on the page of a host; screenshots lie in a folder for each renderer and language."""
        if shots:
            shots = Path(shots) / ("vue" if plan.get("vue") else "canvas") / plan.get("language", "en")
            shots.mkdir(parents=True, exist_ok=True)
        given = {"url": host.server.url, "shots": str(shots) if shots else None, **plan}
        self.process.stdin.write(json.dumps(given) + "\n")
        self.process.stdin.flush()
        with futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.process.stdout.readline)
            try:
                line = answer.result(LONGEST_SECONDS)
            except futures.TimeoutError:
                self.process.kill()
                raise
        self.log.seek(0)
        assert line, self.log.read()
        report = json.loads(line)
        assert "failure" not in report, report["failure"]
        return report


@contextlib.contextmanager
def browsing():
    """A browser for as long as the block runs."""
    command = ["node", str(SCRIPT), str(JS), browser_program()]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        process = subprocess.Popen(command, encoding="utf-8", **streams)
        try:
            yield Browser(process, log)
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
