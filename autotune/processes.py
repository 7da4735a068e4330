"""A child interpreter that we hold by a pipe, can kill with all it has started, and can hear.

It is not a fork (a forked child inherits a driver's state and hangs) and not `multiprocessing`'s
spawn (which runs the user's script again). It lives in a process group of its own, so that Ctrl-C
does not reach it and a kill also ends compilers that it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

_EXIT_TIMEOUT_S = 5.0  # between the end of the pipe and the end of the process
_OUTPUT_BYTES = 1500  # of a child's stdout and stderr kept in an error

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


@dataclass
class ChildProcess:
    """A running interpreter with a pipe, and a file that takes its stdout and stderr."""

    popen: subprocess.Popen[bytes]
    pipe: Connection
    output_fd: int

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def receive(self, timeout_s: float) -> Any:
        """The next message; raises `TimeoutError`, or `EOFError` when the child has died."""
        if not self.pipe.poll(timeout_s):
            raise TimeoutError
        try:
            return self.pipe.recv()
        except OSError:  # died in the middle of a message
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


def spawn() -> ChildProcess:
    """Start `worker_process.main` in a process group of its own, with our `sys.path`.

    On Linux the child dies with the thread that calls this.
    """
    ours, childs = Pipe()
    with childs, tempfile.TemporaryFile() as output:
        path = [str(entry) or os.getcwd() for entry in sys.path]
        arguments = (json.dumps(path), str(childs.fileno()), str(os.getpid()))
        popen = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(childs.fileno(),),
            process_group=0,
        )
        return ChildProcess(popen, ours, os.dup(output.fileno()))


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
