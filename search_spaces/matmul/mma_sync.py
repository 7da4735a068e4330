"""The mma_sync matmul template: tensor cores fed by asynchronous copies, sm_80 and later."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch, Scratch
from search_spaces.matmul.epilogue import EpilogueCode, epilogue_code, store_code
from search_spaces.matmul.mma_sync_resources import Problem
from search_spaces.matmul.mma_sync_resources import grid as grid_of
from search_spaces.matmul.mma_sync_space import constraints, knobs
from search_spaces.matmul.mma_sync_stats import shared_bytes, statistics, threads
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.tensor_core_code import (
    REDUCE_THREADS,
    kernel_text,
    operand_arguments,
    quantised_defines,
    reduce_launch,
    rejected_group_size,
    rejected_sizes,
    row_group_code,
)
from search_spaces.matmul.tensor_core_types import rejected_types, type_defines
from search_spaces.space import SearchSpace


class MmaSync:
    """`Template` for CUDA from sm_80 on; the text is `mma_sync.cu` and the headers it names.

    Any size and layout; rows of A or B that are odd multiples of 2 bytes are copied element by
    element. A quantised B comes to registers as integers and is restored there, in the dtype of A.
    Arrays must begin at a multiple of 16 bytes, as every allocation does.
    """

    op = "matmul"
    name = "mma_sync"
    version = 2
    dialects = ("cuda",)

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        return (
            rejected_types(workload, target) or rejected_group_size(given) or rejected_sizes(given)
        )

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
            row_group_code(given, schedule["block_m"], epilogue),
            store_code(workload, dialect),
            epilogue.text,
            *map(kernel_text, _texts(given, bool(partial_bytes))),
        )
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=_launches(given, problem, schedule, epilogue),
            arrays=MATMUL.arrays(workload),
            scratch=(Scratch("partial", partial_bytes),) if partial_bytes else (),
        )


MMA_SYNC = MmaSync()


def _texts(given: Parameters, in_parts: bool) -> tuple[str, ...]:
    operands = (
        ("matmul/quantised.h", "matmul/mma_sync_quantised.h")
        if given.quantised
        else ("matmul/mma_sync_plain.h",)
    )
    return (
        "dialects/tensor_core.h",
        "matmul/tiles.h",
        *(["matmul/row_groups.h"] if given.groups else []),
        "matmul/mma_sync_schedule.h",
        "matmul/mma_sync_tiles.h",
        *operands,
        *(["matmul/split_k.h"] if in_parts else []),
        "matmul/mma_sync.cu",
    )


def _defines(given: Parameters, problem: Problem, schedule: Schedule, dialect: Dialect) -> str:
    values = {
        "M": problem.m,
        "N": problem.n,
        "K": problem.k,
        "A_ALONG_K": int(problem.a_along_k),
        "B_ALONG_K": int(problem.b_along_k),
        **type_defines(given, dialect),
        "A_COPY": problem.a_copy_bytes,
        "B_COPY": problem.b_copy_bytes,
        **(quantised_defines(given) if given.quantised else {}),
        **({"QUANTUM_COPY": problem.quantum_copy_bytes} if given.quantised else {}),
        "C_LANES": problem.c_lanes,
        **{name.upper(): int(schedule[name]) for name in schedule.values},
        "REDUCE_THREADS": REDUCE_THREADS,
    }
    return "".join(f"#define {name} {value}\n" for name, value in values.items())


def _launches(
    given: Parameters, problem: Problem, schedule: Schedule, epilogue: EpilogueCode
) -> tuple[Launch, ...]:
    grid = grid_of(problem, schedule)
    finish = ("c", *epilogue.arguments)
    main = Launch(
        "matmul",
        (grid.tiles, grid.parts, problem.batch),
        (threads(schedule), 1, 1),
        (*operand_arguments(given), *(finish if grid.parts == 1 else ("partial",))),
        shared_bytes(problem, schedule),
    )
    if grid.parts == 1:
        return (main,)
    return (main, reduce_launch(given, finish))
