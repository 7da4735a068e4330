"""Device memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.backends.opencl.driver import cl
from autotune.backends.opencl.target import is_cpu

PAGE_BYTES = 4096


def aligned_bytes(size: int) -> npt.NDArray[np.uint8]:
    """Uninitialised host memory that begins on a page."""
    raw = np.empty(size + PAGE_BYTES, np.uint8)
    start = -raw.ctypes.data % PAGE_BYTES
    return raw[start : start + size]


class OpenCLMemory:
    """`autotune.backends.guarded.Memory` in one OpenCL buffer.

    On a CPU the allocation is ours, so that with guard bands of whole pages the part between them
    begins on a page. Measured with AVX-512: against that, buffers 64 bytes apart modulo a page
    cost a streaming kernel 1.2 to 1.4 times the time (a load takes itself for dependent on the
    store just before it), 16 or 32 bytes off a cache line 1.03 to 1.5 times; staggering by 256
    bytes gained 2 % for a matmul and lost 4 % for a stream.
    """

    def __init__(self, queue: Any, size: int) -> None:
        self._queue = queue
        self._whole = allocate(queue, size)
        self._parts: list[Any] = []

    def write(self, offset: int, data: npt.NDArray[Any]) -> None:
        cl.enqueue_copy(self._queue, self._whole, data, dst_offset=offset)

    def read(self, offset: int, into: npt.NDArray[Any]) -> None:
        cl.enqueue_copy(self._queue, into, self._whole, src_offset=offset)

    def fill(self, offset: int, size: int, byte: int) -> None:
        cl.enqueue_fill_buffer(self._queue, self._whole, np.uint8(byte), offset, size)

    def part(self, offset: int, size: int) -> Any:
        self._parts.append(self._whole.get_sub_region(offset, size, cl.mem_flags.READ_WRITE))
        return self._parts[-1]

    def release(self) -> None:
        while self._parts:
            self._parts.pop().release()
        self._whole.release()


def allocate(queue: Any, size: int) -> Any:
    """A buffer of the device; on a CPU in memory of numpy's, which asks for huge pages.

    Walking the columns of a 16 MiB matrix took 2.3 times as long in the runtime's own memory.
    """
    flags = cl.mem_flags.READ_WRITE
    if is_cpu(queue.device):
        host = aligned_bytes(size)
        return cl.Buffer(queue.context, flags | cl.mem_flags.USE_HOST_PTR, hostbuf=host)
    return cl.Buffer(queue.context, flags, size)
