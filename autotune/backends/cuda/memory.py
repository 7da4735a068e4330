"""Memory of a CUDA device."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

import numpy.typing as npt

from autotune.backends.cuda.driver import Session
from records.errors import DeviceError


class Uploaded(Protocol):
    """Knows some arrays on the device already."""

    def write(self, address: int, data: npt.NDArray[Any]) -> bool:
        """Whether it has copied that array there."""


class CudaMemory:
    """`autotune.backends.guarded.Memory` in one allocation, aligned to 256 bytes.

    Copies wait; so does whatever is enqueued later on our stream and on the default stream.
    """

    def __init__(self, session: Session, size: int, *, uploaded: Uploaded | None = None) -> None:
        self._session = session
        self._uploaded = uploaded
        self._allocation: Any = None
        self.size = size
        with session.active(f"allocating {size} bytes"):
            self._allocation = session.cuda.mem_alloc(max(1, size))
        session.hold(self)

    @property
    def address(self) -> int:
        return int(self._allocation)

    def write(self, offset: int, data: npt.NDArray[Any]) -> None:
        with self._session.active("copying to the device"):
            if self._uploaded is not None and self._uploaded.write(self.address + offset, data):
                return
            if data.nbytes:
                self._session.cuda.memcpy_htod(self.address + offset, data)

    def read(self, offset: int, into: npt.NDArray[Any]) -> None:
        with self._session.active("copying from the device"):
            if into.nbytes:
                self._session.cuda.memcpy_dtoh(into, self.address + offset)

    def fill(self, offset: int, size: int, byte: int) -> None:
        with self._session.active("filling memory"):
            if size:
                self._session.cuda.memset_d8(self.address + offset, byte, size)

    def part(self, offset: int, size: int) -> int:
        """An address: what a kernel takes for a pointer."""
        return self.address + offset

    def release(self) -> None:
        """Idempotent; after a lost context there is nothing to free."""
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            with suppress(DeviceError), self._session.active("freeing memory"):
                allocation.free()
