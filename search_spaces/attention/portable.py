"""The portable attention template: online softmax over tiles in local memory, one text for all."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention.combine import combine_launch, combine_text, partial_results
from search_spaces.attention.defines import inputs, outputs, sequence_text, workload_defines
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.portable_resources import Problem, shared_bytes, threads
from search_spaces.attention.portable_space import constraints, knobs
from search_spaces.attention.portable_stats import statistics
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch
from search_spaces.space import SearchSpace

_CONVERTED = ("bfloat16", "float8_e4m3", "float8_e5m2")  # by instructions of newer GPUs in CUDA
_TEXTS = ("portable_schedule.h", "portable_tiles.h", "portable.cl")


class Portable:
    """`Template` for every OpenCL device and for CUDA; the text is `portable.cl`.

    Arithmetic is float32, whatever the type in memory. Arrays must begin at a multiple of 16
    bytes, as every allocation does.
    """

    op = "attention"
    name = "portable"
    version = 1
    dialects = ("opencl", "cuda")

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        known = target.limit("dtypes", ("float32",))
        if "float32" not in known:
            return f"{target} does not compute in float32, only in {', '.join(known) or 'nothing'}"
        for dtype in {given.dtype, given.kv_dtype} & set(_CONVERTED):
            if target.backend == "cuda" and dtype not in known:
                return f"{target} has no conversions of {dtype}, only of {', '.join(known)}"
        space = self.space(workload, target)
        return "" if space else f"no schedule fits {target}: {'; '.join(space.why_empty())}"

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        return _space(Parameters.of(workload), target)

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        problem = Problem(Parameters.of(workload))
        work, traffic = ATTENTION.flops(workload), ATTENTION.bytes(workload)
        return statistics(problem, schedule, target, work, traffic)

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        given = Parameters.of(workload)
        parts = (
            dialect.prelude,
            workload_defines(given, dialect),
            _defines(schedule),
            sequence_text(),
            *([combine_text()] if schedule["splits"] > 1 else []),
            *map(_text, _TEXTS),
        )
        return KernelSource(
            dialect=dialect.name,
            text="\n".join(parts),
            launches=_launches(Problem(given), schedule, dialect),
            arrays=ATTENTION.arrays(workload),
            scratch=partial_results(given, schedule["splits"]),
        )


PORTABLE_ATTENTION = Portable()


@lru_cache(maxsize=64)
def _space(given: Parameters, target: Target) -> SearchSpace:
    """Kept, because `rejects` asks it whether anything fits."""
    problem = Problem(given)
    return SearchSpace(
        Portable.name, Portable.version, knobs(problem, target), constraints(problem, target)
    )


@cache
def _text(name: str) -> str:
    return resources.files("search_spaces.attention").joinpath(name).read_text()


def _defines(schedule: Schedule) -> str:
    return "".join(f"#define {name.upper()} {int(schedule[name])}\n" for name in schedule.values)


def _launches(problem: Problem, schedule: Schedule, dialect: Dialect) -> tuple[Launch, ...]:
    given, splits = problem.given, schedule["splits"]
    groups = problem.tiles(schedule["block_q"], schedule["pack_heads"]) * splits
    scratch = tuple(each.name for each in partial_results(given, splits))
    main = Launch(
        "attention",
        (groups, 1, 1),
        (threads(schedule), 1, 1),
        ("q", "k", "v", *inputs(given), *(scratch or outputs(given))),
        shared_bytes(problem, schedule) if dialect.name == "cuda" else 0,
    )
    return (main,) if splits == 1 else (main, combine_launch(given))
