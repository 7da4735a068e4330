"""Run every CUDA template × dtype × layout × epilogue at awkward sizes, and print what fails.

    python benchmarks/cuda_correctness.py [--op attention] [--device cuda:0] [--time-limit 240]

A few random schedules of each combination are compiled, launched into poison and checked in full,
as in tuning; times mean nothing. Sizes are multiples of nothing, and some of 16 bytes, which TMA
asks for. Every template × dtype × layout × epilogue comes at one size before any comes at a second:
a run that the time limit cuts short has covered them evenly, and says how much it left. Exit
status 1 where anything failed, or nothing ran. Of attention: template × types × masks × where keys
lie, likewise.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import attention_combinations
import numpy as np

from autotune.local_runner import LocalRunner
from autotune.rendering import rendered
from autotune.runners import Job, Runner
from autotune.timing import TimingPlan
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import Dialect
from search_spaces.matmul import matmul
from search_spaces.matmul.parameters import ACCUMULATORS, LAYOUTS
from search_spaces.template import Template

PLAN = TimingPlan(warmup_runs=0, warmup_s=0.0, min_runs=1, max_runs=1, budget_s=0.0)
BATCH = 64  # jobs compiled while others are measured
SHOWN = 200  # characters of an error

SIZES = (  # m, n, k
    (67, 131, 97),
    (130, 272, 208),
    (257, 144, 1040),
    (1, 272, 208),
    (5, 131, 97),
    (13, 528, 2064),
)
EPILOGUES = ("", "bias,gelu", "alpha,beta", "residual,relu", "row_scale,column_scale,silu")
KINDS: tuple[dict[str, Any], ...] = (  # what else changes the arithmetic or the memory
    *({"dtype": dtype} for dtype in ACCUMULATORS),
    {"dtype": "float16", "accumulate": "float16"},
    {"dtype": "bfloat16", "out_dtype": "float32"},
    {"dtype": "bfloat16", "batch": 3},
    {"dtype": "float8_e4m3", "scale": "tensor"},
    {"dtype": "float8_e5m2", "scale": "row_column", "out_dtype": "float16"},
    {"dtype": "float8_e4m3", "scale": "tensor", "out_dtype": "float8_e4m3"},
    {"dtype": "int8", "scale": "row_column", "out_dtype": "bfloat16"},
    {"dtype": "bfloat16", "b_dtype": "int8", "group_size": 16},
    {"dtype": "float16", "b_dtype": "int8", "group_size": 16, "zero_point": True},
    {"dtype": "bfloat16", "b_dtype": "int4", "group_size": 16},
    {"dtype": "float16", "b_dtype": "int4", "group_size": 16, "zero_point": True},
    {"dtype": "bfloat16", "b_dtype": "int4", "group_size": 104},  # tiles reach across its groups
    {"dtype": "float16", "b_dtype": "int8"},  # one scale for all of a column
)
_SIZE_NAMES = ("m", "n", "k", *attention_combinations.SIZE_NAMES)
GROUPS = (3, 0, 70, 16)  # rows of an unevenly grouped product, n × k of the second size
GROUPED_KINDS: tuple[dict[str, Any], ...] = (
    {"dtype": "float16"},
    {"dtype": "bfloat16"},
    {"dtype": "tf32"},
    {"dtype": "int8", "scale": "row_column", "out_dtype": "bfloat16"},
    {"dtype": "float8_e4m3", "scale": "row_column"},
    {"dtype": "bfloat16", "b_dtype": "int4", "group_size": 16, "zero_point": True},
    {"dtype": "float16", "b_dtype": "int8", "group_size": 104},
)


@dataclass(frozen=True)
class Try:
    """A schedule of a template for a workload."""

    template: str
    job: Job

    def __str__(self) -> str:
        return f"{self.template}: {self.job.workload}"


def workloads() -> Iterator[Workload]:
    """Every combination that there is; those that contradict themselves are left out."""
    for kind, layout, epilogue in product(KINDS, LAYOUTS, EPILOGUES):
        for m, n, k in SIZES:
            yield from _legal(m=m, n=n, k=k, layout=layout, epilogue=epilogue, **kind)
    for kind, layout in product(GROUPED_KINDS, LAYOUTS):
        yield from _legal(n=272, k=208, groups=GROUPS, layout=layout, epilogue="bias", **kind)


def _legal(**params: Any) -> Iterator[Workload]:
    try:
        yield matmul(**params)
    except InvalidInputError:
        return


WORKLOADS = {"matmul": workloads, "attention": attention_combinations.workloads}


def combinations(
    target: Target, dialect: Dialect, op: str = "matmul"
) -> Iterator[tuple[Template, Workload]]:
    """Pairs of which the template does the workload."""
    templates = [each for each in registry.templates(op) if dialect.name in each.dialects]
    for workload, template in product(WORKLOADS[op](), templates):
        if not template.rejects(workload, target):
            yield template, workload


def evenly(
    pairs: Sequence[tuple[Template, Workload]], seed: int
) -> list[tuple[Template, Workload]]:
    """In random order, but first one size of everything, then a second."""
    shuffled = random.Random(seed).sample(pairs, len(pairs))
    seen: Counter[tuple[object, ...]] = Counter()
    turns = []
    for template, workload in shuffled:
        others = [value for value in workload.params if value[0] not in _SIZE_NAMES]
        key = (template.name, *others)
        turns.append(seen[key])
        seen[key] += 1
    order = sorted(range(len(shuffled)), key=turns.__getitem__)
    return [shuffled[place] for place in order]


def tries(
    pairs: Sequence[tuple[Template, Workload]],
    target: Target,
    dialect: Dialect,
    samples: int,
    seed: int,
) -> Iterator[Try]:
    """`samples` random schedules of each pair, the first of all pairs before the second."""
    for turn in range(samples):
        for place, (template, workload) in enumerate(pairs):
            rng = np.random.default_rng([seed, turn, place])
            for schedule in template.space(workload, target).sample(1, rng):
                source = rendered(workload, schedule, dialect)
                yield Try(template.name, Job(workload, schedule, source))


def run(
    runner: Runner, wanted: Iterator[Try], time_limit_s: float
) -> Iterator[tuple[Try, Measurement]]:
    """Outcomes until the time is up, in batches: compiling goes on while the device runs."""
    end_s = time.monotonic() + time_limit_s
    while batch := {each.job: each for each, _ in zip(wanted, range(BATCH), strict=False)}:
        for job, measurement in runner.measure([*batch], PLAN):
            yield batch[job], measurement
            if time.monotonic() > end_s:
                return


def main() -> int:
    options = _parser().parse_args()
    with LocalRunner(options.device) as runner:
        pairs = [
            pair
            for pair in combinations(runner.target, runner.dialect, options.op)
            if options.only in f"{pair[0].name} {pair[1]}"
        ]
        pairs = evenly(pairs, options.seed)[: options.limit]
        total = len(pairs) * options.samples
        print(f"{runner.target.device}: {len(pairs)} combinations", flush=True)
        wanted = tries(pairs, runner.target, runner.dialect, options.samples, options.seed)
        counts, failures = _told(run(runner, wanted, options.time_limit))
    done = sum(counts.values())
    print(f"\n{done} of {total} runs: {done - len(failures)} right, {len(failures)} failed")
    for template, count in sorted(counts.items()):
        wrong = sum(each.template == template for each in failures)
        print(f"  {template}: {count} runs, {wrong} failed")
    return int(bool(failures) or not done)


def _told(outcomes: Iterator[tuple[Try, Measurement]]) -> tuple[Counter[str], list[Try]]:
    counts: Counter[str] = Counter()
    failures: list[Try] = []
    for tried, measurement in outcomes:
        counts[tried.template] += 1
        if measurement.is_ok:
            continue
        failures.append(tried)
        error = " ".join(measurement.error.split())[:SHOWN]
        knobs = ", ".join(f"{name}={value}" for name, value in tried.job.schedule.knobs)
        print(f"{measurement.status}: {tried}\n    {knobs}\n    {error}", flush=True)
    return counts, failures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", default="matmul", choices=WORKLOADS)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--samples", type=int, default=2, help="schedules of each combination")
    parser.add_argument("--limit", type=int, default=None, help="combinations at most")
    parser.add_argument("--only", default="", metavar="TEXT", help="those whose name has it")
    parser.add_argument("--time-limit", type=float, default=480.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0, help="of combinations and schedules")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
