"""Host memory that results are copied into: locked pages, used again for the next result."""

from __future__ import annotations

import math
import mmap
import weakref
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.backends.cuda.driver import Session
from records.errors import DeviceError

_LEAST_BYTES = 1 << 20  # below, the copy's own start counts for more


class HostArrays:
    """Lends arrays; one that nobody refers to any more, nor to a view of it, is lent again.

    The device writes locked pages at the full speed of the bus, and pages that were touched once
    cost nothing to touch again: fresh ones take longer than the copy. Where the system does not
    lock them they are used as they are. What is lent when `release` is called stays valid.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pages: list[_Pages] = []  # all of them; those of `_idle` are not lent
        self._idle: list[_Pages] = []
        session.hold(self)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An array with undefined contents."""
        size = math.prod(shape) * dtype.itemsize
        if size < _LEAST_BYTES:
            return np.empty(shape, dtype)
        loan = _Loan(self._taken(size), size)
        weakref.finalize(loan, self._idle.append, loan.pages).atexit = False
        return np.asarray(loan).view(dtype).reshape(shape)

    def release(self) -> None:
        """Unlock everything. Idempotent."""
        self._idle.clear()
        self._drop(list(self._pages))

    def _taken(self, size: int) -> _Pages:
        """The smallest that is idle and large enough; without one the idle ones go."""
        for pages in sorted(self._idle, key=lambda each: each.size):
            if pages.size >= size and pages in self._pages:
                self._idle.remove(pages)
                return pages
        idle, self._idle[:] = list(self._idle), []
        self._drop(idle)
        self._pages.append(_Pages(self._session, size))
        return self._pages[-1]

    def _drop(self, dropped: list[_Pages]) -> None:
        for pages in dropped:
            pages.unlock()
            if pages in self._pages:
                self._pages.remove(pages)


class _Pages:
    """Whole pages of their own, locked if the system does that."""

    def __init__(self, session: Session, size: int) -> None:
        self.size = size
        self._session = session
        self.memory = np.frombuffer(mmap.mmap(-1, size), np.uint8)
        self._is_locked = False
        with suppress(DeviceError), session.active("locking host memory"):
            session.native.lock_pages(self.address, size)
            self._is_locked = True

    @property
    def address(self) -> int:
        return int(self.memory.ctypes.data)

    def unlock(self) -> None:
        """After a lost context there is nothing to unlock."""
        was_locked, self._is_locked = self._is_locked, False
        if was_locked:
            with suppress(DeviceError), self._session.active("unlocking host memory"):
                self._session.native.unlock_pages(self.address)


class _Loan:
    """What an array and its views hold on to; ends with the last of them."""

    def __init__(self, pages: _Pages, size: int) -> None:
        self.pages = pages
        self.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (pages.address, False),
        }
