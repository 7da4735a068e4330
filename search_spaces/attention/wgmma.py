"""The wgmma attention template: Hopper's tensor cores fed by TMA, FlashAttention-3 style."""

from __future__ import annotations

from functools import cache
from importlib import resources

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention.combine import combine_launch, combine_text, partial_results
from search_spaces.attention.defines import inputs, outputs, sequence_text, workload_defines
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.wgmma_maps import tensor_maps
from search_spaces.attention.wgmma_resources import (
    ELEMENT_BYTES,
    LOADER_REGISTERS,
    Grid,
    Problem,
    consumer_registers,
    shared_bytes,
)
from search_spaces.attention.wgmma_space import constraints, knobs
from search_spaces.attention.wgmma_stats import statistics
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch
from search_spaces.space import SearchSpace
from search_spaces.warpgroup import INSTRUCTIONS, threads

_ARCH = "sm_90a"
_DTYPES = ("float16", "bfloat16")
_PAIRS = {"float16": "floats_to_float16x2", "bfloat16": "floats_to_bfloat16x2"}
_ALIGNMENT_BYTES = 16  # of rows that TMA loads
_MAX_DIM = 256  # of Q and K, for shared memory; of V, columns of one product
_MAX_EXTENT = 2**31 - 2**16  # coordinates are counted in 32 bits, to the end of the last tile
_HEADERS = ("tiles", "softmax", "store", "load", "consumer")
_LEAST_PAGE = 16  # rows: steps of keys of one product


class WgmmaAttention:
    """`Template` for Hopper (sm_90a); the text is `wgmma.cu` and its headers.

    J. Shah and others, "FlashAttention-3: Fast and Accurate Attention with Asynchrony and
    Low-precision", arXiv:2407.08608. Weights are rounded to the dtype for the product with V.
    Arrays must begin at a multiple of 16 bytes, as every allocation does.
    """

    op = "attention"
    name = "wgmma"
    version = 1
    dialects = ("cuda",)

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        if target.arch != _ARCH:
            return f"{target} has no warpgroup products: their code is for {_ARCH} alone"
        if given.dtype not in _DTYPES:
            return f"it multiplies {' and '.join(_DTYPES)}, not {given.dtype}"
        known = target.limit("dtypes", ("float32",))
        for dtype in (given.dtype, "float32"):
            if dtype not in known:
                return f"{target} does not compute in {dtype}, only in {', '.join(known)}"
        if given.scaled_kv:
            return f"its products take one dtype; K and V are kept as {given.kv_dtype}"
        return _rejected_sizes(given)

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        problem = Problem.of(workload)
        return SearchSpace(
            self.name, self.version, knobs(problem, target), constraints(problem, target)
        )

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        work, traffic = ATTENTION.flops(workload), ATTENTION.bytes(workload)
        return statistics(Problem.of(workload), schedule, target, work, traffic)

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        problem = Problem.of(workload)
        given = problem.given
        splits = schedule["splits"]
        parts = (
            dialect.prelude,
            workload_defines(given, dialect),
            _defines(problem, schedule),
            _products(problem, schedule),
            _text("dialects/hopper.h"),
            _text("attention/wgmma_instructions.h"),
            sequence_text(),
            *(_text(f"attention/wgmma_{part}.h") for part in _HEADERS),
            _text("attention/wgmma.cu"),
            *((combine_text(),) if splits > 1 else ()),
        )
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=_launches(problem, schedule),
            arrays=ATTENTION.arrays(workload),
            scratch=partial_results(given, splits),
            tensor_maps=tensor_maps(problem, schedule),
        )


WGMMA_ATTENTION = WgmmaAttention()


@cache
def _text(name: str) -> str:
    return resources.files("search_spaces").joinpath(name).read_text()


def _rejected_sizes(given: Parameters) -> str:
    for name, dim in (("head_dim", given.head_dim), ("v_dim", given.v_dim)):
        if dim > _MAX_DIM:
            return f"{name} {dim} exceeds {_MAX_DIM}, what shared memory and one product hold"
        if dim * ELEMENT_BYTES % _ALIGNMENT_BYTES:
            return (
                f"TMA loads rows that begin at multiples of {_ALIGNMENT_BYTES} bytes; {name} {dim} "
                f"makes them {dim * ELEMENT_BYTES} bytes; pad them"
            )
    if given.page_size % _LEAST_PAGE:
        return (
            f"a page of {given.page_size} keys cuts through the {_LEAST_PAGE} that one product "
            "takes; choose a multiple"
        )
    units = Problem(given).units(1, False, 1)
    if max(given.total_q, sum(given.kv_lens), given.kv_len, 256 * units) > _MAX_EXTENT:
        return f"rows and tiles are counted in 32 bits (to {_MAX_EXTENT}); cut the batch"
    return ""


def _defines(problem: Problem, schedule: Schedule) -> str:
    given, grid = problem.given, Grid.of(problem, schedule)
    consumers, resident = schedule["consumers"], schedule["resident"]
    taken = consumer_registers(consumers, resident)
    numbers = ("tile_n", "stages", "splits", "overlap", "pingpong", "lazy", "polynomials")
    values = {
        **{name.upper(): int(schedule[name]) for name in (*numbers, "buffers")},
        "CONSUMERS": consumers,
        "RESIDENT": resident,
        "PACK": problem.packed_heads(schedule["pack_heads"]),
        "TOGETHER": schedule["together"],
        "CLUSTER_M": grid.cluster,
        "CLUSTER_N": 1,
        "CLUSTERS": grid.clusters,
        "QUERY_REGISTERS": int(schedule["query"] == "registers"),
        "STORE_TMA": int(schedule["store"] == "tma"),
        "LOADER_REGISTERS": LOADER_REGISTERS if taken else 0,
        "CONSUMER_REGISTERS": taken,
        "PAGE_ROWS": problem.page_rows(schedule["tile_n"]),
        "PAGES": given.pages if given.page_size else 0,
        "PAIR(x, y)": f"{_PAIRS[given.dtype]}(x, y)",
    }
    return "".join(f"#define {name} {value}\n" for name, value in values.items())


def _products(problem: Problem, schedule: Schedule) -> str:
    """Instructions of Q K, neighbours side by side along k, and of weights V, across it."""
    instruction = INSTRUCTIONS[problem.given.dtype]
    in_registers = schedule["query"] == "registers"
    return instruction.defines(
        schedule["tile_n"], True, True, prefix="QK", left_in_registers=in_registers
    ) + instruction.defines(problem.given.v_dim, True, False, prefix="PV", left_in_registers=True)


def _launches(problem: Problem, schedule: Schedule) -> tuple[Launch, ...]:
    given = problem.given
    to: tuple[str, ...] = outputs(given)
    if schedule["store"] == "tma":
        to = ("out_map", *to)
    if schedule["splits"] > 1:
        to = ("partial_out", "partial_sums")
    main = Launch(
        "attention",
        (Grid.of(problem, schedule).blocks, 1, 1),
        (threads(schedule["consumers"]), 1, 1),
        ("q_map", "k_map", "v_map", *inputs(given), *to),
        shared_bytes(problem, schedule),
    )
    return (main, combine_launch(given)) if schedule["splits"] > 1 else (main,)
