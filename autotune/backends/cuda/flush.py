"""Emptying the L2 cache by writing memory that nobody needs."""

from __future__ import annotations

from autotune.backends.cuda.driver import Session
from autotune.backends.cuda.memory import CudaMemory

_WORD_BYTES = 4


class Flusher:
    """Writes a buffer of the size asked for; keeps it for the next time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._memory: CudaMemory | None = None

    def flush(self, flush_bytes: int) -> None:
        """Enqueued, not waited for: what is launched next on our stream comes after it."""
        words = flush_bytes // _WORD_BYTES
        if words <= 0:
            return
        if self._memory is None or self._memory.size < flush_bytes:
            self.release()
            self._memory = CudaMemory(self._session, flush_bytes)
        session = self._session
        with session.active("flushing caches"):
            session.cuda.memset_d32_async(self._memory.address, 0, words, session.stream)

    def release(self) -> None:
        if self._memory is not None:
            self._memory.release()
            self._memory = None
