"""A real ComfyUI whose memory really runs out: it says so, lives on without a half file, and makes the film that it
made before."""

import copy
import re

import pytest

from examples.comfy_client import RunFailed

from . import real

resource = pytest.importorskip("resource")
BOUND = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux bounds the memory of another process")
pytestmark = [*real.pytestmark, BOUND]
# more than a small film takes, and less than one piece of a large one
ROOM_BYTES = 64 * 2**20
SAID = r"\).*(can't allocate memory|[Oo]ut of memory|Unable to allocate|no memory left)"


def address_space(pid: int) -> int:
    """Bytes that a process has mapped."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(re.search(r"VmSize:\s+(\d+) kB", file.read())[1]) * 1024


def bound(pid: int, size: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def changed(workflow: dict, kind: str, **inputs) -> dict:
    workflow = copy.deepcopy(workflow)
    (node,) = real.nodes_of(workflow, kind)
    workflow[node]["inputs"].update(inputs)
    return workflow


@pytest.fixture
def bounded(host):
    """``bounded(room)``: from now on, to the end of the test, the host gets no more memory than ``room`` beyond what it
    has."""
    pid = host.server.process.pid
    yield lambda room, has=None: bound(pid, (has or address_space(pid)) + room)
    if host.server.process.poll() is None:
        bound(pid, resource.RLIM_INFINITY)


def test_a_host_that_ran_out_of_memory_goes_on(host, bounded):
    workflow = changed(real.small(real.api_workflow("text_to_video_two_stages")), "DecodeToFile", memory="streaming")
    (node,) = real.nodes_of(workflow, "DecodeToFile")

    def film(seed: int) -> bytes:
        (made,) = host.run(changed(workflow, "Denoise", seed=seed))[node]["images"]
        return host.path(made).read_bytes()

    first = film(5)
    small, files, begun = address_space(host.server.process.pid), real.all_files(host.base), set()

    def bound_in_the_middle(at_work, value, total):
        if at_work == node and not begun:
            begun.update(real.all_files(host.base) - files)
            if begun:
                bounded(ROOM_BYTES, small)

    with pytest.raises(RunFailed, match="DecodeToFile" + SAID):
        host.run(
            changed(workflow, "PrepareLatent", width=384, height=384, length=97 / 24), on_progress=bound_in_the_middle
        )
    assert begun and real.all_files(host.base) == files

    bounded(ROOM_BYTES)
    with pytest.raises(RunFailed, match="(Denoise|Refine)" + SAID):
        host.run(changed(workflow, "PrepareLatent", width=1024, height=1024))
    assert real.all_files(host.base) == files
    # another seed between the two, since the host keeps what it made last
    assert film(6) != first
    assert film(5) == first
    assert host.server.process.poll() is None
