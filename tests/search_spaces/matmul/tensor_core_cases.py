"""Targets and helpers that the tests of the CUDA templates share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cuda_emulation import emulate
from kernel_checks import error_ratio
from targets import gpu

from records.schedule import Schedule
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.dialect import CUDA
from search_spaces.matmul.mma_sync import MMA_SYNC
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.skinny import SKINNY
from search_spaces.template import Template

GPU = gpu()


def mma_sync_schedule(**knobs: Any) -> Schedule:
    """A plain schedule with some knobs changed; legal only where its space says so."""
    plain = {
        "block_m": 64,
        "block_n": 64,
        "block_k": 32,
        "warp_m": 32,
        "warp_n": 32,
        "stages": 3,
        "fragments": 2,
        "staged_store": True,
        "resident": 1,
        "split_k": 1,
        "raster": 1,
    }
    return Schedule.of(MMA_SYNC.name, MMA_SYNC.version, plain | knobs)


def skinny_schedule(**knobs: Any) -> Schedule:
    """The same of the skinny template."""
    plain = {
        "use_mma": False,
        "groups": 2,
        "warps_n": 2,
        "warps_k": 2,
        "unroll": 1,
        "stages": 2,
        "resident": 1,
        "split_k": 1,
    }
    return Schedule.of(SKINNY.name, SKINNY.version, plain | knobs)


def sampled(
    template: Template,
    workload: Workload,
    count: int,
    seed: int = 0,
    keep: Callable[[Schedule], bool] = lambda schedule: True,
) -> list[Schedule]:
    """Some schedules of its space on `GPU`, always the same ones."""
    space = template.space(workload, GPU)
    drawn = space.sample(min(space.size, 600), np.random.default_rng(seed))
    return [schedule for schedule in drawn if keep(schedule)][:count]


def assert_right_in_emulation(
    template: Template, workload: Workload, schedule: Schedule, directory: Path
) -> None:
    """The same right result whether threads and copies hurry or dawdle."""
    source = template.render(workload, schedule, CUDA)
    inputs = MATMUL.inputs(workload, 0)
    (c,) = (array for array in source.arrays if array.role == "output")
    for dawdle in (False, True):
        outputs = emulate(source, inputs, directory, reversed=dawdle, late=dawdle)
        found = {"c": dtypes.decode(c.dtype, outputs["c"]).reshape(c.shape)}
        ratio = error_ratio(workload, inputs, found)
        assert ratio <= 1, f"{workload}: {schedule}: error is {ratio:.3g} times what is allowed"
