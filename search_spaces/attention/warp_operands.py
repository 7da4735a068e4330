"""What the templates on warps' tensor cores share: types, operands in shared memory, texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Self

from records.target import Target
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention.parameters import Parameters
from search_spaces.matmul.tensor_core_types import capability
from search_spaces.rounding import ceil_divide

WARP = 32
FRAGMENT = 16  # rows of Q, and steps of k, of one product
MAX_REGISTERS = 255  # of one thread
RESERVED_SHARED_BYTES = 1 << 10  # of each block, by CUDA itself
STATIC_SHARED_BYTES = 48 << 10  # of a block whose target does not tell
MAX_RESIDENT_WARPS = 64  # of a unit, sm_80 and sm_90; 48 of sm_86 and sm_89

_SINCE = 80  # the compute capability (x 10) of cp.async and of products of bfloat16
_COPIES = (16, 8, 4)  # bytes that cp.async moves
_INSTRUCTION_TYPES = {"float16": "f16", "bfloat16": "bf16"}
_MANTISSA_BITS = {"float8_e4m3": 3, "float8_e5m2": 2}


@dataclass(frozen=True)
class Operands:
    """An attention workload as it lies in shared memory: lines of whole steps of k."""

    given: Parameters
    element_bytes: int  # of Q and the output
    kv_bytes: int  # of an element of K and V

    @classmethod
    def of(cls, workload: Workload) -> Self:
        given = Parameters.of(workload)
        sizes = (dtypes.storage(name).itemsize for name in (given.dtype, given.kv_dtype))
        return cls(given, *sizes)

    @property
    def qk_width(self) -> int:
        """Elements of a row of Q or K in shared memory."""
        return ceil_divide(self.given.head_dim, FRAGMENT) * FRAGMENT

    @property
    def v_width(self) -> int:
        return ceil_divide(self.given.v_dim, FRAGMENT) * FRAGMENT

    @property
    def keys_of_load(self) -> int:
        """Keys whose fragments one matrix load brings."""
        return 2 * FRAGMENT // self.kv_bytes

    @property
    def q_copy_bytes(self) -> int:
        """What one asynchronous copy of Q moves; 0 if rows are not even multiples of 4 bytes."""
        return _copy_bytes(self.given.head_dim * self.element_bytes)

    @property
    def k_copy_bytes(self) -> int:
        return _copy_bytes(self.given.head_dim * self.kv_bytes)

    @property
    def v_copy_bytes(self) -> int:
        return _copy_bytes(self.given.v_dim * self.kv_bytes)

    @property
    def out_bytes(self) -> int:
        """Of neighbours in a row of the output that are stored together."""
        return _copy_bytes(self.given.v_dim * self.element_bytes) or self.element_bytes

    def kv_tile_bytes(self, tile_keys: int) -> int:
        """Of so many keys of K and V together."""
        return tile_keys * (self.qk_width + self.v_width) * self.kv_bytes


def rejected_types(given: Parameters, target: Target) -> str:
    """Why the target's warps do not multiply the workload's types, or `""`."""
    if capability(target) < _SINCE:
        return f"{target} is not CUDA from sm_{_SINCE} on, whose tensor cores it feeds"
    if given.dtype not in _INSTRUCTION_TYPES:
        hint = "tf32 would keep 10 of its 23 bits of mantissa"
        return f"it multiplies {' and '.join(_INSTRUCTION_TYPES)}, not {given.dtype}: {hint}"
    known = target.limit("dtypes", ("float32",))
    if "float32" not in known:
        return f"{target} does not compute in float32, only in {', '.join(known) or 'nothing'}"
    return ""


def type_defines(operands: Operands) -> dict[str, object]:
    """The macros that `tensor_core.h`, `warp_tiles.h` and `warp_softmax.h` know types by."""
    given = operands.given
    kind = _INSTRUCTION_TYPES[given.dtype]
    return {
        "IS_BFLOAT": int(given.dtype == "bfloat16"),
        "KV_MANTISSA_BITS": _MANTISSA_BITS.get(given.kv_dtype, 0),
        "MMA": f'"m16n8k16.row.col.f32.{kind}.{kind}.f32"',
        "K_COPY": operands.k_copy_bytes,
        "V_COPY": operands.v_copy_bytes,
    }


@cache
def kernel_text(name: str) -> str:
    return resources.files("search_spaces").joinpath(name).read_text()


def _copy_bytes(row_bytes: int) -> int:
    return next((size for size in _COPIES if row_bytes % size == 0), 0)
