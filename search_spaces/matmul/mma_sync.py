"""The mma_sync matmul template: tensor cores fed by asynchronous copies, sm_80 and later."""

from __future__ import annotations

from functools import cache
from importlib import resources

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch, Scratch
from search_spaces.matmul.epilogue import EpilogueCode, epilogue_code, store_code
from search_spaces.matmul.mma_sync_resources import Problem
from search_spaces.matmul.mma_sync_space import constraints, knobs
from search_spaces.matmul.mma_sync_stats import shared_bytes, statistics, threads
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.portable_space import GROUPS_AXIS
from search_spaces.matmul.tensor_core_types import rejected_types, type_defines
from search_spaces.matmul.tiling import Grid, ceil_divide
from search_spaces.space import SearchSpace

REDUCE_THREADS = 128
RESTORED_TOGETHER = 8  # neighbours in k of a quantised B, that a scale must hold for
_MAX_EXTENT = 2**31 - 2**16  # rows are counted in 32 bits, to the end of the last tile


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
            rejected_types(workload, target)
            or rejected_form(given)
            or rejected_group_size(given)
            or rejected_sizes(given)
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


@cache
def kernel_text(name: str) -> str:
    return resources.files("search_spaces").joinpath(name).read_text()


def _texts(given: Parameters, in_parts: bool) -> tuple[str, ...]:
    operands = (
        ("matmul/quantised.h", "matmul/mma_sync_quantised.h")
        if given.quantised
        else ("matmul/mma_sync_plain.h",)
    )
    return (
        "dialects/tensor_core.h",
        "matmul/tiles.h",
        "matmul/mma_sync_schedule.h",
        "matmul/mma_sync_tiles.h",
        *operands,
        *(["matmul/split_k.h"] if in_parts else []),
        "matmul/mma_sync.cu",
    )


def rejected_form(given: Parameters) -> str:
    """For templates of products of one size."""
    if given.groups:
        return f"it multiplies batches of one size, not {len(given.groups)} groups of rows"
    return ""


def rejected_group_size(given: Parameters) -> str:
    """For templates that restore a quantised B a few neighbours in k at a time."""
    if given.group_size % RESTORED_TOGETHER and given.group_size != given.k:
        return (
            f"it restores {RESTORED_TOGETHER} neighbours in k with one scale; a group of "
            f"{given.group_size} is no multiple of that; choose a group_size that is, or k"
        )
    return ""


def rejected_sizes(given: Parameters) -> str:
    if given.batch > GROUPS_AXIS:
        return (
            f"a batch of {given.batch} exceeds the third axis of a grid ({GROUPS_AXIS}); "
            "cut the batch into smaller ones"
        )
    largest = max(given.m, given.n, given.k)
    if largest > _MAX_EXTENT:
        return (
            f"an extent of {largest} exceeds 32-bit coordinates ({_MAX_EXTENT}); "
            "cut the product into smaller ones"
        )
    return ""


def reduce_launch(given_m: int, given_n: int, batch: int, finish: tuple[str, ...]) -> Launch:
    """Of split_k.h."""
    blocks = ceil_divide(given_m * given_n, REDUCE_THREADS)
    return Launch("reduce", (blocks, 1, batch), (REDUCE_THREADS, 1, 1), ("partial", *finish))


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


def quantised_defines(given: Parameters) -> dict[str, int]:
    """What `quantised.h` needs, but for sizes."""
    return {
        "QUANTISED": 1,
        "B_BITS": dtypes.dtype(given.b_dtype).bits,
        "ZERO_POINT": int(given.zero_point),
        "GROUP_SIZE_K": given.group_size,
        "IS_BFLOAT": int(given.dtype == "bfloat16"),
    }


def operand_arguments(given: Parameters) -> tuple[str, ...]:
    """A, B, and the scales and zeros of a quantised B."""
    there = (("b_scale", given.quantised), ("b_zero", given.zero_point))
    return ("a", "b", *(name for name, given_ in there if given_))


def _launches(
    given: Parameters, problem: Problem, schedule: Schedule, epilogue: EpilogueCode
) -> tuple[Launch, ...]:
    grid = Grid.of(problem, schedule)
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
    return (main, reduce_launch(problem.m, problem.n, problem.batch, finish))
