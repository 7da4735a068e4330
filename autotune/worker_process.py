"""The child's side of `autotune.workers`: opens one backend and runs tasks on it, one by one."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import traceback
from multiprocessing.connection import Connection

from autotune.backends.base import Backend
from autotune.measure import Phase
from autotune.messages import Announcement, Done, Raised, Ready, Task
from records.canonical import freeze
from records.errors import AutotuneError
from records.measurement import Measurement

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(pipe_fd: int, parent_pid: int) -> None:
    """Serve until the parent closes the pipe or dies. Never returns."""
    _tie_to_parent(parent_pid)
    os.set_inheritable(pipe_fd, False)  # a compiler that outlives us must not hold the pipe open
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # crashes are routine: no core files
    pipe = Connection(pipe_fd)
    try:
        _serve(pipe)
    except (EOFError, OSError):
        pass  # the parent has gone
    os._exit(0)  # without the driver's own clean-up, which may crash or hang


def _serve(pipe: Connection) -> None:
    backend = _open(pipe)
    while backend is not None:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            raise
        except Exception as error:  # the task's class cannot be imported here
            pipe.send(_raised(error))
            continue
        _send(pipe, _outcome(task, backend, pipe))


def _open(pipe: Connection) -> Backend | None:
    try:
        backend = pipe.recv().open_backend()
        pipe.send(Ready(backend.target, backend.dialect, freeze(backend.environment)))
    except Exception as error:
        pipe.send(_raised(error))
        return None
    return backend  # type: ignore[no-any-return]


def _outcome(task: Task, backend: Backend, pipe: Connection) -> Done | Raised:
    def announce(phase: Phase, entry: int = 0, known: Measurement | None = None) -> None:
        pipe.send(Announcement(phase, entry, known))

    announce(Phase.ACCEPTED)
    try:
        return Done(task(backend, announce))
    except Exception as error:
        return _raised(error)


def _send(pipe: Connection, message: Done | Raised) -> None:
    try:
        pipe.send(message)
    except (EOFError, OSError):
        raise
    except Exception as error:  # the value cannot be pickled
        pipe.send(_raised(error))


def _raised(error: Exception) -> Raised:
    kind = type(error).__name__
    if isinstance(error, AutotuneError):
        return Raised(kind, str(error))
    frames = traceback.format_tb(error.__traceback__, limit=-2)
    return Raised(kind, f"{kind}: {error}\n{''.join(frames)}".strip())


def _tie_to_parent(parent_pid: int) -> None:
    """Die with the parent, even while a kernel hangs, and even when the parent is killed.

    Linux only; elsewhere a worker ends at the end of its pipe, once its task is done. Ctrl-C is
    the parent's business: it ends workers as it sees fit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the line above
            os._exit(0)
