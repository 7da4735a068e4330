"""The mma_sync attention template: warp-level tensor cores, FlashAttention-2 style, from sm_80."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention.combine import combine_launch, combine_text, partial_results
from search_spaces.attention.defines import inputs, outputs, workload_defines
from search_spaces.attention.mma_sync_resources import Problem, shared_bytes, tiles
from search_spaces.attention.mma_sync_space import MAX_GRID, constraints, knobs, too_large
from search_spaces.attention.mma_sync_stats import statistics
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.warp_operands import (
    WARP,
    kernel_text,
    rejected_types,
    type_defines,
)
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch
from search_spaces.space import SearchSpace

_MAX_V_DIM = 256  # 16 rows of sums of that many columns fill half the registers of a thread
_TEXTS = (
    "dialects/tensor_core.h",
    "matmul/tiles.h",
    "attention/exponentials.h",
    "attention/sequence.h",
    "attention/warp_tiles.h",
    "attention/warp_softmax.h",
    "attention/warp_products.h",
)


class MmaSync:
    """`Template` for CUDA from sm_80 on; the text is `mma_sync.cu` and the headers it names.

    float16 or bfloat16, K and V also float8; any sizes, layouts and pages. Rows that are odd
    multiples of 2 bytes are copied element by element. Arrays must begin at a multiple of 16
    bytes, as every allocation does.
    """

    op = "attention"
    name = "mma_sync"
    version = 1
    dialects = ("cuda",)

    def rejects(self, workload: Workload, target: Target) -> str:
        problem = Problem.of(workload)
        return (
            rejected_types(problem.given, target)
            or _rejected_sizes(problem.given)
            or too_large(problem, target)
        )

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        problem = Problem.of(workload)
        return SearchSpace(
            self.name, self.version, knobs(problem, target), constraints(problem, target)
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        problem = Problem.of(workload)
        work, traffic = ATTENTION.flops(workload), ATTENTION.bytes(workload)
        return statistics(problem, schedule, target, work, traffic)

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        given, problem = Parameters.of(workload), Problem.of(workload)
        scratch = partial_results(given, schedule["splits"])
        parts = (
            dialect.prelude,
            workload_defines(given, dialect),
            _defines(problem, schedule),
            *map(kernel_text, _TEXTS),
            *([combine_text()] if scratch else []),
            kernel_text("attention/mma_sync.cu"),
        )
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=_launches(problem, schedule),
            arrays=ATTENTION.arrays(workload),
            scratch=scratch,
        )


MMA_SYNC_ATTENTION = MmaSync()


def _rejected_sizes(given: Parameters) -> str:
    if given.v_dim > _MAX_V_DIM:
        return (
            f"a thread's registers hold sums of v_dim up to {_MAX_V_DIM}, not {given.v_dim}; "
            "cut V into several calls"
        )
    blocks = given.batch * given.heads * given.q_len
    if blocks > MAX_GRID:
        return (
            f"rows are counted in 31 bits; batch x heads x q_len is {blocks}; "
            "cut the batch into several calls"
        )
    return ""


def _defines(problem: Problem, schedule: Schedule) -> str:
    values = {
        **type_defines(problem),
        "Q_COPY": problem.q_copy_bytes,
        "OUT_BYTES": problem.out_bytes,
        **{name.upper(): int(schedule[name]) for name in schedule.values},
    }
    return "".join(f"#define {name} {value}\n" for name, value in values.items())


def _launches(problem: Problem, schedule: Schedule) -> tuple[Launch, ...]:
    given = problem.given
    parts = [each.name for each in partial_results(given, schedule["splits"])]
    main = Launch(
        "attend",
        (tiles(problem, schedule), schedule["splits"], 1),
        (WARP * schedule["warps"], 1, 1),
        ("q", "k", "v", *inputs(given), *(parts or outputs(given))),
        shared_bytes(problem, schedule),
    )
    return (main, combine_launch(given)) if parts else (main,)
