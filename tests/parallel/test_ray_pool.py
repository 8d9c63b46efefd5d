"""A Ray cluster of two nodes on this machine: scenes on both, one node killed, the same film."""

import threading
import time

import pytest

from ltx2.cli import main
from ltx2.errors import MissingPackageError, RequestError
from ltx2.parallel import ray_pool
from ltx2.parallel.pool import TaskFailed

pytestmark = pytest.mark.slow
SCRIPT = """size: 64x64
defaults: {frames: 17}
overlap: {video: 9, audio: 15}
segments:
  - A red ball jumps up and down over the sea.
  - It circles around.
  - {prompt: A blue star rolls from side to side at night., cut: true}
"""


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ltx2-continuum[ray]")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = made.add_node(num_cpus=1)
    yield made, second
    ray.shutdown()
    made.shutdown()


def test_a_story_on_two_nodes_of_which_one_is_killed(cluster, tmp_path):
    made, second = cluster

    def capitals(setup):
        def answer(task):
            if task == b"fail":
                raise RequestError("this task cannot be done")
            if task.startswith(b"slow"):
                time.sleep(3)
            return setup + task.upper()

        return answer

    script = tmp_path / "story.yaml"
    script.write_text(SCRIPT)

    def told(name, *more):
        (tmp_path / name).mkdir()
        fixed = [
            "story",
            str(script),
            "--checkpoint",
            "mini",
            "--device",
            "cpu",
            "--work",
            str(tmp_path / name / "work"),
        ]
        assert main([*fixed, "--out", str(tmp_path / name / "film.mp4"), *more]) == 0
        return (tmp_path / name / "film.mp4").read_bytes()

    expected = told("one")
    pool = ray_pool.RayPool(capitals, b"got ", address=made.address, size=2)
    assert {pool.submit(f"task {i}".encode()).result() for i in range(4)} == {
        f"got TASK {i}".encode() for i in range(4)
    }
    with pytest.raises(TaskFailed, match="^this task cannot be done$"):
        pool.submit(b"fail").result()
    with pytest.raises(ZeroDivisionError):  # of who is told, not of the worker
        pool.submit(b"task", lambda name: 1 // 0).result(60)
    begun = threading.Semaphore(0)
    waiting = [pool.submit(task, lambda name: begun.release()) for task in (b"slow 1", b"slow 2")]
    assert begun.acquire(timeout=60) and begun.acquire(timeout=60)  # both nodes are at work when one is killed
    made.remove_node(second, allow_graceful=False)
    assert [one.result(120) for one in waiting] == [b"got SLOW 1", b"got SLOW 2"]
    assert pool.submit(b"after").result() == b"got AFTER"  # where there is room now
    pool.close()
    shared = tmp_path / "shared"
    shared.mkdir()
    assert told("many", "--ray", made.address, "--workers", "1", "--shared", str(shared)) == expected
    assert not list(shared.iterdir())


def test_without_ray_it_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install ltx2-continuum\[ray\]"):
        ray_pool.require_ray()
