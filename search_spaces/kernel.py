"""What a template hands to a backend: text, how to launch it, and its physical statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from records.canonical import canonical_json, digest
from search_spaces import dtypes
from search_spaces.tensor_map import TensorMap


@dataclass(frozen=True)
class Array:
    """A tensor or scalar that a computation takes or gives.

    `shape` counts elements, row-major and contiguous; `()` is a scalar passed by value.
    `dtype` is a name of `search_spaces.dtypes`. `role`: `"input"`, `"output"`, `"scalar"`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Literal["input", "output", "scalar"]

    @property
    def storage(self) -> np.dtype[Any]:
        """numpy's type of an array that holds it."""
        return dtypes.storage(self.dtype)

    @property
    def storage_shape(self) -> tuple[int, ...]:
        """The shape of that array: `shape`, but where several elements share a byte."""
        return dtypes.storage_shape(self.dtype, self.shape)

    @property
    def size_bytes(self) -> int:
        return dtypes.size_bytes(self.dtype, self.shape)


@dataclass(frozen=True)
class Scratch:
    """Device memory that a kernel needs besides its arrays; contents undefined before a run."""

    name: str
    bytes: int


@dataclass(frozen=True)
class Launch:
    """One kernel launch. Launches of a source run in order, each after the one before.

    `groups` × `group_size` work-items (blocks × threads in CUDA). `arguments` name arrays of the
    workload, scratch or tensor maps of the source, in the kernel's own order. `shared_bytes`:
    dynamic shared memory (CUDA); statically declared local memory is not counted here.
    """

    kernel: str
    groups: tuple[int, int, int]
    group_size: tuple[int, int, int]
    arguments: tuple[str, ...]
    shared_bytes: int = 0


@dataclass(frozen=True)
class KernelSource:
    """A rendered schedule: text that compiles by itself, and its launches.

    `arrays` are the workload's, in the order of the op. `options` are compiler flags.
    `tensor_maps` describe arrays or scratch to the TMA (CUDA), by names of their own.
    """

    dialect: str
    text: str
    launches: tuple[Launch, ...]
    arrays: tuple[Array, ...]
    scratch: tuple[Scratch, ...] = ()
    options: tuple[str, ...] = ()
    tensor_maps: tuple[TensorMap, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Identity of everything that reaches the compiler."""
        return digest(canonical_json([self.dialect, self.text, list(self.options)]))


@dataclass(frozen=True)
class KernelStats:
    """What a schedule will ask of the hardware, known before compiling. Zero where unknown.

    `flops` counts the work done, padding included, so `useful_flops / flops` is the efficiency
    of the tiles at the edges. `dram_bytes` estimates the traffic below the last cache. `extra`
    are a template's own numbers for the cost model, by name.
    """

    groups: int = 0  # work-groups of the main launch
    threads: int = 0  # work-items in one group
    shared_bytes: int = 0  # local memory of one group
    registers: int = 0  # 32-bit registers of one work-item, estimated
    flops: float = 0.0
    useful_flops: float = 0.0
    dram_bytes: float = 0.0
    l2_bytes: float = 0.0  # traffic between a unit and the shared cache
    working_set_bytes: float = 0.0  # what one group reuses, to be compared with a core's caches
    vector_lanes: int = 1  # elements in one memory access or vector operation
    launches: int = 1
    scratch_bytes: int = 0
    extra: tuple[tuple[str, float], ...] = field(default=())
