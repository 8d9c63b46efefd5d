"""Workers: answers come back, failures are told, and a death costs no task."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import wait
from pathlib import Path

import pytest

from ltx2.parallel.pool import LocalPool, TaskFailed, WorkerLost

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pool(tmp_path):
    environment = {"PYTHONPATH": str(ROOT)}
    made = LocalPool(
        [sys.executable, "-m", "tests.parallel.echo_worker"], str(tmp_path).encode(), [environment, environment]
    )
    yield made
    made.close()


def test_tasks_are_answered_by_all_workers(pool):
    futures = [pool.submit(f"task {i}".encode()) for i in range(20)]
    answers = [future.result(60) for future in futures]
    assert [answer.split(b" by ")[0] for answer in answers] == [f"TASK {i}".encode() for i in range(20)]
    assert pool.size == 2


def test_a_failure_is_the_workers_own_sentence_and_costs_no_worker(pool):
    for task, words in (
        (b"fail", "^this task cannot be done$"),
        (b"disk", "^No space left on device$"),
        (b"memory", "^the device has too little memory: "),
    ):
        with pytest.raises(TaskFailed, match=words):
            pool.submit(task).result(60)
    before = pool.processes()
    assert pool.submit(b"on").result(60).startswith(b"ON") and set(before) <= set(pool.processes())


def test_an_error_of_who_is_told_reaches_who_waits(pool):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.submit(b"task", lambda name: 1 // 0).result(60)
    assert pool.submit(b"again").result(60)


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_task_survives_the_death_of_its_worker(pool, deaths):
    others = [pool.submit(f"other {i}".encode()) for i in range(6)]
    assert pool.submit(f"die {deaths}".encode()).result(60).startswith(f"DIE {deaths}".encode())
    assert all(other.result(60).startswith(b"OTHER") for other in others)


def test_a_task_that_kills_every_worker_is_given_up_and_the_rest_goes_on(pool):
    bad = pool.submit(b"die 99")
    others = [pool.submit(f"other {i}".encode()) for i in range(6)]
    with pytest.raises(WorkerLost, match="3 workers died"):
        bad.result(60)
    assert all(other.result(60).startswith(b"OTHER") for other in others)


def test_workers_killed_from_outside_cost_nothing(pool):
    pool.submit(b"warm").result(60)
    futures = [pool.submit(f"task {i}".encode()) for i in range(40)]
    for process in pool.processes():
        os.kill(process, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert not wait(futures, 120).not_done
    assert all(future.result().startswith(b"TASK") for future in futures)


def test_a_worker_that_cannot_start_says_so():
    made = LocalPool([sys.executable, "-m", "tests.parallel.echo_worker"], b"broken", [{"PYTHONPATH": str(ROOT)}])
    try:
        with pytest.raises(TaskFailed, match="the worker cannot start"):
            made.submit(b"x").result(60)
    finally:
        made.close()


def test_closing_leaves_no_process(pool):
    pool.submit(b"warm").result(60)
    started = pool.processes()
    pool.close()
    assert not pool.processes()
    for process in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.skipif(os.name == "nt", reason="a parent's number never changes there")
def test_workers_of_a_killed_driver_end_in_the_middle_of_a_task(tmp_path):
    program = (
        "import sys; from ltx2.parallel.pool import LocalPool; "
        "pool = LocalPool([sys.executable, '-m', 'tests.parallel.echo_worker'], sys.argv[1].encode(), [{}]); "
        "pool.submit(b'long', lambda name: print(name.rsplit(' ', 1)[1], flush=True)).result()"
    )
    driver = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    worker = int(driver.stdout.readline())
    while not (tmp_path / "at work").exists():
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    driver.stdout.close()
    deadline = time.monotonic() + 60  # its task would take ten minutes
    while is_there(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(worker)


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:  # one that ended and that nobody has looked after
        return Path(f"/proc/{process}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()
