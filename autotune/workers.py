"""Child processes that can be killed: one open backend each, because a kernel may hang or crash.

A worker is a fresh interpreter, not a fork (a forked child inherits a driver's state and hangs)
and not `multiprocessing`'s spawn (which runs the user's script again). It lives in a process group
of its own, so that Ctrl-C does not reach it and a kill also ends compilers that it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from autotune.backends.base import Backend
from autotune.measure import Phase
from autotune.worker_process import Announcement, Done, Open, Ready, Task
from records.errors import AutotuneError, DeviceError, InvalidInputError, MissingComponentError
from records.measurement import Measurement

START_ATTEMPTS = 3
START_TIMEOUT_S = 120.0  # a driver's first start may compile its own kernels
_EXIT_TIMEOUT_S = 5.0  # between the end of the pipe and the end of the process
_OUTPUT_BYTES = 1500  # of a worker's stdout and stderr kept in an error

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from autotune.worker_process import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)

_SIGNAL_WORDS = {
    signal.SIGSEGV: "it accessed memory that is not its own",
    signal.SIGBUS: "it accessed memory that is not there",
    signal.SIGABRT: "an assertion or a check of the heap failed",
    signal.SIGFPE: "a whole number was divided by zero",
    signal.SIGILL: "an instruction that this processor lacks",
    signal.SIGKILL: "by somebody else, or the system was out of memory",
}


_USER_ERRORS: Mapping[str, type[AutotuneError]] = {
    error.__name__: error for error in (InvalidInputError, MissingComponentError)
}


class WorkerFailure(Exception):
    """A task did not come back. The worker is gone, and starts again with the next task.

    `phase`, `entry` and `known` are those of the last announcement.
    """

    def __init__(self, reason: str, last: Announcement) -> None:
        super().__init__(reason)
        self.phase: Phase = last.phase
        self.entry: int = last.entry
        self.known: Measurement | None = last.known


class WorkerDied(WorkerFailure):
    """The process ended by itself. `was_killed`: by a SIGKILL that is not ours."""

    def __init__(self, reason: str, last: Announcement, was_killed: bool) -> None:
        super().__init__(reason, last)
        self.was_killed = was_killed


class WorkerTimeout(WorkerFailure):
    """The limit of a phase ran out, and the process was killed."""


class TaskError(WorkerFailure):
    """The task raised something that it should not; the text holds its traceback."""


@dataclass
class _Process:
    """One running child with its pipe and the file that takes its stdout and stderr."""

    popen: subprocess.Popen[bytes]
    pipe: Connection
    output_fd: int
    ready: Ready | None = None

    def receive(self, timeout_s: float) -> Any:
        """The next message; raises `TimeoutError`, or `EOFError` when the child has died."""
        try:
            if not self.pipe.poll(timeout_s):
                raise TimeoutError
            return self.pipe.recv()
        except ConnectionError:  # died in the middle of a message
            raise EOFError from None

    def kill(self) -> int:
        """End the whole process group, and return the exit status of the child."""
        self.kill_group()
        return self.popen.wait()

    def kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)

    def exit_status(self) -> int:
        """The status of a child that closed its pipe; what it started is ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_EXIT_TIMEOUT_S)
        return self.kill()

    def output(self) -> str:
        """The last lines that the child or its driver printed since its last task began."""
        size = os.fstat(self.output_fd).st_size
        tail = os.pread(self.output_fd, _OUTPUT_BYTES, max(0, size - _OUTPUT_BYTES))
        return tail.decode(errors="replace").strip()

    def forget_output(self) -> None:
        os.ftruncate(self.output_fd, 0)
        os.lseek(self.output_fd, 0, os.SEEK_SET)  # the position is shared with the child

    def close(self) -> None:
        self.pipe.close()
        os.close(self.output_fd)


