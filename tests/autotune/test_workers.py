"""Worker processes: what they do when they, their parent or their device dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autotune.backends.base import Backend
from autotune.backends.simulated import SimulatedBackend
from autotune.measure import Announce, Phase
from autotune.workers import TaskError, Worker, WorkerDied, WorkerTimeout
from records.errors import DeviceError, InvalidInputError

LIMITS_S = dict.fromkeys(Phase, 30.0)


def refuse(kind: type[Exception], directory: Path | None = None) -> Backend:
    if directory:
        (directory / str(len(list(directory.iterdir())))).touch()
    print("the driver complains", flush=True)
    raise kind("no such device")


def crash_on_opening() -> Backend:
    os.write(2, b"driver: assertion failed\n")
    os.abort()


def task(function: Callable[..., Any], *arguments: Any) -> Any:
    return partial(_call, function, *arguments)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    *own, _, announce = arguments
    announce(Phase.LAUNCHING)
    return function(*own)


def die_by(number: int) -> None:
    os.write(1, b"chatter\n")
    os.kill(os.getpid(), number)
    time.sleep(60)


def raise_oddly() -> None:
    raise ArithmeticError("odd")


def print_and_return(text: str) -> int:
    os.write(2, text.encode())
    return len(text)


def fork_a_compiler() -> int:
    """A grandchild that would live for long."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]).pid


def fork_a_compiler_and_hang(path: Path) -> None:
    path.write_text(str(fork_a_compiler()))
    time.sleep(100)


def die_within_a_message() -> None:
    pipe_fd = int(sys.argv[2])
    os.write(pipe_fd, b"\x00\x00\x10\x00" + b"the first of 4096 bytes")
    os.kill(os.getpid(), signal.SIGKILL)


def not_picklable() -> Any:
    return lambda: None


