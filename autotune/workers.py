"""Child processes that can be killed: one open backend each, because a kernel may hang or crash."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Mapping
from typing import Any

from autotune.backends.base import Backend
from autotune.measure import Phase
from autotune.messages import Announcement, Done, Open, Ready, Task, pickled
from autotune.processes import ChildProcess, in_words, spawn
from records.errors import AutotuneError, DeviceError, InvalidInputError, MissingComponentError
from records.measurement import Measurement

START_ATTEMPTS = 3
START_TIMEOUT_S = 120.0  # a driver's first start may compile its own kernels

_USER_ERRORS: Mapping[str, type[AutotuneError]] = {
    error.__name__: error for error in (InvalidInputError, MissingComponentError)
}


class WorkerFailure(Exception):
    """A task did not come back. The child is gone, but a new one starts with the next task.

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
    """The task raised what it should not; the text holds its traceback. The child lives on."""


class Worker:
    """A child process with one open backend: started on demand, and again after each death.

    Used by one thread at a time; only `close` may be called by another. On Linux the child dies
    with the thread that started it, which then costs the next task a start.
    """

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open_backend = open_backend
        self._process: ChildProcess | None = None
        self._ready: Ready | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the running child; `None` where there is none."""
        return self._process.pid if self._process else None

    def start(self) -> Ready:
        """Start the child where it is not running, and tell what it has opened.

        Raises `DeviceError`, with the child's output, after 3 vain attempts.
        """
        if self._process and self._ready and self._process.is_alive:
            return self._ready
        reason = ""
        for _ in range(START_ATTEMPTS):
            self.stop()
            self._refuse_if_closed()
            process = self._process = spawn()
            try:
                self._refuse_if_closed()  # again, now that `close` knows of the child
                answer = _opening(process, self._open_backend)
            except BaseException:
                self.stop()
                raise
            if isinstance(answer, Ready):
                self._ready = answer
                return answer
            reason = answer
        self.stop()
        raise DeviceError(f"the device cannot be opened in a worker process: {reason}")

    def run(self, task: Task, limits_s: Mapping[Phase, float]) -> Any:
        """Run a task in the child and return its value.

        `limits_s`: seconds after each announcement of a phase before the child is killed.
        A child that has died before it took the task is replaced. Raises `WorkerDied`,
        `WorkerTimeout`, `TaskError`, and `DeviceError` where no child starts any more.
        """
        message = pickled(task)
        for is_last in (*[False] * (START_ATTEMPTS - 1), True):
            self.start()
            try:
                return self._run_once(message, limits_s)
            except WorkerDied as death:
                if death.phase is not Phase.ACCEPTED or is_last:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Kill the child for good, from any thread: a task under way fails, later ones too.

        The thread that uses the worker calls `stop` afterwards, to forget the child.
        """
        self._closed = True
        process = self._process
        if process is not None and process.is_alive:
            process.kill_group()

    def stop(self) -> None:
        """Kill the child and forget it. Idempotent; from the thread that uses the worker."""
        process, self._process, self._ready = self._process, None, None
        if process is not None:
            process.kill()
            process.close()

    def _run_once(self, message: bytes, limits_s: Mapping[Phase, float]) -> Any:
        assert self._process is not None, "started by the caller"
        try:
            self._process.forget_output()
            with contextlib.suppress(ConnectionError):  # told by the end of the pipe too
                self._process.pipe.send_bytes(message)
            return self._await(self._process, limits_s)
        except WorkerFailure:
            raise
        except BaseException:  # Ctrl-C above all: the child is still at it
            self.stop()
            raise

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise DeviceError("the worker is closed")

    def _await(self, process: ChildProcess, limits_s: Mapping[Phase, float]) -> Any:
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

    def _death(self, process: ChildProcess, last: Announcement) -> WorkerDied:
        status = process.exit_status()
        reason = f"{in_words(status)} while {last.phase}{_printed(process.output())}"
        self.stop()
        return WorkerDied(reason, last, was_killed=status == -signal.SIGKILL)


def _opening(process: ChildProcess, open_backend: Callable[[], Backend]) -> Ready | str:
    """Have the child open its backend: what it has opened, or why it could not."""
    try:
        process.pipe.send_bytes(pickled(Open(open_backend)))
        message = process.receive(START_TIMEOUT_S)
    except TimeoutError:
        return f"no answer within {START_TIMEOUT_S:g} s{_printed(process.output())}"
    except (EOFError, ConnectionError):
        return in_words(process.exit_status()) + _printed(process.output())
    if isinstance(message, Ready):
        return message
    if message.kind in _USER_ERRORS:
        raise _USER_ERRORS[message.kind](message.text)
    return f"{message.text}{_printed(process.output())}"


def _printed(output: str) -> str:
    return f"; it printed:\n{output}" if output else ""
