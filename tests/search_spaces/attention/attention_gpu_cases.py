"""Targets and helpers that the tests of the CUDA templates of attention share."""

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
from search_spaces.attention.mma_sync import MMA_SYNC_ATTENTION
from search_spaces.attention.op import ATTENTION
from search_spaces.dialect import CUDA
from search_spaces.template import Template

GPU = gpu()


def mma_sync_schedule(**knobs: Any) -> Schedule:
    """A plain schedule with some knobs changed; legal only where its space says so."""
    plain = {
        "warps": 4,
        "warp_rows": 16,
        "tile_keys": 32,
        "stages": 1,
        "half_steps": True,
        "scores_ahead": False,
        "q_registers": False,
        "pack_heads": False,
        "heads_together": 1,
        "late_first": False,
        "backwards": False,
        "lazy_rescale": False,
        "polynomials": 0,
        "splits": 1,
        "resident": 1,
    }
    return Schedule.of(MMA_SYNC_ATTENTION.name, MMA_SYNC_ATTENTION.version, plain | knobs)


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
    inputs = ATTENTION.inputs(workload, 0)
    shapes = {array.name: array for array in source.arrays}
    for dawdle in (False, True):
        outputs = emulate(source, inputs, directory, reversed=dawdle, late=dawdle)
        found = {
            name: dtypes.decode(shapes[name].dtype, stored).reshape(shapes[name].shape)
            for name, stored in outputs.items()
        }
        ratio = error_ratio(workload, inputs, found)
        assert ratio <= 1, f"{workload}: {schedule}: error is {ratio:.3g} times what is allowed"
