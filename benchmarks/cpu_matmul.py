"""Tune float32 matmuls on the default CPU device and race the winners against the libraries.

    python benchmarks/cpu_matmul.py --write benchmarks/cpu_matmul.md

Each shape is tuned with default settings, at most 200 trials or 3 minutes, then raced: stored
best, numpy's BLAS and (if installed) PyTorch, interleaved in one run of one clean process.
Shapes tuned before in the database are not tuned again.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import autotune
from autotune import peaks
from autotune.benchmark import BenchResult
from records.workload import Workload
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
        trials, tuning_s = _tune(workload, options)
        result = autotune.bench(
            workload, device=options.device, database=options.db, rounds=options.rounds
        )
        rows.append(_row(result, trials, tuning_s, options.device))
        print(rows[-1], flush=True)
    text = "\n".join([_facts(result), "", *HEADER, *rows, ""])
    print(text)
    if options.write:
        command = f"    python {' '.join(sys.argv)}"
        options.write.write_text(f"# float32 matmul on a CPU\n\n{command}\n\n{text}")


HEADER = (
    "| m×n×k | trials | tuning s | autotune GFLOP/s | of peak | rival | GFLOP/s | autotune is |",
    "|---|---|---|---|---|---|---|---|",
)


def _tune(workload: Workload, options: argparse.Namespace) -> tuple[int, float]:
    if options.bench_only:
        return 0, 0.0
    found = autotune.tune(
        workload,
        device=options.device,
        database=options.db,
        trials=options.trials,
        time_limit_s=options.time_limit,
    )
    return found.progress.done, found.progress.elapsed_s


def _row(result: BenchResult, trials: int, tuning_s: float, device: str | None) -> str:
    flops = registry.op("matmul").flops(result.workload)
    time_s = result.ours.time_s or float("nan")
    floor_s = peaks.probe(device).floor_s(flops, registry.op("matmul").bytes(result.workload))
    shape = "×".join(str(result.workload[extent]) for extent in "mnk")
    ours = f"| {shape} | {trials} | {tuning_s:.0f} | {flops / time_s / 1e9:.1f} "
    ours += f"| {floor_s / time_s:.0%} "
    lines = []
    for standing, ratio in result.rivals:
        rival_s = standing.time_s or float("nan")
        within = f" ± {ratio.value * ratio.interval:.3f}" if ratio.interval is not None else ""
        rate = f"{flops / rival_s / 1e9:.1f}"
        lines.append(f"{ours}| {standing.name} | {rate} | **{ratio.value:.3f}×**{within} |")
    return "\n".join(lines)


def _facts(result: BenchResult) -> str:
    rivals = "; ".join(
        ", ".join(f"{name} {value}" for name, value in standing.details.items())
        for standing, _ in result.rivals
    )
    limits = dict(result.target.limits)
    return (
        f"{result.target.device}, {limits['units']} units, {result.target.arch}, "
        f"{platform.system()} {platform.machine()}. Rivals: {rivals}."
    )


def _shape(text: str) -> tuple[int, int, int]:
    m, n, k = (int(part) for part in text.lower().split("x"))
    return m, n, k


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="opencl:cpu")
    parser.add_argument("--db", type=Path, default=Path("cpu_matmul.db"))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--time-limit", type=float, default=180.0, help="seconds a shape")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--shape", type=_shape, action="append", metavar="MxNxK")
    parser.add_argument("--bench-only", action="store_true", help="race what is stored")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there")
    return parser


if __name__ == "__main__":
    main()
