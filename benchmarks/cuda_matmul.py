"""Tune matmuls on an NVIDIA GPU and race the winners against cuBLAS, cuBLASLt and others.

    python benchmarks/cuda_matmul.py --write benchmarks/cuda_matmul.md
    python benchmarks/cuda_matmul.py --shapes 'bfloat16/*,float16/512*' --triton
    python benchmarks/cuda_matmul.py --tune-only --deadline 400
    python benchmarks/cuda_matmul.py --export benchmarks/data

Every shape is tuned, then each is raced: stored best and libraries, interleaved in one run, the L2
flushed before each launch, times by the device. What the libraries took is stored too. The
libraries need PyTorch; `--triton` lets Inductor tune a Triton matmul for each shape, which takes
minutes. Layout nt: both operands have k as the fast axis. With `--deadline` the seconds are shared
out, and whatever is done by then is kept: a trial is a row of the database when it ends, and the
table is written after each race.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuda_races import Case, Table, parser, run
from cuda_rows import HEADER, NOTES, Row

import autotune

SIZES = (
    (8192, 8192, 8192),
    (4096, 4096, 4096),
    (2048, 2048, 2048),
    (1024, 1024, 1024),
    (512, 512, 512),
    (4096, 14336, 4096),
    (2048, 28672, 8192),
    (128, 28672, 8192),
    (64, 4096, 4096),
    (16, 8192, 8192),
    (1, 8192, 8192),
)


def _case(kind: str, m: int, n: int, k: int, **more: Any) -> Case:
    return Case(f"{kind}/{m}x{n}x{k}", autotune.matmul(m=m, n=n, k=k, layout="nt", **more))


CASES: tuple[Case, ...] = (
    *(_case("bfloat16", *size, dtype="bfloat16") for size in SIZES),
    *(_case("float16", *size, dtype="float16") for size in SIZES),
    _case("float8_e4m3", 4096, 4096, 4096, dtype="float8_e4m3", scale="tensor"),
    _case("tf32", 4096, 4096, 4096, dtype="tf32"),
    _case("int8", 4096, 4096, 4096, dtype="int8"),
    *(
        _case("int4", m, 8192, 8192, dtype="bfloat16", b_dtype="int4", group_size=128)
        for m in (1, 16, 128)
    ),
)

TABLE = Table(
    title="Matmul on an NVIDIA GPU",
    cases=CASES,
    row=Row,
    notes=NOTES,
    header=HEADER,
    rival="cuBLAS",
    on_request={"triton": "Triton is a rival too"},
)


def main() -> int:
    """Exit status 1 where nothing could be measured."""
    description = __doc__.splitlines()[0]
    options = parser(TABLE, description, db=Path("cuda_matmul.db"), time_limit_s=60.0)
    return run(TABLE, options.parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
