"""Tune float32 attention on the default CPU device and race the winners against PyTorch.

    python benchmarks/cpu_attention.py --write benchmarks/cpu_attention.md

Each shape is tuned with default settings, at most 200 trials or 3 minutes, then raced: stored
best and PyTorch's `scaled_dot_product_attention`, called in the way that is fastest, interleaved
in one run of one clean process. `beyond MiB` is what a fresh process grows by while it calls the
stored best, inputs and outputs not counted. Shapes tuned before in the database are not tuned
again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cpu_table
import matmul_table as table
import peak_memory

import autotune
from records.workload import Workload

_PREFILL: dict[str, dict[str, Any]] = {
    "b1-h8-s1024-d64": dict(heads=8, q_len=1024, head_dim=64),
    "b1-h8-s2048-d128": dict(heads=8, q_len=2048, head_dim=128),
}
_DECODE = dict(batch=8, heads=32, kv_heads=8, q_len=1, kv_len=4096, head_dim=128)
SHAPES: dict[str, dict[str, Any]] = {
    **_PREFILL,
    **{f"{name}-causal": dict(**shape, causal=True) for name, shape in _PREFILL.items()},
    "decode-b8-h32-kv8-s4096-d128": _DECODE,
}


def main() -> None:
    options = _parser().parse_args()
    chosen = options.shape or list(SHAPES)
    workloads = {name: autotune.attention(**SHAPES[name]) for name in chosen}

    def beyond_mib(workload: Workload) -> str:
        found = peak_memory.beyond_bytes(workload, options.device, options.db)
        return "" if found is None else f"{found / 2**20:.1f}"

    title = "float32 attention on a CPU"
    cpu_table.run(title, "attention", workloads, options, {"beyond MiB": beyond_mib})


def _parser() -> argparse.ArgumentParser:
    parser = table.parser(
        __doc__.splitlines()[0],
        device="opencl:cpu",
        db=Path("cpu_attention.db"),
        time_limit_s=180.0,
        rounds=25,
    )
    parser.add_argument("--shape", choices=list(SHAPES), action="append", help="of these alone")
    return parser


if __name__ == "__main__":
    main()
