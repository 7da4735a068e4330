"""What the benchmarks on the host's CPU share: tune, race, and a row for each rival."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

import matmul_table as table

import autotune
from autotune import peaks
from autotune.benchmark import BenchResult
from autotune.session import TuningResult
from records.workload import Workload
from search_spaces import registry

COLUMNS = ("trials", "tuning s", "autotune GFLOP/s", "of peak", "rival", "GFLOP/s", "autotune is")


def run(
    title: str,
    heading: str,
    workloads: Mapping[str, Workload],
    options: argparse.Namespace,
    more: Mapping[str, Callable[[Workload], str]] | None = None,
) -> None:
    """Tune and race each, print its rows, and write the page where that is asked for.

    `heading` is that of the workloads' labels; `more` are columns of one benchmark's own.
    """
    more = more or {}
    rows = []
    for label, workload in workloads.items():
        tuned = table.tune(workload, options)
        result = autotune.bench(
            workload, device=options.device, database=options.db, rounds=options.rounds
        )
        own = [cell(workload) for cell in more.values()]
        rows += _rows(label, result, tuned, options.device, own)
        print("\n".join(rows[-len(result.rivals) :]) or f"{label}: no rival ran", flush=True)
    columns = (heading, *COLUMNS, *more)
    lines = [table.facts(result), "", _line(columns), _line(["---"] * len(columns)), *rows]
    print("\n".join(lines))
    table.write(options.write, title, lines)


def _rows(
    label: str,
    result: BenchResult,
    tuned: TuningResult | None,
    device: str | None,
    more: Sequence[str],
) -> list[str]:
    op, progress = registry.op(result.workload.op), tuned.progress if tuned else None
    flops, time_s = op.flops(result.workload), result.ours.time_s or float("nan")
    floor_s = peaks.probe(device).floor_s(flops, op.bytes(result.workload))
    spent = (str(progress.done), f"{progress.elapsed_s:.0f}") if progress else ("", "")
    ours = (label, *spent, f"{flops / time_s / 1e9:.1f}", f"{floor_s / time_s:.0%}")
    lines = []
    for standing, ratio in result.rivals:
        rival_s = standing.time_s or float("nan")
        within = f" ± {ratio.value * ratio.interval:.3f}" if ratio.interval is not None else ""
        rate = f"{flops / rival_s / 1e9:.1f}"
        lines.append(_line((*ours, standing.name, rate, f"**{ratio.value:.3f}×**{within}", *more)))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
