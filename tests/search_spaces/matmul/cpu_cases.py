"""Workloads, targets and schedules of the CPU template that tests share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice, product
from typing import Any

import numpy as np
from targets import cpu

from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.matmul import matmul
from search_spaces.matmul.cpu import CPU

STEPS = ("alpha", "beta", "bias", "residual", "relu", "gelu", "gelu_tanh", "silu")
LAYOUTS = ("nn", "nt", "tn", "tt")

AVX512 = cpu()
AVX2 = cpu(vector_bytes=32, units=16, shared_bytes=32 << 10, l2_bytes=256 << 10)

# Together: every layout, dtype and step; sizes that divide, that are prime, that are one.
WORKLOADS = (
    matmul(m=64, n=48, k=32),
    matmul(m=1, n=1, k=1, epilogue="alpha"),
    matmul(m=17, n=33, k=290, epilogue="alpha,beta"),
    matmul(m=32, n=36, k=64, layout="nt", batch=3, epilogue="bias,gelu,residual"),
    matmul(m=1, n=140, k=37, layout="tn", epilogue="residual,silu"),
    matmul(m=34, n=1, k=36, layout="tt", dtype="float64", epilogue="relu,beta,gelu_tanh"),
    matmul(m=20, n=68, k=1, batch=3, dtype="float64", layout="nt", epilogue="bias,alpha"),
    matmul(m=29, n=52, k=570, dtype="float16", layout="tn", epilogue="bias,residual,relu"),
    matmul(m=13, n=37, k=530, dtype="float16", layout="nt", batch=2, epilogue="alpha,gelu"),
)


def schedule(**knobs: Any) -> Schedule:
    """A plain schedule with some knobs changed; legal only where a space says so."""
    plain = {
        "lanes": 16,
        "tile_m": 6,
        "tile_vectors": 4,
        "row_blocks": 1,
        "column_tiles": 2,
        "k_blocks": 1,
        "unroll": 1,
        "pack_a": False,
        "pack_b": True,
        "panels_on_stack": False,
        "rows_first": True,
        "prefetch_a": False,
        "prefetch_c": False,
    }
    return Schedule.of(CPU.name, CPU.version, plain | knobs)


def sampled(
    workloads: Sequence[Workload], target: Target, count: int
) -> Iterator[tuple[Workload, Schedule]]:
    """`count` legal schedules of each workload, others for each."""
    for seed, workload in enumerate(workloads):
        space = CPU.space(workload, target)
        for chosen in space.sample(count, np.random.default_rng(seed)):
            yield workload, chosen


# What decides which memory is read and written, a place for each in a word of bits.
_ACCESS = ("pack_a", "pack_b", "panels_on_stack", "prefetch_a", "prefetch_c", "rows_first")
_SIZES = ((13, 21, 19), (8, 24, 12), (3, 7, 5), (9, 3, 8), (5, 12, 1))  # tiles are 4 x 8, or 3 x 4
_TILES = ({"tile_m": 4, "tile_vectors": 2}, {"tile_m": 3, "tile_vectors": 1, "unroll": 4})


def small_cases() -> Iterator[tuple[Workload, Schedule]]:
    """Small products under every meaningful way of packing and fetching, in every layout.

    Most are far too small for the space of a real target, which asks that schedules be sensible;
    the kernel does not depend on that.
    """
    variants = cycle(product(_SIZES, _TILES, ("float32", "float64", "float16")))
    steps = cycle(STEPS)
    for layout, bits in product(LAYOUTS, product((False, True), repeat=len(_ACCESS))):
        access = dict(zip(_ACCESS, bits, strict=True))
        if access["pack_b"] < max(access["panels_on_stack"], layout[1] == "t"):
            continue
        (m, n, k), tile, dtype = next(variants)
        workload = matmul(
            m=m,
            n=n,
            k=k,
            layout=layout,
            batch=1 + access["rows_first"],
            dtype=dtype,
            epilogue=(next(steps), next(steps)),
        )
        cuts = {
            "row_blocks": 1 + (m > tile["tile_m"]),
            "column_tiles": 2,
            "k_blocks": 2 if k > 8 else 1,
        }
        yield workload, schedule(lanes=4, **tile, **cuts, **access)


def some(cases: Iterator[tuple[Workload, Schedule]], each: int) -> list[Any]:
    return list(islice(cases, 0, None, each))
