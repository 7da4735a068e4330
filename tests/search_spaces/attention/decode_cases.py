"""Workloads and schedules that the tests of the decode template share."""

from __future__ import annotations

from typing import Any

from records.schedule import Schedule
from search_spaces.attention import attention
from search_spaces.attention.decode import DECODE_ATTENTION

HALF: dict[str, Any] = {"dtype": "float16"}
BFLOAT: dict[str, Any] = {"dtype": "bfloat16"}
LLAMA = attention(batch=16, heads=32, kv_heads=8, q_len=1, kv_len=4096, head_dim=128, **BFLOAT)

# Together: every feature of the op; rows of several warps and blocks; head dimensions that pad, and
# that copy by 16 or 8 bytes; sequences, and parts of them, without keys or queries.
WORKLOADS = (
    attention(batch=2, heads=4, kv_heads=2, q_len=1, kv_len=200, head_dim=64, **HALF),
    attention(heads=3, q_len=1, kv_len=61, head_dim=128, v_dim=80, lse=True, **BFLOAT),
    attention(
        batch=2,
        heads=4,
        kv_heads=2,
        q_len=2,
        kv_len=199,
        head_dim=72,
        v_dim=40,
        causal=True,
        lse=True,
        layout="bshd",
        **BFLOAT,
    ),
    attention(
        heads=8,
        kv_heads=1,
        q_len=5,
        kv_lens=(130, 0, 77),
        head_dim=32,
        window=20,
        layout="bshd",
        lse=True,
        **BFLOAT,
    ),
    attention(heads=16, kv_heads=2, q_len=16, kv_len=150, head_dim=32, causal=True, **HALF),
    attention(heads=2, q_len=9, kv_len=4, head_dim=16, window=2, lse=True, **HALF),
    attention(
        heads=4, kv_heads=2, q_len=3, kv_len=260, head_dim=64, window=40, causal=True, **HALF
    ),
    attention(
        batch=2,
        heads=2,
        kv_heads=1,
        q_len=7,
        kv_len=90,
        head_dim=64,
        bias="full",
        softcap=4.0,
        **BFLOAT,
    ),
    attention(
        heads=2, q_len=7, kv_len=5, head_dim=40, bias="head", causal=True, lse=True, **BFLOAT
    ),
    attention(
        heads=4,
        kv_heads=2,
        q_lens=(3, 1, 0, 5),
        kv_lens=(130, 3, 77, 40),
        head_dim=96,
        layout="bshd",
        causal=True,
        lse=True,
        bias="alibi",
        **HALF,
    ),
    attention(heads=2, kv_heads=1, q_len=16, kv_len=65, head_dim=256, **BFLOAT),
)

PAGED = (
    attention(
        heads=4, kv_heads=2, q_len=2, kv_lens=(130, 3, 77), page_size=16, head_dim=80, **BFLOAT
    ),
    attention(
        heads=4,
        kv_heads=2,
        q_len=2,
        kv_lens=(130, 0, 77),
        page_size=3,
        head_dim=128,
        v_dim=48,
        causal=True,
        layout="bshd",
        **HALF,
    ),
    attention(
        heads=4,
        kv_heads=2,
        q_lens=(3, 1, 0, 5),
        kv_lens=(130, 3, 77, 40),
        page_size=64,
        head_dim=32,
        layout="bshd",
        window=50,
        **HALF,
    ),
    attention(heads=8, kv_heads=2, q_len=1, kv_lens=(90, 200), page_size=1, head_dim=24, **HALF),
)

FLOAT8 = (
    attention(
        heads=4,
        kv_heads=2,
        q_lens=(3, 1, 5),
        kv_lens=(130, 3, 40),
        page_size=8,
        head_dim=40,
        kv_dtype="float8_e4m3",
        layout="bshd",
        causal=True,
        lse=True,
        **BFLOAT,
    ),
    attention(
        batch=2,
        heads=6,
        kv_heads=1,
        q_len=4,
        kv_len=300,
        head_dim=72,
        v_dim=56,
        kv_dtype="float8_e5m2",
        softcap=3.0,
        lse=True,
        **HALF,
    ),
    attention(heads=4, q_len=1, kv_len=129, head_dim=128, kv_dtype="float8_e4m3", **HALF),
    attention(heads=4, q_len=2, kv_len=70, head_dim=64, kv_dtype="float8_e5m2", **BFLOAT),
)


def schedule(**knobs: Any) -> Schedule:
    """A plain schedule with some knobs changed; legal only where its space says so."""
    plain = {
        "use_mma": True,
        "warp_rows": 16,
        "warps_rows": 1,
        "warps_keys": 4,
        "tile_keys": 16,
        "stages": 3,
        "q_registers": True,
        "splits": 1,
        "cluster": 1,
        "even_parts": True,
        "lazy_rescale": False,
        "resident": 1,
    }
    return Schedule.of(DECODE_ATTENTION.name, DECODE_ATTENTION.version, plain | knobs)
