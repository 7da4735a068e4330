"""Guarded device memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.backends import guards
from autotune.backends.opencl.driver import cl
from autotune.backends.opencl.target import is_cpu

PAGE_BYTES = 4096


def aligned_bytes(size: int) -> npt.NDArray[np.uint8]:
    """Uninitialised host memory that begins on a page."""
    raw = np.empty(size + PAGE_BYTES, np.uint8)
    start = -raw.ctypes.data % PAGE_BYTES
    return raw[start : start + size]


class GuardedBuffer:
    """`size` bytes between two guard bands, in one allocation; `buffer` is the part between.

    On a CPU the allocation is ours, so that the part between begins on a page. Measured with
    AVX-512: against that, buffers 64 bytes apart modulo a page cost a streaming kernel 1.2 to
    1.4 times the time (a load takes itself for dependent on the store just before it), 16 or 32
    bytes off a cache line 1.03 to 1.5 times; staggering by 256 bytes gained 2 % for a matmul and
    lost 4 % for a stream.
    """

    def __init__(self, queue: Any, name: str, size: int, seed: int) -> None:
        self.name = name
        self.size = size
        self._queue = queue
        self._seed = seed
        self._whole = allocate(queue, size + 2 * guards.GUARD_BYTES)
        band = guards.pattern(seed)
        for offset in (0, guards.GUARD_BYTES + size):
            cl.enqueue_copy(queue, self._whole, band, dst_offset=offset)
        self.buffer = self._whole.get_sub_region(guards.GUARD_BYTES, size, cl.mem_flags.READ_WRITE)

    def write(self, array: npt.NDArray[Any]) -> None:
        cl.enqueue_copy(self._queue, self.buffer, np.ascontiguousarray(array))

    def read(self, array: npt.NDArray[Any]) -> None:
        cl.enqueue_copy(self._queue, array, self.buffer)

    def poison(self) -> None:
        poison = np.uint8(guards.POISON)
        cl.enqueue_fill_buffer(self._queue, self.buffer, poison, 0, self.size)

    def damage(self) -> str:
        before = np.empty(guards.GUARD_BYTES, np.uint8)
        after = np.empty_like(before)
        cl.enqueue_copy(self._queue, before, self._whole, src_offset=0)
        offset = guards.GUARD_BYTES + self.size
        cl.enqueue_copy(self._queue, after, self._whole, src_offset=offset)
        return guards.damage(self.name, self._seed, before, after)

    def release(self) -> None:
        self.buffer.release()
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
