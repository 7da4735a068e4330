"""Statistics of the skinny template's schedules, each number with its formula."""

from __future__ import annotations

from records.schedule import Schedule
from records.target import Target
from search_spaces.kernel import KernelStats
from search_spaces.matmul.skinny_resources import WARP, Problem
from search_spaces.rounding import ceil_divide

_MAX_RESIDENT_WARPS = 64  # of a unit, sm_80 and sm_90; 48 of sm_86 and sm_89
_RESERVED_SHARED_BYTES = 1 << 10  # of each block, by CUDA itself


def groups(problem: Problem, schedule: Schedule) -> tuple[int, int, int]:
    """Blocks of a launch: of columns, of parts of k, of products."""
    names = ("use_mma", "groups", "warps_n")
    columns = ceil_divide(problem.n, problem.block_n(*(schedule[name] for name in names)))
    return columns, schedule["split_k"], problem.batch


def warps(schedule: Schedule) -> int:
    """Of a block."""
    return int(schedule["warps_n"] * schedule["warps_k"])


def shared_bytes(problem: Problem, schedule: Schedule) -> int:
    names = ("use_mma", "groups", "warps_n", "warps_k", "unroll", "stages")
    return problem.shared_bytes(*(schedule[name] for name in names))


def statistics(
    problem: Problem, schedule: Schedule, target: Target, useful_flops: float, arrays_bytes: int
) -> KernelStats:
    """`useful_flops` and `arrays_bytes`: the op's own count of work and of compulsory traffic.

    Every array crosses DRAM once: A stays in caches. Partial sums are written and read once.
    """
    columns, parts, batch = groups(problem, schedule)
    scratch_bytes = problem.partial_sums_bytes(parts)
    registers = problem.registers(schedule["use_mma"], schedule["groups"])
    a_reads = columns * schedule["warps_n"]  # each warp with columns of its own reads A
    row_bytes = problem.k * problem.element_bytes
    return KernelStats(
        groups=columns * parts * batch,
        threads=WARP * warps(schedule),
        shared_bytes=shared_bytes(problem, schedule),
        registers=registers,
        flops=_flops(problem, schedule),
        useful_flops=useful_flops,
        dram_bytes=float(arrays_bytes + 2 * scratch_bytes),
        l2_bytes=float(arrays_bytes + a_reads * problem.all_rows * row_bytes + 2 * scratch_bytes),
        working_set_bytes=float(problem.m * row_bytes // parts),
        vector_lanes=max(1, problem.b_load_bytes * 8 // problem.b_bits),
        launches=1 if parts == 1 else 2,
        scratch_bytes=scratch_bytes,
        extra=_extra(problem, schedule, target, registers),
    )


def _flops(problem: Problem, schedule: Schedule) -> float:
    """Two a product, with the padding of rows, columns and steps; and the additions of parts."""
    columns, parts, batch = groups(problem, schedule)
    use_mma = schedule["use_mma"]
    block_n = problem.block_n(use_mma, schedule["groups"], schedule["warps_n"])
    chunk_k = problem.chunk_k(use_mma, schedule["warps_k"], schedule["unroll"])
    steps = ceil_divide(problem.k, chunk_k) * chunk_k
    products = problem.rows(use_mma) * columns * block_n * steps
    additions = problem.all_rows * problem.n * (parts if parts > 1 else 0)
    return float(batch * 2 * products + additions)


def _extra(
    problem: Problem, schedule: Schedule, target: Target, registers: int
) -> tuple[tuple[str, float], ...]:
    """The template's own numbers.

    `warp_flight_bytes`, `flight_bytes`: of B under way, of a warp and of a unit. `resident_warps`:
    of a unit. `waves`: rounds of blocks on the whole device; `tail`: share of the rounds that has
    work. `rounds`: of loads that a warp makes. `a_share`: bytes of A over those of B that a warp
    loads. `line_bytes`: neighbours in memory that a warp's load takes.
    """
    use_mma, own = schedule["use_mma"], schedule["groups"]
    round_bytes = problem.round_bytes(use_mma, own, schedule["unroll"])
    warp_flight = round_bytes * (schedule["stages"] - 1)
    block_shared = shared_bytes(problem, schedule) + _RESERVED_SHARED_BYTES
    resident = max(
        1,
        min(
            target.limit("shared_bytes", 48 << 10) // block_shared,
            target.limit("registers", 65536) // (registers * WARP * warps(schedule)),
            _MAX_RESIDENT_WARPS // warps(schedule),
        ),
    )
    columns, parts, batch = groups(problem, schedule)
    capacity = max(1, target.limit("units", 1)) * resident
    waves = columns * parts * batch / capacity
    chunk_k = problem.chunk_k(use_mma, schedule["warps_k"], schedule["unroll"])
    lines = {(True, True): 64, (True, False): 128, (False, True): 512, (False, False): 512}
    return (
        ("warp_flight_bytes", float(warp_flight)),
        ("flight_bytes", float(min(resident, max(1.0, waves)) * warps(schedule) * warp_flight)),
        ("resident_warps", float(resident * warps(schedule))),
        ("waves", waves),
        ("tail", waves / ceil_divide(columns * parts * batch, capacity)),
        ("rounds", float(ceil_divide(ceil_divide(problem.k, chunk_k), parts))),
        ("a_share", _a_share(problem, use_mma, own)),
        ("line_bytes", float(lines[use_mma, problem.b_along_k])),
    )


def _a_share(problem: Problem, use_mma: bool, groups: int) -> float:
    b_bits = problem.shape(use_mma).columns * groups * problem.b_bits
    return problem.rows(use_mma) * problem.element_bytes * 8 / b_bits
