"""The stream that a caller wants work to be enqueued on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autotune.backends.cuda.driver import Session
from records.errors import InvalidInputError

_DEFAULT_HANDLES = (0, 1)  # the legacy default stream, and its name in CUDA's own headers


def handle_of(queue: Any) -> int:
    """The driver's handle of a stream: 0 for the default one.

    Takes `None`, a handle, PyCUDA's streams (`handle`), PyTorch's (`cuda_stream`), CuPy's
    (`ptr`), and what has `__cuda_stream__` (cuda.core).
    """
    if queue is None:
        return 0
    if hasattr(queue, "__cuda_stream__"):
        return int(queue.__cuda_stream__()[1])
    for name in ("handle", "cuda_stream", "ptr"):
        if hasattr(queue, name):
            return int(getattr(queue, name))
    if isinstance(queue, int):
        return queue
    raise InvalidInputError(
        f"queue: need a stream of PyCUDA, PyTorch, CuPy or cuda.core, or its handle, "
        f"got {type(queue).__name__}"
    )


@contextmanager
def launching_on(session: Session, queue: Any) -> Iterator[Any]:
    """The stream to launch on, for work that takes its place in `queue`. Within `active`.

    PyCUDA launches on its own streams and on the default one. For any other, work goes to the
    session's stream, between two events that order it: some microseconds, nobody waits.
    """
    handle = handle_of(queue)
    if handle in _DEFAULT_HANDLES:
        yield None
    elif isinstance(queue, session.cuda.Stream):
        yield queue
    else:
        ours = session.stream
        session.native.order(handle, ours.handle)
        yield ours
        session.native.order(ours.handle, handle)
