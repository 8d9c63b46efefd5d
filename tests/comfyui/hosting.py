"""Real ComfyUI servers for the tests, on the CPU: where a checkout is, its Python, starting and stopping it.

``COMFYUI_DIR`` names a checkout; without it ``~/ComfyUI`` is taken when it is there. Checkouts of other versions beside
it (``ComfyUI-0.8.0`` …) are used too. ``COMFYUI_PYTHON`` names the Python with the host's requirements; ``make host``
makes one.
"""

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIMS = Path(__file__).parent / "shims"
NO_HOST = "no ComfyUI checkout: set COMFYUI_DIR to one and run `make host` for its Python"


def main_checkout() -> Path | None:
    named = os.environ.get("COMFYUI_DIR")
    path = Path(named).expanduser() if named else Path.home() / "ComfyUI"
    return path if (path / "main.py").is_file() else None


def version_of(checkout: Path) -> str:
    found = re.search(r'__version__\s*=\s*"([^"]+)"', (checkout / "comfyui_version.py").read_text("utf-8"))
    return found[1] if found else "unknown"


def checkouts() -> dict[str, Path]:
    """Version → checkout: the main one and those beside it."""
    main = main_checkout()
    if main is None:
        return {}
    beside = [p for p in sorted(main.parent.glob("ComfyUI-*")) if (p / "main.py").is_file()]
    return {version_of(p): p for p in [*beside, main]}


def host_python() -> Path | None:
    """A Python that has what the host needs, or None."""
    places = [
        os.environ.get("COMFYUI_PYTHON"),
        ROOT / ".venv-host/bin/python",
        Path.home() / ".cache/comfy_host/venv/bin/python",
    ]
    return next((Path(p) for p in places if p and Path(p).is_file()), None)


@functools.cache
def lacks_pytest(python: Path) -> str:
    """Why tests cannot run in a host's Python, or nothing."""
    found = subprocess.run([str(python), "-c", "import pytest"], capture_output=True, env=environment())
    return f"{python} has no pytest: install it there, or run `make host`" if found.returncode else ""


def available() -> bool:
    return main_checkout() is not None and host_python() is not None


def environment() -> dict[str, str]:
    """Of a host. CONTINUUM_NEWEST names a folder of packages that go before its own, such as a newer page."""
    packages = os.pathsep.join(filter(None, (str(SHIMS), os.environ.get("CONTINUUM_NEWEST"))))
    own = {"PYTHONPATH": packages, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}


@dataclass
class Server:
    """A running host: its address, its base folder (models, input, output, temp) and its log."""

    url: str
    base: Path
    process: subprocess.Popen
    log: Path

    def get(self, path: str):
        return json.load(urllib.request.urlopen(self.url + path, timeout=60))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    checkout: Path, base: Path, pack: Path = ROOT, pack_name: str = "ltx2-continuum", extra=(), wait_seconds: int = 180
) -> Server:
    """Start a host with the pack linked in and wait until it answers. Raises RuntimeError with the log's end when it
    does not."""
    for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / pack_name
    if not link.exists():
        link.symlink_to(pack, target_is_directory=True)
    port, log = free_port(), base / "server.log"
    flags = (checkout / "comfy/cli_args.py").read_text("utf-8")
    offline = [flag for flag in ("--offline", "--disable-api-nodes") if f'"{flag}"' in flags][:1]
    command = [
        str(host_python()), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory",
        str(base),
        "--database-url", f"sqlite:///{base}/user/comfyui.db", "--disable-auto-launch", *offline, *extra,
    ]  # fmt: skip
    with log.open("wb") as sink:
        streams = {"stdout": sink, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=checkout, env=environment(), start_new_session=True, **streams)
    server = Server(f"http://127.0.0.1:{port}", base, process, log)
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            server.get("/system_stats")
            return server
        time.sleep(0.5)
    server.stop()
    raise RuntimeError(f"the host did not start: {log.read_text('utf-8', 'replace')[-3000:]}")


if __name__ == "__main__":  # python -m tests.comfyui.hosting BASE: a server to try the pack by hand
    running = start(main_checkout(), Path(sys.argv[1]).resolve())
    sys.stdout.write(f"{running.url}\n")
    with contextlib.suppress(KeyboardInterrupt):
        running.process.wait()
    running.stop()
