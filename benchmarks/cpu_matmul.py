"""Tune float32 matmuls on the default CPU device and race the winners against the libraries.

    python benchmarks/cpu_matmul.py --write benchmarks/cpu_matmul.md

Each shape is tuned with default settings, at most 200 trials or 3 minutes, then raced: stored
best, numpy's BLAS and (if installed) PyTorch, interleaved in one run of one clean process.
Shapes tuned before in the database are not tuned again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cpu_table
import matmul_table as table

import autotune

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
    workloads = [autotune.matmul(m=m, n=n, k=k) for m, n, k in options.shape or SHAPES]
    labelled = {table.shape(workload): workload for workload in workloads}
    cpu_table.run("float32 matmul on a CPU", "m×n×k", labelled, options)


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