class Worker:
    """A child process with one open backend: started on demand, and again after each death.

    Used by one thread at a time; `stop` may be called by another, and makes a running task fail.
    """

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open_backend = open_backend
        self._process: _Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the running child; `None` where there is none."""
        return self._process.popen.pid if self._process else None

    def start(self) -> Ready:
        """Start the child where it is not running, and tell what it has opened.

        Raises `DeviceError`, with the child's output, after 3 vain attempts.
        """
        if self._process and self._process.ready and self._process.popen.poll() is None:
            return self._process.ready
        reason = ""
        for _ in range(START_ATTEMPTS):
            self.stop()
            process = self._process = _spawn()
            reason = _opening(process, self._open_backend)
            if process.ready:
                return process.ready
        self.stop()
        raise DeviceError(f"the device cannot be opened in a worker process: {reason}")

    def run(self, task: Task, limits_s: Mapping[Phase, float]) -> Any:
        """Run a task in the child and return its value.

        `limits_s`: seconds after each announcement of a phase before the child is killed.
        A child that has died before it took the task is replaced. Raises `WorkerDied`,
        `WorkerTimeout`, `TaskError`, and `DeviceError` where no child starts any more.
        """
        for attempt in range(1, START_ATTEMPTS + 1):
            self.start()
            assert self._process is not None
            try:
                self._process.forget_output()
                with contextlib.suppress(ConnectionError):  # told by the end of the pipe too
                    self._process.pipe.send(task)
                return self._await(self._process, limits_s)
            except WorkerDied as death:
                if death.phase is not Phase.ACCEPTED or attempt == START_ATTEMPTS:
                    raise
            except TaskError:
                raise
            except BaseException:  # Ctrl-C above all: the child is still at it
                self.stop()
                raise
        raise AssertionError("unreachable")

    def kill(self) -> None:
        """Kill the child, from any thread; a task under way then raises `WorkerDied`."""
        process = self._process
        if process is not None and process.popen.poll() is None:
            process.kill_group()

    def stop(self) -> None:
        """Kill the child and forget it. Idempotent; from the thread that uses the worker."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.close()

    def _await(self, process: _Process, limits_s: Mapping[Phase, float]) -> Any:
        last = Announcement(Phase.ACCEPTED)
        while True:
            limit_s = limits_s[last.phase]
            try:
                message = process.receive(limit_s)
            except TimeoutError:
                self.stop()
                reason = f"killed: {last.phase} took longer than {limit_s:g} s"
                raise WorkerTimeout(reason, last) from None
            except EOFError:
                raise self._death(process, last) from None
            if isinstance(message, Announcement):
                last = message
            elif isinstance(message, Done):
                return message.value
            else:
                raise TaskError(message.text, last)

    def _death(self, process: _Process, last: Announcement) -> WorkerDied:
        status = process.exit_status()
        reason = f"{in_words(status)} while {last.phase}{_printed(process.output())}"
        self.stop()
        return WorkerDied(reason, last, was_killed=status == -signal.SIGKILL)


def in_words(exit_status: int) -> str:
    """What an exit status, as `subprocess` gives it, says about the end of a process."""
    if exit_status >= 0:
        return f"the process ended with exit status {exit_status}"
    number = -exit_status
    if number not in set(signal.Signals):
        return f"the process was killed by signal {number}"
    name = signal.Signals(number)
    words = _SIGNAL_WORDS.get(name) or signal.strsignal(number) or "for an unknown reason"
    return f"the process was killed by {name.name} ({words})"


def _spawn() -> _Process:
    ours, childs = Pipe()
    with childs, tempfile.TemporaryFile() as output:
        path = [entry or os.getcwd() for entry in sys.path]
        arguments = (json.dumps(path), str(childs.fileno()), str(os.getpid()))
        popen = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(childs.fileno(),),
            process_group=0,
        )
        return _Process(popen, ours, os.dup(output.fileno()))


def _opening(process: _Process, open_backend: Callable[[], Backend]) -> str:
    """Have the child open its backend: sets `process.ready`, or returns why it could not."""
    try:
        process.pipe.send(Open(open_backend))
        message = process.receive(START_TIMEOUT_S)
    except TimeoutError:
        return f"no answer within {START_TIMEOUT_S:g} s{_printed(process.output())}"
    except (EOFError, ConnectionError):
        return in_words(process.exit_status()) + _printed(process.output())
    if isinstance(message, Ready):
        process.ready = message
        return ""
    if message.kind in _USER_ERRORS:
        raise _USER_ERRORS[message.kind](message.text)
    return f"{message.text}{_printed(process.output())}"


def _printed(output: str) -> str:
    return f"; it printed:\n{output}" if output else ""
