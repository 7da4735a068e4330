"""Emptying caches by streaming through memory that nobody needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from autotune.backends.opencl.driver import build, cl

_TEXT = """
__kernel void stream(__global uint *data, const uint words)
{
    for (uint i = get_global_id(0); i < words; i += get_global_size(0))
        data[i] += 1u;
}
"""
_ITEMS = 1 << 16


class Flusher:
    """Reads and writes a buffer of the size asked for; keeps it for the next time."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._kernel: Any = None
        self._buffer: Any = None

    def flush(self, flush_bytes: int) -> None:
        if flush_bytes <= 0:
            return
        if self._kernel is None:
            program = build(self._queue.context, self._queue.device, _TEXT, ())
            self._kernel = cl.Kernel(program, "stream")
        if self._buffer is None or self._buffer.size < flush_bytes:
            self.close()
            flags = cl.mem_flags.READ_WRITE
            self._buffer = cl.Buffer(self._queue.context, flags, -(-flush_bytes // 4) * 4)
        self._kernel.set_args(self._buffer, np.uint32(flush_bytes // 4))
        cl.enqueue_nd_range_kernel(self._queue, self._kernel, (_ITEMS,), None)
        self._queue.finish()

    def close(self) -> None:
        if self._buffer is not None:
            self._buffer.release()
            self._buffer = None
