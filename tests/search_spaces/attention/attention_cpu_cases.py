"""Workloads, targets and schedules of the attention templates for CPUs that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
from attention_cases import CASES, UNSEEING, case
from targets import cpu

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention import attention
from search_spaces.attention.cpu import CPU_ATTENTION
from search_spaces.attention.cpu_decode import CPU_DECODE_ATTENTION
from search_spaces.template import Template

AVX512 = cpu()
AVX2 = cpu(vector_bytes=32, units=16, l2_bytes=256 << 10)
SSE = cpu(vector_bytes=16, units=1)

LONG = attention(heads=8, q_len=1024, head_dim=64, causal=True)
DECODING = attention(batch=8, heads=32, kv_heads=8, q_len=1, kv_len=4096, head_dim=128)
EVERY = {name: case(name) for name in (*CASES, *UNSEEING)}

# Rows of a vector and more, of sizes that no vector, tile or block divides.
ODD = (
    attention(heads=2, q_len=37, kv_len=131, head_dim=80, v_dim=33, causal=True, lse=True),
    attention(heads=4, kv_heads=2, q_len=131, kv_len=37, head_dim=33, v_dim=80, causal=True),
    attention(batch=2, heads=2, q_len=75, head_dim=20, window=33, layout="bshd", lse=True),
    attention(batch=2, heads=2, q_len=41, kv_len=90, head_dim=24, bias="full", softcap=30.0),
    attention(heads=6, kv_heads=2, q_len=40, kv_len=90, head_dim=17, bias="alibi", causal=True),
    attention(heads=2, q_len=50, head_dim=72, dtype="bfloat16", causal=True, lse=True),
    attention(
        heads=2, q_len=35, head_dim=72, dtype="bfloat16", kv_dtype="float8_e4m3", bias="head"
    ),
    attention(
        heads=4,
        kv_heads=1,
        q_lens=[5, 0, 70, 33],
        kv_lens=[50, 20, 70, 0],
        page_size=12,
        head_dim=40,
        causal=True,
        layout="bshd",
        dtype="float16",
    ),
)

# Few rows of at least a vector.
FEW = (
    attention(batch=2, heads=8, kv_heads=2, q_len=1, kv_len=100, head_dim=128, lse=True),
    attention(heads=8, kv_heads=2, q_len=3, kv_len=150, head_dim=80, v_dim=33, causal=True),
    attention(heads=2, q_len=3, kv_len=2, head_dim=20, causal=True, lse=True),
    attention(batch=2, heads=6, kv_heads=2, q_len=2, kv_len=290, head_dim=64, window=100),
    attention(
        heads=6, kv_heads=2, q_len=2, kv_len=90, head_dim=64, bias="alibi", causal=True, lse=True
    ),
    attention(
        batch=2, heads=6, kv_heads=2, q_len=1, kv_len=90, head_dim=64, bias="full", softcap=30.0
    ),
    attention(
        heads=4,
        kv_heads=1,
        q_lens=[5, 0, 1, 3],
        kv_lens=[50, 20, 70, 0],
        head_dim=64,
        causal=True,
        layout="bshd",
        dtype="float16",
        lse=True,
    ),
    attention(
        heads=4,
        kv_heads=2,
        q_len=1,
        kv_lens=[50, 20, 0, 1],
        page_size=16,
        head_dim=64,
        dtype="bfloat16",
        kv_dtype="float8_e4m3",
        lse=True,
    ),
)


def schedule(**knobs: Any) -> Schedule:
    """A plain schedule of `cpu` with some knobs changed; legal only where its space says so."""
    plain = {
        "lanes": 16,
        "tile_vectors": 2,
        "tile_keys": 8,
        "tile_dims": 8,
        "panels": 1,
        "block_keys": 96,
        "unroll": 2,
        "copy_k": False,
        "copy_v": False,
        "heads_first": False,
        "splits": 1,
    }
    return Schedule.of(CPU_ATTENTION.name, CPU_ATTENTION.version, plain | knobs)


def decode_schedule(**knobs: Any) -> Schedule:
    """The same of `cpu_decode`."""
    plain = {
        "lanes": 16,
        "tile_rows": 4,
        "tile_keys": 1,
        "tile_vectors": 6,
        "block_keys": 128,
        "fetch_rows": False,
        "splits": 1,
    }
    return Schedule.of(CPU_DECODE_ATTENTION.name, CPU_DECODE_ATTENTION.version, plain | knobs)


def sampled(template: Template, workload: Workload, target: Target, count: int) -> list[Schedule]:
    """Always the same ones."""
    space = template.space(workload, target)
    return space.sample(min(count, space.size), np.random.default_rng(0))
