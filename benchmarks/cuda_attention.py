"""Tune attention on an NVIDIA GPU and race the winners against cuDNN, FlashAttention and others.

    python benchmarks/cuda_attention.py --write benchmarks/cuda_attention.md
    python benchmarks/cuda_attention.py --shapes 'causal/*,decode/1x*' --flex
    python benchmarks/cuda_attention.py --tune-only --deadline 400
    python benchmarks/cuda_attention.py --export benchmarks/data

bfloat16. Shapes are batch × heads × length × head dimension; of decode, which is one query of 32
heads and 8 heads of K and V, batch × number of keys. How they are tuned and raced, and what
`--deadline` does: see cuda_races.py. The libraries are PyTorch's `scaled_dot_product_attention`
with each of its backends; `--flex` lets FlexAttention be compiled and tuned for each shape, which
takes minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attention_rows import HEADER, NOTES, Row
from cuda_races import Case, Table, parser, run

import autotune

SHAPES = (
    (4, 16, 4096, 128),
    (2, 16, 8192, 128),
    (1, 16, 16384, 128),
    (4, 32, 4096, 64),
    (8, 32, 1024, 128),
    (16, 16, 512, 128),
)
GROUPED = (4, 32, 4096, 128)
KV_HEADS = 8
WINDOWED = (2, 16, 8192, 128)
WINDOW = 1024


def _case(kind: str, batch: int, heads: int, length: int, head_dim: int, **more: Any) -> Case:
    return Case(
        f"{kind}/{batch}x{heads}x{length}x{head_dim}",
        autotune.attention(
            batch=batch, heads=heads, q_len=length, head_dim=head_dim, dtype="bfloat16", **more
        ),
    )


def _decode(batch: int, kv_len: int) -> Case:
    return Case(
        f"decode/{batch}x{kv_len}",
        autotune.attention(
            batch=batch,
            heads=32,
            kv_heads=KV_HEADS,
            q_len=1,
            kv_len=kv_len,
            head_dim=128,
            dtype="bfloat16",
        ),
    )


CASES: tuple[Case, ...] = (
    *(_case("full", *shape) for shape in SHAPES),
    *(_case("causal", *shape, causal=True) for shape in SHAPES),
    _case("grouped", *GROUPED, kv_heads=KV_HEADS),
    _case("grouped-causal", *GROUPED, kv_heads=KV_HEADS, causal=True),
    _case("window", *WINDOWED, causal=True, window=WINDOW),
    *(_decode(batch, kv_len) for batch in (1, 16, 64) for kv_len in (4096, 32768)),
)

TABLE = Table(
    title="Attention on an NVIDIA GPU",
    cases=CASES,
    row=Row,
    notes=NOTES,
    header=HEADER,
    rival="the best rival",
    on_request={"flex": "FlexAttention is a rival too"},
)


def main() -> int:
    """Exit status 1 where nothing could be measured."""
    description = __doc__.splitlines()[0]
    options = parser(TABLE, description, db=Path("cuda_attention.db"), time_limit_s=60.0)
    return run(TABLE, options.parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
