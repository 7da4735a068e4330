"""Small workloads that together have every feature of the op, by name."""

from __future__ import annotations

from typing import Any

from records.workload import Workload
from search_spaces.attention import attention

CASES: dict[str, dict[str, Any]] = {
    "plain": dict(batch=2, heads=2, q_len=9, kv_len=11, head_dim=8),
    "causal": dict(heads=2, q_len=13, head_dim=8, causal=True),
    "causal, more keys": dict(heads=2, q_len=5, kv_len=14, head_dim=8, causal=True, lse=True),
    "grouped, other v": dict(heads=6, kv_heads=2, q_len=7, kv_len=10, head_dim=8, v_dim=4),
    "multi-query decode": dict(batch=3, heads=4, kv_heads=1, q_len=1, kv_len=37, head_dim=16),
    "window, causal": dict(heads=2, q_len=17, head_dim=8, causal=True, window=4),
    "window of 1": dict(heads=1, q_len=6, kv_len=9, head_dim=8, causal=True, window=1),
    "window both ways": dict(heads=2, q_len=12, kv_len=15, head_dim=8, window=3, lse=True),
    "softcap, scale": dict(heads=2, q_len=9, head_dim=8, softcap=5.0, scale=0.7),
    "alibi": dict(heads=4, q_len=9, kv_len=12, head_dim=8, bias="alibi", causal=True),
    "alibi both ways": dict(heads=2, kv_heads=1, q_len=9, kv_len=7, head_dim=8, bias="alibi"),
    "bias of heads": dict(batch=2, heads=2, q_len=7, kv_len=9, head_dim=8, bias="head"),
    "bias, softcap, bshd": dict(
        batch=2, heads=2, q_len=7, kv_len=9, head_dim=8, bias="full", softcap=4.0, layout="bshd"
    ),
    "bshd": dict(
        batch=2, heads=4, kv_heads=2, q_len=7, kv_len=9, head_dim=8, layout="bshd", lse=True
    ),
    "lengths": dict(
        heads=2, q_len=4, kv_lens=(11, 3, 7), kv_len=12, head_dim=8, causal=True, window=6
    ),
    "packed": dict(
        heads=2, q_lens=(5, 1, 8), layout="bshd", head_dim=8, causal=True, lse=True, bias="alibi"
    ),
    "packed, other keys": dict(
        heads=4, kv_heads=2, q_lens=(5, 1, 3), kv_lens=(9, 12, 3), layout="bshd", head_dim=8
    ),
    "pages": dict(
        heads=4, kv_heads=2, q_len=2, kv_lens=(13, 4, 8), page_size=4, head_dim=8, causal=True
    ),
    "pages, bshd": dict(
        heads=2, q_len=1, kv_lens=(13, 5), page_size=8, head_dim=8, v_dim=6, layout="bshd"
    ),
    "packed, pages": dict(
        heads=2, q_lens=(3, 1), kv_lens=(9, 6), page_size=4, layout="bshd", head_dim=8, causal=True
    ),
    "float8": dict(
        heads=2, q_len=4, kv_len=21, head_dim=8, dtype="bfloat16", kv_dtype="float8_e4m3"
    ),
    "float8_e5m2 pages": dict(
        heads=2,
        q_len=1,
        kv_lens=(13, 6),
        page_size=4,
        head_dim=8,
        dtype="float16",
        kv_dtype="float8_e5m2",
        lse=True,
    ),
    "float16": dict(heads=2, q_len=9, head_dim=8, dtype="float16", causal=True, lse=True),
    "bfloat16": dict(heads=2, q_len=9, head_dim=8, dtype="bfloat16", causal=True),
}

UNSEEING: dict[str, dict[str, Any]] = {
    "more queries than keys": dict(heads=2, q_len=9, kv_len=4, head_dim=8, causal=True, lse=True),
    "window before the keys": dict(heads=2, q_len=9, kv_len=4, head_dim=8, window=2, lse=True),
    "sequences without keys": dict(heads=2, q_len=3, kv_lens=(0, 5), head_dim=8, lse=True),
    "packed without queries or keys": dict(
        heads=2, q_lens=(4, 0, 3, 2), kv_lens=(4, 2, 0, 6), layout="bshd", head_dim=8, lse=True
    ),
    "pages of nobody": dict(
        heads=2, q_len=3, kv_lens=(0, 5, 2), page_size=4, head_dim=8, causal=True, lse=True
    ),
}
"""Some queries of these see no key."""


def case(name: str) -> Workload:
    return attention(**{**CASES, **UNSEEING}[name])
