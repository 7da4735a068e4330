"""Workloads and schedules of the portable attention template that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
from targets import GPU_LIMITS

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.attention import attention
from search_spaces.attention.portable import PORTABLE_ATTENTION

_LIMITS = GPU_LIMITS | {"dtypes": ("float16", "float32", "bfloat16", "float8_e4m3", "float8_e5m2")}
GPU = Target.of("cuda", "NVIDIA H100", "sm_90a", _LIMITS)
ANY_GPU = Target.of(  # every knob but shuffles, and groups that every device takes
    "opencl", "Small GPU", "any", {**_LIMITS, "max_group": 256, "shared_bytes": 32 << 10, "warp": 1}
)

# Together: every feature, type and layout; sizes that divide, that are prime, that are one.
WORKLOADS = (
    attention(heads=2, q_len=32, head_dim=16),
    attention(heads=1, q_len=1, kv_len=1, head_dim=1),
    attention(heads=2, q_len=13, kv_len=47, head_dim=20, v_dim=12, causal=True, lse=True),
    attention(
        heads=4,
        kv_heads=2,
        q_len=9,
        kv_len=70,
        head_dim=10,
        window=20,
        bias="alibi",
        softcap=5.0,
        layout="bshd",
    ),
    attention(  # more queries than keys: the first ones see none
        heads=4,
        kv_heads=2,
        q_len=19,
        kv_len=7,
        head_dim=9,
        causal=True,
        bias="head",
        dtype="float16",
        lse=True,
    ),
    attention(
        batch=2,
        heads=2,
        q_len=6,
        kv_len=30,
        head_dim=12,
        bias="full",
        dtype="float16",
        kv_dtype="float8_e5m2",
        causal=True,
        window=9,
    ),
    attention(
        heads=4,
        kv_heads=1,
        q_lens=[3, 0, 11],
        kv_lens=[40, 5, 11],
        head_dim=32,
        causal=True,
        layout="bshd",
        dtype="bfloat16",
        lse=True,
    ),
    attention(
        heads=4,
        kv_heads=1,
        q_len=1,
        kv_lens=[30, 0, 67],
        page_size=8,
        head_dim=32,
        dtype="bfloat16",
        kv_dtype="float8_e4m3",
        lse=True,
    ),
    attention(
        heads=2,
        q_lens=[2, 5],
        kv_lens=[33, 18],
        page_size=5,
        head_dim=8,
        v_dim=20,
        layout="bshd",
        causal=True,
        window=16,
    ),
    attention(heads=3, kv_heads=3, q_len=2, kv_lens=[0, 21], kv_len=24, head_dim=24, layout="bshd"),
)


def light(
    workload: Workload, target: Target, count: int, seed: int = 0, rows: int = 64
) -> list[Schedule]:
    """Sampled schedules that compile and run quickly: small bodies, blocks of up to `rows`.

    Every other one has several parts of the keys, where there are such.
    """
    space = PORTABLE_ATTENTION.space(workload, target)
    sampled = space.sample(min(space.size, 2000), np.random.default_rng(seed))
    found = [each for each in sampled if _is_light(workload, each, target, rows)]
    split = [each for each in found if each["splits"] > 1]
    whole = [each for each in found if each["splits"] == 1]
    pairs = [each for pair in zip(whole, split, strict=False) for each in pair]
    return (pairs or found)[:count]


def _is_light(workload: Workload, schedule: Schedule, target: Target, rows: int) -> bool:
    share = schedule["block_q"] // schedule["threads_q"]
    share *= schedule["block_k"] // schedule["threads_k"]
    body = share * schedule["lanes"] * schedule["unroll"]
    registers = PORTABLE_ATTENTION.stats(workload, schedule, target).registers
    return (
        body <= 64
        and registers <= 96
        and schedule["block_q"] <= rows
        and schedule["block_k"] <= rows
    )


def schedule(**knobs: Any) -> Schedule:
    """A plain schedule with some knobs changed; legal only where its space says so."""
    plain = {
        "block_q": 32,
        "block_k": 32,
        "threads_q": 8,
        "threads_k": 8,
        "vector": 1,
        "lanes": 4,
        "pad": True,
        "kv_tiles": 1,
        "prefetch": False,
        "weights_local": True,
        "shuffle": False,
        "unroll": 1,
        "pack_heads": False,
        "longest_first": False,
        "splits": 1,
    }
    return Schedule.of(PORTABLE_ATTENTION.name, PORTABLE_ATTENTION.version, plain | knobs)
