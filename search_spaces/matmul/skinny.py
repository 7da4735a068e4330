"""The skinny matmul template: up to 16 rows of A, weights read once at memory bandwidth."""

from __future__ import annotations

from dataclasses import replace

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch, Scratch
from search_spaces.matmul.epilogue import EpilogueCode, epilogue_code, store_code
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.skinny_resources import MAX_REGISTERS, MAX_ROWS, WARP, Problem
from search_spaces.matmul.skinny_space import constraints, knobs
from search_spaces.matmul.skinny_stats import groups, shared_bytes, statistics, warps
from search_spaces.matmul.tensor_core_code import (
    REDUCE_THREADS,
    kernel_text,
    operand_arguments,
    reduce_launch,
    rejected_group_size,
    rejected_sizes,
    row_group_code,
)
from search_spaces.matmul.tensor_core_types import capability, product
from search_spaces.space import SearchSpace

_SINCE = {"float8_e4m3": 89, "float8_e5m2": 89}  # conversions; everything else from sm_80 on
_TO_SUM = {  # dtype of A and B -> an element to what is added
    "float16": "half_to_float(x)",
    "bfloat16": "bfloat16_to_float(x)",
    "float32": "(x)",
    "tf32": "(x)",
    "float8_e4m3": "float8_e4m3_to_float(x)",
    "float8_e5m2": "float8_e5m2_to_float(x)",
    "int8": "(int)(x)",
}


class Skinny:
    """`Template` for CUDA from sm_80 on, and at most 16 rows of A, or of each group of rows.
    The text is `skinny.cu`.

    Sums are float32 (int32 for int8), also where `accumulate` allows float16; tf32 is multiplied
    as float32. A quantised B is restored, in the dtype of A, on its way to the tensor cores.
    Arrays must begin at a multiple of 16 bytes, as every allocation does.
    """

    op = "matmul"
    name = "skinny"
    version = 2
    dialects = ("cuda",)

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        rows = max(given.groups, default=given.m)
        if rows > MAX_ROWS:
            return f"it keeps all rows of a product in registers, at most {MAX_ROWS}, not {rows}"
        if given.dtype not in _TO_SUM:
            return f"it multiplies {', '.join(_TO_SUM)}, not {given.dtype}"
        since = _SINCE.get(given.dtype, 80)
        if capability(target) < since:
            return f"{target} is not CUDA from sm_{since} on, which it needs for {given.dtype}"
        known = target.limit("dtypes", ("float32",))
        if given.epilogue_dtype not in known:
            known_names = ", ".join(known)
            return f"{target} does not compute in {given.epilogue_dtype}, only in {known_names}"
        return rejected_group_size(given) or rejected_sizes(given) or _rejected_rows(workload)

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        problem = Problem.of(workload)
        return SearchSpace(
            self.name, self.version, knobs(problem, target), constraints(problem, target)
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        problem = Problem.of(workload)
        work, traffic = MATMUL.flops(workload), MATMUL.bytes(workload)
        return statistics(problem, schedule, target, work, traffic)

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        given, problem = Parameters.of(workload), Problem.of(workload)
        epilogue = epilogue_code(workload, dialect)
        partial_bytes = problem.partial_sums_bytes(schedule["split_k"])
        parts = (
            dialect.prelude,
            _defines(given, problem, schedule, dialect),
            row_group_code(given, MAX_ROWS, epilogue),
            store_code(workload, dialect),
            epilogue.text,
            kernel_text("dialects/tensor_core.h"),
            kernel_text("matmul/tiles.h"),
            *([kernel_text("matmul/row_groups.h")] if given.groups else []),
            *([kernel_text("matmul/quantised.h")] if given.quantised else []),
            *([kernel_text("matmul/split_k.h")] if partial_bytes else []),
            kernel_text("matmul/skinny.cu"),
        )
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=_launches(given, problem, schedule, epilogue),
            arrays=MATMUL.arrays(workload),
            scratch=(Scratch("partial", partial_bytes),) if partial_bytes else (),
        )


SKINNY = Skinny()


def _rejected_rows(workload: Workload) -> str:
    problem = Problem.of(workload)
    ways = {True} if problem.quantised else {False, problem.has_mma}
    needed = min(problem.registers(use_mma, 1) for use_mma in ways)
    if needed <= MAX_REGISTERS:
        return ""
    return (
        f"sums of {problem.m} rows by the {problem.vector} columns of one load of B need about "
        f"{needed} registers, and a thread has {MAX_REGISTERS}; use layout nt"
    )


def _defines(given: Parameters, problem: Problem, schedule: Schedule, dialect: Dialect) -> str:
    sums = "int" if given.accumulate == "int32" else "float"
    values = {
        "M": given.m,
        **({"ROWS": problem.m} if given.groups else {}),
        "N": problem.n,
        "K": problem.k,
        "A_ALONG_K": int(problem.a_along_k),
        "B_ALONG_K": int(problem.b_along_k),
        **({"MMA": product(replace(given, accumulate=sums + "32"))} if problem.has_mma else {}),
        "STORED": dialect.stored(given.dtype),
        "STORED_BYTES": dtypes.dtype(given.dtype).bits // 8,
        "SUM": sums,
        "PARTIAL": sums,
        "VALUE": "int" if given.out_dtype == "int32" else "float",
        "STORED_TO_SUM(x)": _TO_SUM[given.dtype],
        "A_LOAD": problem.a_load_bytes,
        "B_LOAD": problem.b_load_bytes,
        "B_BITS": problem.b_bits,
        "QUANTISED": int(given.quantised),
        "ZERO_POINT": int(given.zero_point),
        "GROUP_SIZE_K": given.group_size or given.k,
        "IS_BFLOAT": int(given.dtype == "bfloat16"),
        **{name.upper(): int(schedule[name]) for name in schedule.values},
        "REDUCE_THREADS": REDUCE_THREADS,
    }
    return "".join(f"#define {name} {value}\n" for name, value in values.items())


def _launches(
    given: Parameters, problem: Problem, schedule: Schedule, epilogue: EpilogueCode
) -> tuple[Launch, ...]:
    blocks, parts, batch = groups(problem, schedule)
    finish = ("c", *epilogue.arguments)
    main = Launch(
        "matmul",
        (blocks, parts, batch),
        (WARP * warps(schedule), 1, 1),
        (*operand_arguments(given), *(finish if parts == 1 else ("partial",))),
        shared_bytes(problem, schedule),
    )
    if parts == 1:
        return (main,)
    return (main, reduce_launch(given, finish))
