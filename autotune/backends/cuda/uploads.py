"""Inputs that one execution after another needs, kept on the device."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from autotune.backends.cuda.driver import Session
from autotune.backends.cuda.memory import CudaMemory
from autotune.problems import is_kept_input
from records.errors import DeviceError

_LEAST_BYTES = 1 << 20  # below, the copy's own start counts for more
_MEMORY_SHARE = 8  # at most this part of the device's memory


@dataclass(frozen=True)
class _Upload:
    array: weakref.ref[npt.NDArray[Any]]
    memory: CudaMemory


class Uploads:
    """Copies large inputs of the problems at hand from host to device once.

    Every execution gets its own copy of that, at the speed of the device's memory. Only inputs of
    problems that the process keeps: those are never written to. The oldest go where there are too
    many, all of them when the session closes.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kept: OrderedDict[int, _Upload] = OrderedDict()
        self._most_bytes = int(session.device.total_memory()) // _MEMORY_SHARE

    def write(self, address: int, data: npt.NDArray[Any]) -> bool:
        """Enqueue the copy; false where the caller must do it. Call inside `active`."""
        if not _LEAST_BYTES <= data.nbytes <= self._most_bytes or not is_kept_input(data):
            return False
        upload = self._kept.get(id(data))
        if upload is None or upload.array() is not data:
            upload = self._uploaded(data)
        if upload is None:
            return False
        self._session.cuda.memcpy_dtod(address, upload.memory.address, data.nbytes)
        return True

    def release(self) -> None:
        while self._kept:
            self._kept.popitem()[1].memory.release()

    def _uploaded(self, data: npt.NDArray[Any]) -> _Upload | None:
        self._make_room(data.nbytes)
        with suppress(DeviceError):  # no memory: the caller's own copy may still fit
            memory = CudaMemory(self._session, data.nbytes)
            memory.write(0, data)
            self._kept[id(data)] = _Upload(weakref.ref(data), memory)
        return self._kept.get(id(data))

    def _make_room(self, size: int) -> None:
        for key, upload in [*self._kept.items()]:
            kept_bytes = sum(each.memory.size for each in self._kept.values())
            if upload.array() is None or kept_bytes + size > self._most_bytes:
                self._kept.pop(key).memory.release()
