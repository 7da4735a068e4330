"""Workloads and schedules of the portable template that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
from targets import GPU_LIMITS

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.matmul import matmul
from search_spaces.matmul.portable import PORTABLE

GPU = Target.of("cuda", "NVIDIA H100", "sm_90a", GPU_LIMITS)
ANY_GPU = Target.of(  # every knob, and groups that every device takes
    "opencl",
    "Small GPU",
    "any",
    {**GPU_LIMITS, "max_group": 256, "shared_bytes": 32 << 10, "warp": 1},
)

# Together: every layout, dtype and step; sizes that divide, that are prime, that are one.
WORKLOADS = (
    matmul(m=64, n=64, k=64),
    matmul(m=17, n=33, k=19, epilogue="alpha,beta"),
    matmul(m=32, n=36, k=64, layout="nt", batch=2, epilogue="bias,gelu,residual"),
    matmul(m=1, n=40, k=37, layout="tn", epilogue="residual,silu"),
    matmul(m=34, n=1, k=36, layout="tt", dtype="float64", epilogue="relu,beta,gelu_tanh"),
    matmul(m=20, n=18, k=1, batch=3, dtype="float64", layout="nt", epilogue="bias,alpha"),
    matmul(m=52, n=20, k=68, dtype="float16", layout="tn", epilogue="bias,residual,relu"),
    matmul(m=13, n=37, k=50, dtype="float16", accumulate="float16", epilogue="alpha,gelu"),
)


def light(
    workload: Workload, target: Target, count: int, seed: int = 0, tile: int = 4096
) -> list[Schedule]:
    """Sampled schedules that compile and run quickly: small bodies, tiles of C up to `tile`."""
    space = PORTABLE.space(workload, target)
    found: list[Schedule] = []
    for schedule in space.sample(min(space.size, 2000), np.random.default_rng(seed)):
        body = schedule["thread_m"] * schedule["thread_n"] * schedule["unroll"]
        pieces = (schedule["block_m"] + schedule["block_n"]) * schedule["block_k"]
        items = PORTABLE.stats(workload, schedule, target).threads
        if (
            body <= 64
            and pieces / items <= 32
            and schedule["block_m"] * schedule["block_n"] <= tile
        ):
            found.append(schedule)
    return found[:count]


def schedule(**knobs: Any) -> Schedule:
    """A plain schedule with some knobs changed; legal only where its space says so."""
    plain = {
        "block_m": 32,
        "block_n": 32,
        "block_k": 16,
        "thread_m": 2,
        "thread_n": 4,
        "vector_a": 1,
        "vector_b": 1,
        "vector_tile": 1,
        "stages": 1,
        "prefetch": False,
        "pad": 0,
        "unroll": 2,
        "split_k": 1,
        "raster": 1,
    }
    return Schedule.of(PORTABLE.name, PORTABLE.version, plain | knobs)
