"""What the attention templates for CPUs share: vectors, types, whom they serve."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention.combine import combine_launch, combine_text, partial_results
from search_spaces.attention.defines import inputs, outputs, sequence_text, workload_defines
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.cpu_target import native_lanes
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, Launch

FLOAT_BYTES = 4
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # parts of the keys
LEAST_SPLIT_KEYS = 128  # of a part, about: what it costs to merge is little beside them
MANY_GROUPS = 4  # for each core, balance any load
MAX_ROWS = 2**27  # rows of a block beyond the last stay below 2**31


def lanes_of(target: Target) -> int:
    """Floats of a vector."""
    return native_lanes(FLOAT_BYTES, target)


def row_count(given: Parameters) -> int:
    """Rows that share a head of K and V: the queries of its heads, in the longest sequence."""
    return given.q_len * given.queries_per_kv_head


def kv_sequences(given: Parameters) -> int:
    """Heads of K and V, of all sequences."""
    return given.batch * given.kv_heads


def parts_of_keys(given: Parameters) -> tuple[int, ...]:
    """What the keys may be cut into."""
    most = max(1, given.kv_len // LEAST_SPLIT_KEYS)
    return tuple(parts for parts in SPLITS if parts <= most)


def unserved_reason(given: Parameters, target: Target) -> str:
    """`""`, or why no template for CPUs serves it."""
    if target.backend not in ("opencl", "sim") or not target.is_cpu:
        return "made for CPUs, whose vectors a single work-item uses"
    known = target.limit("dtypes", ("float32",))
    if "float32" not in known:
        return f"{target} does not compute in float32, only in {', '.join(known) or 'nothing'}"
    if row_count(given) > MAX_ROWS or row_count(given) * kv_sequences(given) >= 2**31:
        return (
            f"{given.q_len} queries of {given.heads} heads are more rows than it counts in 32 "
            "bits; cut them into several calls"
        )
    return ""


def kernel_text(
    given: Parameters, dialect: Dialect, defines: Mapping[str, int], *files: str
) -> str:
    """The prelude, the workload, `defines`, then these files of this folder."""
    lines = [f"#define {name} {value}" for name, value in {**_types(given), **defines}.items()]
    merging = [combine_text()] if defines["SPLITS"] > 1 else []
    parts = (
        dialect.prelude,
        workload_defines(given, dialect),
        "\n".join(lines) + "\n",
        sequence_text(),
        _text("cpu_vectors.h"),
        *merging,
        *(_text(file) for file in files),
    )
    return "\n".join(parts)


def kernel_source(
    workload: Workload, schedule: Schedule, dialect: Dialect, groups: int, text: str
) -> KernelSource:
    """The kernel `attention` of work-items for themselves, and the one that merges its parts."""
    given = Parameters.of(workload)
    parts = partial_results(given, schedule["splits"])
    results = tuple(each.name for each in parts) or outputs(given)
    arguments = ("q", "k", "v", *inputs(given), *results)
    main = Launch("attention", (groups, 1, 1), (1, 1, 1), arguments)
    return KernelSource(
        dialect=dialect.name,
        text=text,
        launches=(main, combine_launch(given)) if parts else (main,),
        arrays=ATTENTION.arrays(workload),
        scratch=parts,
    )


def _types(given: Parameters) -> dict[str, int]:
    return {
        "STORED_IS_FLOAT": int(given.dtype == "float32"),
        "STORED_IS_HALF": int(given.dtype == "float16"),
        "KV_IS_FLOAT": int(given.kv_dtype == "float32"),
        "KV_IS_HALF": int(given.kv_dtype == "float16"),
        "KV_IS_BFLOAT16": int(given.kv_dtype == "bfloat16"),
        "KV_IS_E5M2": int(given.kv_dtype == "float8_e5m2"),
    }


@cache
def _text(file: str) -> str:
    return resources.files("search_spaces.attention").joinpath(file).read_text()
