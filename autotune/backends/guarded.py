"""The arrays of a kernel in device memory, each between guard bands. Shared by the backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from autotune.backends import guards
from records.errors import InvalidInputError
from search_spaces import dtypes
from search_spaces.kernel import Array, KernelSource
from search_spaces.op import Arrays


class Memory(Protocol):
    """One allocation on a device. Offsets and sizes are bytes; errors are the driver's own."""

    def write(self, offset: int, data: npt.NDArray[Any]) -> None:
        """Copy contiguous `data` in, and return when it may be changed again."""

    def read(self, offset: int, into: npt.NDArray[Any]) -> None:
        """Copy out into contiguous `into`, and wait for it."""

    def fill(self, offset: int, size: int, byte: int) -> None: ...

    def part(self, offset: int, size: int) -> Any:
        """The bytes from `offset`, as a launch takes them for an argument."""

    def release(self) -> None: ...


HostArray = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]


class GuardedArrays:
    """Inputs, outputs and scratch of a source; inputs are copied in, the rest is poisoned.

    `host_array` makes what an output is copied into, by shape and type. Errors of `allocate` and
    of its memory pass through; what was allocated is released then.
    Raises `InvalidInputError` for inputs that are missing or do not fit.
    """

    def __init__(
        self,
        source: KernelSource,
        inputs: Mapping[str, npt.NDArray[Any]],
        allocate: Callable[[int], Memory],
        host_array: HostArray = np.empty,
    ) -> None:
        self._allocate = allocate
        self._host_array = host_array
        self._outputs = [array for array in source.arrays if array.role == "output"]
        self._buffers: dict[str, _Guarded] = {}
        self._inputs: set[str] = set()
        _check_names(source, inputs)
        self._scalars = {
            array.name: array.storage.type(inputs[array.name])
            for array in source.arrays
            if array.role == "scalar"
        }
        try:
            self._fill(source, inputs)
            self.poison()
        except BaseException:
            self.close()
            raise

    @property
    def arguments(self) -> dict[str, Any]:
        """What a launch takes, by name: parts of memory, and scalars as numpy scalars."""
        return {name: buffer.argument for name, buffer in self._buffers.items()} | self._scalars

    def poison(self) -> None:
        for name, buffer in self._buffers.items():
            if name not in self._inputs:
                buffer.poison()

    def outputs(self) -> Arrays:
        arrays: Arrays = {}
        for array in self._outputs:
            arrays[array.name] = self._host_array(array.storage_shape, array.storage)
            self._buffers[array.name].read(arrays[array.name])
        return arrays

    def damage(self) -> str:
        """`""`, or which buffers were written outside their bounds."""
        return "; ".join(filter(None, [buffer.damage() for buffer in self._buffers.values()]))

    def close(self) -> None:
        """Release the memory. Idempotent."""
        while self._buffers:
            self._buffers.popitem()[1].release()

    def _fill(self, source: KernelSource, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        for array in source.arrays:
            if array.role == "scalar":
                continue
            buffer = self._add(array.name, array.size_bytes)
            if array.role == "input":
                self._inputs.add(array.name)
                buffer.write(_checked(array, inputs))
        for scratch in source.scratch:
            self._add(scratch.name, scratch.bytes)

    def _add(self, name: str, size: int) -> _Guarded:
        whole = self._allocate(size + 2 * guards.GUARD_BYTES)
        buffer = self._buffers[name] = _Guarded(whole, name, size, seed=len(self._buffers))
        buffer.write_bands()
        return buffer


class _Guarded:
    """`size` bytes between two guard bands, in one allocation."""

    def __init__(self, whole: Memory, name: str, size: int, seed: int) -> None:
        self._whole = whole
        self._name = name
        self._size = size
        self._seed = seed
        self.argument = whole.part(guards.GUARD_BYTES, size)

    def write_bands(self) -> None:
        band = guards.pattern(self._seed)
        for offset in (0, guards.GUARD_BYTES + self._size):
            self._whole.write(offset, band)

    def write(self, array: npt.NDArray[Any]) -> None:
        self._whole.write(guards.GUARD_BYTES, np.ascontiguousarray(array))

    def read(self, array: npt.NDArray[Any]) -> None:
        self._whole.read(guards.GUARD_BYTES, array)

    def poison(self) -> None:
        self._whole.fill(guards.GUARD_BYTES, self._size, guards.POISON)

    def damage(self) -> str:
        before = np.empty(guards.GUARD_BYTES, np.uint8)
        after = np.empty_like(before)
        self._whole.read(0, before)
        self._whole.read(guards.GUARD_BYTES + self._size, after)
        return guards.damage(self._name, self._seed, before, after)

    def release(self) -> None:
        self.argument = None  # a part may be an object of the driver's that holds the whole
        self._whole.release()


def _check_names(source: KernelSource, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
    needed = [array.name for array in source.arrays if array.role != "output"]
    missing = [name for name in needed if name not in inputs]
    if missing:
        raise InvalidInputError(f"inputs: missing {', '.join(missing)} of {', '.join(needed)}")


def _checked(array: Array, inputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    given = np.asarray(inputs[array.name])
    shape = array.storage_shape
    if given.shape != shape or not dtypes.accepts(array.dtype, given.dtype.name):
        raise InvalidInputError(
            f"input {array.name}: need {array.dtype} of shape {shape}, "
            f"got {given.dtype} of shape {given.shape}"
        )
    return given