def die_before_any_phase(path: Path, backend: Backend, announce: Announce) -> str:
    """The first time only."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return "done"


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true in time."""
    deadline_s = time.monotonic() + 20.0
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return condition()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One for all, as it must survive each test."""
    worker = Worker(SimulatedBackend)
    yield worker
    worker.stop()


def test_a_task_gives_its_value_and_the_worker_stays(worker: Worker) -> None:
    first = worker.run(task(os.getpid), LIMITS_S)
    assert first == worker.pid != os.getpid()
    assert worker.run(task(os.getpid), LIMITS_S) == first


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSEGV, "SIGSEGV (it accessed memory that is not its own)"),
        (signal.SIGABRT, "SIGABRT (an assertion or a check of the heap failed)"),
        (signal.SIGFPE, "SIGFPE (a whole number was divided by zero)"),
        (signal.SIGTERM, "SIGTERM (Terminated)"),
    ],
)
def test_deaths_are_told_in_words(worker: Worker, number: signal.Signals, words: str) -> None:
    with pytest.raises(WorkerDied) as death:
        worker.run(task(die_by, int(number)), LIMITS_S)
    assert words in str(death.value)
    assert "while running the kernel" in str(death.value)
    assert str(death.value).endswith("it printed:\nchatter")
    assert not death.value.was_killed
    assert worker.run(task(os.getpid), LIMITS_S) == worker.pid


def test_exit_statuses_and_foreign_kills_are_told(worker: Worker) -> None:
    with pytest.raises(WorkerDied, match="ended with exit status 3"):
        worker.run(task(os._exit, 3), LIMITS_S)
    with pytest.raises(WorkerDied, match="SIGKILL") as death:
        worker.run(task(die_by, int(signal.SIGKILL)), LIMITS_S)
    assert death.value.was_killed


def test_a_death_within_a_message_is_a_death(worker: Worker) -> None:
    with pytest.raises(WorkerDied, match="SIGKILL"):
        worker.run(task(die_within_a_message), LIMITS_S)
    assert worker.run(task(os.getpid), LIMITS_S) == worker.pid


def test_a_phase_that_takes_too_long_is_killed(worker: Worker) -> None:
    worker.start()
    pid = worker.pid
    with pytest.raises(WorkerTimeout, match=r"running the kernel took longer than 0\.2 s"):
        worker.run(task(time.sleep, 60), {**LIMITS_S, Phase.LAUNCHING: 0.2})
    assert pid is not None and not is_alive(pid)
    with pytest.raises(ProcessLookupError):  # not even a zombie
        os.kill(pid, 0)


def test_a_limit_starts_with_its_phase(worker: Worker) -> None:
    """Starting and what comes before count against other limits."""
    worker.run(task(time.sleep, 0.5), {**LIMITS_S, Phase.ACCEPTED: 20.0, Phase.CHECKING: 0.01})


def test_a_kill_ends_what_the_child_has_started(worker: Worker, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with pytest.raises(WorkerTimeout):
        worker.run(task(fork_a_compiler_and_hang, file), {**LIMITS_S, Phase.LAUNCHING: 1.0})
    assert until(lambda: not is_alive(int(file.read_text())))


def test_a_compiler_left_behind_does_not_hide_a_death(worker: Worker) -> None:
    pid = worker.run(task(fork_a_compiler), LIMITS_S)
    with pytest.raises(WorkerDied, match="SIGSEGV"):
        worker.run(task(die_by, int(signal.SIGSEGV)), LIMITS_S)
    assert until(lambda: not is_alive(pid))


def test_a_child_killed_while_idle_is_replaced(worker: Worker) -> None:
    for number in (signal.SIGKILL, signal.SIGSEGV):
        worker.start()
        assert worker.pid is not None
        os.kill(worker.pid, number)
        assert worker.run(task(os.getpid), LIMITS_S) == worker.pid


def test_a_death_before_the_first_phase_is_not_the_tasks(worker: Worker, tmp_path: Path) -> None:
    assert worker.run(partial(die_before_any_phase, tmp_path / "died"), LIMITS_S) == "done"


def test_exceptions_come_back_as_text(worker: Worker) -> None:
    with pytest.raises(TaskError, match=r"ArithmeticError: odd\n(.*\n)*.*raise_oddly"):
        worker.run(task(raise_oddly), LIMITS_S)
    with pytest.raises(TaskError, match="pickle"):
        worker.run(task(not_picklable), LIMITS_S)
    assert worker.run(task(os.getpid), LIMITS_S) == worker.pid


def test_what_cannot_be_sent_is_refused_and_the_worker_stays(worker: Worker) -> None:
    pid = worker.run(task(os.getpid), LIMITS_S)
    with pytest.raises(InvalidInputError, match="top level"):
        worker.run(task(lambda: None), LIMITS_S)
    assert worker.run(task(os.getpid), LIMITS_S) == pid


def test_output_never_reaches_ours(worker: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    assert worker.run(task(print_and_return, "free(): invalid pointer"), LIMITS_S) == 23
    assert capfd.readouterr() == ("", "")


def test_output_of_earlier_tasks_is_not_blamed_on_later_ones(worker: Worker) -> None:
    worker.run(task(print_and_return, "old news\n" * 1000), LIMITS_S)
    with pytest.raises(WorkerDied) as death:
        worker.run(task(die_by, int(signal.SIGSEGV)), LIMITS_S)
    assert str(death.value).endswith("it printed:\nchatter")


def test_a_device_that_cannot_be_opened(tmp_path: Path) -> None:
    worker = Worker(partial(refuse, DeviceError, tmp_path))
    with pytest.raises(DeviceError, match=r"no such device(.*\n)*the driver complains"):
        worker.start()
    assert len(list(tmp_path.iterdir())) == 3
    assert worker.pid is None


def test_a_device_that_crashes_on_opening() -> None:
    with pytest.raises(DeviceError, match=r"SIGABRT(.*\n)*driver: assertion failed"):
        Worker(crash_on_opening).start()


def test_a_wrong_name_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such device"):
        Worker(partial(refuse, InvalidInputError, tmp_path)).start()
    assert len(list(tmp_path.iterdir())) == 1


def test_ctrl_c_is_the_parents(worker: Worker) -> None:
    pid = worker.run(task(os.getpid), LIMITS_S)
    assert os.getpgid(pid) != os.getpgid(0), "a terminal sends Ctrl-C to the whole group"
    os.kill(pid, signal.SIGINT)
    assert worker.run(task(os.getpid), LIMITS_S) == pid


def test_ctrl_c_ends_the_task_and_the_next_one_works(worker: Worker) -> None:
    pid = worker.run(task(os.getpid), LIMITS_S)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        worker.run(task(time.sleep, 60), LIMITS_S)
    timer.join()
    assert not is_alive(pid)
    assert worker.run(task(os.getpid), LIMITS_S) == worker.pid


def test_close_is_for_good() -> None:
    worker = Worker(SimulatedBackend)
    pid = worker.run(task(os.getpid), LIMITS_S)
    worker.close()
    with pytest.raises(DeviceError, match="closed"):
        worker.run(task(os.getpid), LIMITS_S)
    assert not is_alive(pid)


PARENT = """
import json, sys, time
sys.path[:] = json.loads(sys.argv[1])
from test_workers import LIMITS_S, Worker, SimulatedBackend, task
idle, busy = Worker(SimulatedBackend), Worker(SimulatedBackend)
idle.start(), busy.start()
print(idle.pid, busy.pid, flush=True)
busy.run(task(time.sleep, 100), LIMITS_S)
"""


def test_workers_die_with_a_parent_that_is_killed() -> None:
    path = json.dumps([entry or os.getcwd() for entry in sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, path], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert all(map(is_alive, pids)) and len(pids) == 2
        parent.kill()
        assert until(lambda: not any(map(is_alive, pids)))


SCRIPT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from autotune.workers import Worker
from autotune.backends.simulated import SimulatedBackend
def mine():
    return SimulatedBackend()
print("the script runs", flush=True)
worker = Worker(SimulatedBackend)
worker.start()
worker.stop()
Worker(mine).start()
"""


def test_a_script_needs_no_guard_and_is_told_what_to_move(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = json.dumps([entry or os.getcwd() for entry in sys.path])
    done = subprocess.run(
        [sys.executable, str(script), path], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count("the script runs") == 1
    assert "mine is defined in the script that runs" in done.stderr
