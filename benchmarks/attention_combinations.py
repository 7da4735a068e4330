"""Workloads of attention that together have every feature at awkward sizes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.attention import attention

SIZES = (  # queries, keys, head dimension
    (1, 1000, 128),
    (67, 131, 64),
    (5, 333, 80),
    (130, 257, 96),
    (16, 2049, 256),
    (300, 200, 40),
)
SIZE_NAMES = ("q_len", "kv_len", "q_lens", "kv_lens", "head_dim", "v_dim")
KINDS: tuple[dict[str, Any], ...] = (
    {"dtype": "float32"},
    {"dtype": "float16"},
    {"dtype": "bfloat16"},
    {"dtype": "bfloat16", "kv_dtype": "float8_e4m3"},
    {"dtype": "float16", "kv_dtype": "float8_e5m2"},
)
HEADS: tuple[dict[str, Any], ...] = (
    {"heads": 4, "layout": "bshd"},
    {"heads": 6, "kv_heads": 2, "layout": "bhsd", "lse": True},
)
MASKS: tuple[dict[str, Any], ...] = (
    {},
    {"causal": True},
    {"causal": True, "window": 50, "softcap": 20.0},
    {"window": 33, "bias": "alibi"},
    {"bias": "full"},
    {"causal": True, "bias": "head", "scale": 0.2},
)
PLACES = ("plain", "lengths", "packed", "pages", "packed pages")


def workloads() -> Iterator[Workload]:
    """Every combination that there is; those that contradict themselves are left out."""
    for turn, (kind, mask, place) in enumerate(product(KINDS, MASKS, PLACES)):
        heads = HEADS[turn % len(HEADS)]
        for q_len, kv_len, head_dim in SIZES:
            where = _where(place, q_len, kv_len)
            try:
                yield attention(head_dim=head_dim, **{**kind, **heads, **mask, **where})
            except InvalidInputError:
                continue


def _where(place: str, q_len: int, kv_len: int) -> dict[str, Any]:
    """Three sequences, or one after another, one of them without keys or queries."""
    pages = {"page_size": 16} if "pages" in place else {}
    if place == "plain":
        return {"batch": 2, "q_len": q_len, "kv_len": kv_len, "v_dim": 48}
    if "packed" in place:
        q_lens, kv_lens = (q_len, 0, q_len // 2 + 1), (kv_len, 3, kv_len // 3)
        return {"q_lens": q_lens, "kv_lens": kv_lens, "layout": "bshd", **pages}
    return {"q_len": q_len, "kv_lens": (kv_len, 0, kv_len // 2), **pages}
