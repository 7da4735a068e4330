"""What a warp's tensor cores multiply (`mma.sync`), by dtype, and the C++ types around them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from records.target import Target
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.dialect import Dialect
from search_spaces.matmul.parameters import Parameters

DEPTH_BYTES = 32  # of k in one product, whatever the dtype
_SUMS = {
    "float32": ("f32", "float", 4),
    "float16": ("f16", "unsigned", 2),
    "int32": ("s32", "int", 4),
}


@dataclass(frozen=True)
class Format:
    """A dtype as PTX names it, and the compute capability (× 10) that multiplies it first."""

    name: str
    since: int


# PTX ISA 8.5, "mma": m16n8k8 for tf32, m16n8k16 for 16 bits, m16n8k32 for 8 bits.
FORMATS: Mapping[str, Format] = {
    "float16": Format("f16", 80),
    "bfloat16": Format("bf16", 80),
    "tf32": Format("tf32", 80),
    "int8": Format("s8", 80),
    "float8_e4m3": Format("e4m3", 89),
    "float8_e5m2": Format("e5m2", 89),
}


def capability(target: Target) -> int:
    """Of a CUDA target, × 10: 90 for sm_90a; 0 of anything else."""
    found = re.fullmatch(r"sm_(\d+)[a-z]?", target.arch) if target.backend == "cuda" else None
    return int(found[1]) if found else 0


def rejected_types(workload: Workload, target: Target) -> str:
    """Why the target has no `mma.sync` for the workload's dtypes, or `""`."""
    given = Parameters.of(workload)
    if given.dtype not in FORMATS:
        hint = "; tf32 multiplies float32 rounded to 10 bits" if given.dtype == "float32" else ""
        return f"tensor cores multiply {', '.join(FORMATS)}, not {given.dtype}{hint}"
    since = FORMATS[given.dtype].since
    if capability(target) < since:
        return f"{target} is not CUDA from sm_{since} on, whose tensor cores multiply {given.dtype}"
    known = target.limit("dtypes", ("float32",))
    if given.epilogue_dtype not in known:
        return f"{target} does not compute in {given.epilogue_dtype}, only in {', '.join(known)}"
    return ""


def product(given: Parameters) -> str:
    """Shape and types of the instruction: what `MMA` of `tensor_core.h` is."""
    name, sums = FORMATS[given.dtype].name, _SUMS[given.accumulate][0]
    depth = DEPTH_BYTES * 8 // dtypes.dtype(given.dtype).bits
    return f'"m16n8k{depth}.row.col.{sums}.{name}.{name}.{sums}"'


def sum_words(given: Parameters) -> int:
    """Registers of a lane for its share of 16 × 8 sums: those of float16 lie in pairs."""
    return _SUMS[given.accumulate][2]


def type_defines(given: Parameters, dialect: Dialect) -> dict[str, object]:
    """The macros that name types in `mma_sync.cu`, but for C's, which `store_code` gives."""
    return {
        "MMA": product(given),
        "STORED": dialect.stored(given.dtype),
        "STORED_BYTES": dtypes.dtype(given.dtype).bits // 8,
        "SUM": _SUMS[given.accumulate][1],
        "SUM_WORDS": sum_words(given),
        "PARTIAL": "int" if given.accumulate == "int32" else "float",
        "VALUE": "int" if given.out_dtype == "int32" else "float",
    }
