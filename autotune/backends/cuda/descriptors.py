"""TMA descriptors of a source in device memory, where kernels take a pointer to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autotune.backends.cuda.driver import Session
from autotune.backends.cuda.memory import CudaMemory
from autotune.backends.cuda.tensor_map_codes import TENSOR_MAP_BYTES
from records.errors import InvalidInputError
from search_spaces.kernel import KernelSource
from search_spaces.tensor_map import TensorMap

_MOST_KEPT = 64  # sets of descriptors, 128 bytes each map: callers reuse their arrays


class Descriptors:
    """Encodes the tensor maps of a source for the addresses at hand, and keeps what it has made.

    By pointer, not by value: PyCUDA launches through a packed buffer, from which a descriptor
    that is a kernel's parameter is not taken ('illegal instruction' at its first use). The speed
    is the same. A set is never overwritten, as a kernel under way may still read it. Nor does its
    address soon hold another one: multiprocessors keep descriptors in a cache by their address,
    which copies from the host do not reach (CUDA programming guide, "Encoding a tensor map").
    """

    def __init__(self, session: Session, source: KernelSource) -> None:
        self._session = session
        self._maps = source.tensor_maps
        self._sizes = {array.name: array.size_bytes for array in source.arrays}
        self._sizes |= {scratch.name: scratch.bytes for scratch in source.scratch}
        self._made: dict[tuple[int, ...], CudaMemory] = {}
        for tensor in self._maps:
            self._check(tensor)

    def addresses(self, values: Mapping[str, Any]) -> dict[str, int]:
        """Of each descriptor by its name, for arrays and scratch at the addresses in `values`.

        Raises `InvalidInputError` for an address that the TMA does not take.
        """
        if not self._maps:
            return {}
        key = tuple(int(values[tensor.array]) for tensor in self._maps)
        if key not in self._made:
            self._make_room()
            self._made[key] = self._encoded(key)
        first = self._made[key].address
        return {tensor.name: first + i * TENSOR_MAP_BYTES for i, tensor in enumerate(self._maps)}

    def release(self) -> None:
        while self._made:
            self._session.retire(self._made.popitem()[1])

    def _check(self, tensor: TensorMap) -> None:
        if tensor.name in self._sizes:
            raise InvalidInputError(f"tensor map {tensor.name} has the name of an array: rename it")
        size = self._sizes.get(tensor.array)
        if size is None:
            raise InvalidInputError(
                f"tensor map {tensor.name}: no array or scratch {tensor.array!r}; "
                f"there are {', '.join(self._sizes)}"
            )
        if tensor.extent_bytes > size:
            raise InvalidInputError(
                f"tensor map {tensor.name} spans {tensor.extent_bytes} bytes; "
                f"{tensor.array} has {size}"
            )

    def _encoded(self, addresses: tuple[int, ...]) -> CudaMemory:
        parts = []
        for tensor, address in zip(self._maps, addresses, strict=True):
            if address % tensor.alignment_bytes:
                raise InvalidInputError(
                    f"{tensor.array} begins at address {address:#x}; the TMA needs a multiple of "
                    f"{tensor.alignment_bytes} bytes: copy it first"
                )
            with self._session.active(f"describing {tensor.array} to the TMA"):
                parts.append(self._session.native.encoded(tensor, address))
        memory = CudaMemory(self._session, TENSOR_MAP_BYTES * len(parts))
        memory.write(0, np.frombuffer(b"".join(parts), np.uint8))
        return memory

    def _make_room(self) -> None:
        if len(self._made) >= _MOST_KEPT:
            with self._session.active("waiting for kernels that read descriptors"):
                self._session.cuda.Context.synchronize()
            self.release()
