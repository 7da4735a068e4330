"""Tune float32 matmuls on the default CPU device and race the winners against the libraries.

    python benchmarks/cpu_matmul.py --write benchmarks/cpu_matmul.md

Each shape is tuned with default settings, at most 200 trials or 3 minutes, then raced: stored
best, numpy's BLAS and (if installed) PyTorch, interleaved in one run of one clean process.
Shapes tuned before in the database are not tuned again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matmul_table as table

import autotune
from autotune import peaks
from autotune.benchmark import BenchResult
from search_spaces import registry

SHAPES = (
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (1024, 4096, 1024),
    (1000, 1000, 1000),
    (997, 1009, 1013),
)


def main() -> None:
    options = _parser().parse_args()
    rows = []
    for m, n, k in options.shape or SHAPES:
        workload = autotune.matmul(m=m, n=n, k=k)
        tuned = table.tune(workload, options)
        trials, tuning_s = (tuned.progress.done, tuned.progress.elapsed_s) if tuned else (0, 0.0)
        result = autotune.bench(
            workload, device=options.device, database=options.db, rounds=options.rounds
        )
        rows.append(_row(result, trials, tuning_s, options.device))
        print(rows[-1], flush=True)
    lines = [table.facts(result), "", *HEADER, *rows]
    print("\n".join(lines))
    table.write(options.write, "float32 matmul on a CPU", lines)


HEADER = (
    "| m×n×k | trials | tuning s | autotune GFLOP/s | of peak | rival | GFLOP/s | autotune is |",
    "|---|---|---|---|---|---|---|---|",
)


def _row(result: BenchResult, trials: int, tuning_s: float, device: str | None) -> str:
    flops = registry.op("matmul").flops(result.workload)
    time_s = result.ours.time_s or float("nan")
    floor_s = peaks.probe(device).floor_s(flops, registry.op("matmul").bytes(result.workload))
    ours = f"| {table.shape(result.workload)} | {trials} | {tuning_s:.0f} "
    ours += f"| {flops / time_s / 1e9:.1f} | {floor_s / time_s:.0%} "
    lines = []
    for standing, ratio in result.rivals:
        rival_s = standing.time_s or float("nan")
        within = f" ± {ratio.value * ratio.interval:.3f}" if ratio.interval is not None else ""
        rate = f"{flops / rival_s / 1e9:.1f}"
        lines.append(f"{ours}| {standing.name} | {rate} | **{ratio.value:.3f}×**{within} |")
    return "\n".join(lines)


def _shape(text: str) -> tuple[int, int, int]:
    m, n, k = (int(part) for part in text.lower().split("x"))
    return m, n, k


def _parser() -> argparse.ArgumentParser:
    parser = table.parser(
        __doc__.splitlines()[0],
        device="opencl:cpu",
        db=Path("cpu_matmul.db"),
        time_limit_s=180.0,
        rounds=25,
    )
    parser.add_argument("--shape", type=_shape, action="append", metavar="MxNxK")
    return parser


if __name__ == "__main__":
    main()
