"""The decode attention template: a few queries, K and V read once at the bandwidth of memory."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention.combine import combine_launch, combine_text, partial_results
from search_spaces.attention.decode_resources import (
    LINE,
    MAX_HEAD_DIM,
    MAX_QUERIES,
    Problem,
)
from search_spaces.attention.decode_space import constraints, knobs
from search_spaces.attention.decode_stats import groups, shared_bytes, statistics, warps
from search_spaces.attention.defines import inputs, outputs, sequence_text, workload_defines
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.warp_operands import (
    FRAGMENT,
    MAX_REGISTERS,
    WARP,
    kernel_text,
    rejected_types,
    type_defines,
)
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch
from search_spaces.space import SearchSpace

_HEADERS = ("decode_schedule.h", "warp_tiles.h", "warp_softmax.h", "warp_products.h")
_PATHS = {True: "attention/decode_mma.h", False: "attention/decode_vector.h"}


class Decode:
    """`Template` for CUDA from sm_80 on, and at most 16 queries; the text is `decode.cu`.

    Queries and the output are float16 or bfloat16, K and V the same or float8; head dimensions
    are multiples of 8 up to 256. Keys may lie in any way that the op knows, in pages of any size.
    Arrays must begin at a multiple of 16 bytes, as every allocation does.
    """

    op = "attention"
    name = "decode"
    version = 1
    dialects = ("cuda",)

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        return (
            rejected_types(given, target)
            or _rejected_sizes(given)
            or _rejected_registers(Problem.of(workload))
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
            kernel_text("dialects/tensor_core.h"),
            kernel_text("attention/exponentials.h"),
            sequence_text(),
            *(kernel_text(f"attention/{name}") for name in _HEADERS),
            kernel_text(_PATHS[schedule["use_mma"]]),
            *([combine_text()] if scratch else []),
            kernel_text("attention/decode.cu"),
        )
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=_launches(problem, schedule),
            arrays=ATTENTION.arrays(workload),
            scratch=scratch,
        )


DECODE_ATTENTION = Decode()


def _rejected_sizes(given: Parameters) -> str:
    if given.q_len > MAX_QUERIES:
        return (
            f"it is for at most {MAX_QUERIES} queries of a sequence, which leave it bound by "
            f"reading K and V, not {given.q_len}"
        )
    for name, size in (("head_dim", given.head_dim), ("v_dim", given.v_dim)):
        if size % LINE or size > MAX_HEAD_DIM:
            return (
                f"it copies rows in pieces of {LINE} elements and keeps their sums in registers: "
                f"{name} must be a multiple of {LINE} up to {MAX_HEAD_DIM}, not {size}; pad it"
            )
    return ""


def _rejected_registers(problem: Problem) -> str:
    needed = problem.registers(True, FRAGMENT, problem.keys_of_load, q_registers=False)
    if needed <= MAX_REGISTERS:
        return ""
    given = problem.given
    return (
        f"sums of v_dim {given.v_dim} and {given.kv_dtype} on its way to a product need about "
        f"{needed} registers, and a thread has {MAX_REGISTERS}; use {given.dtype}"
    )


def _defines(problem: Problem, schedule: Schedule) -> str:
    values = {
        **type_defines(problem),
        **{name.upper(): int(schedule[name]) for name in schedule.values},
    }
    return "".join(f"#define {name} {value}\n" for name, value in values.items())


def _launches(problem: Problem, schedule: Schedule) -> tuple[Launch, ...]:
    given = problem.given
    is_split = schedule["splits"] > 1
    results = [each.name for each in partial_results(given, schedule["splits"])]
    main = Launch(
        "attend",
        groups(problem, schedule),
        (WARP * warps(schedule), 1, 1),
        ("q", "k", "v", *inputs(given), *(results or outputs(given))),
        shared_bytes(problem, schedule),
    )
    return (main, combine_launch(given)) if is_split else (main,)
