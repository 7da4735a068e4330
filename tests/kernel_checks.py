"""Is what a kernel computed right? For tests of templates on devices and in simulators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.backends.base import Backend
from records.schedule import Schedule
from records.workload import Workload
from search_spaces import dtypes, registry
from search_spaces.template import Template

Arrays = Mapping[str, npt.NDArray[Any]]


def error_ratio(workload: Workload, inputs: Arrays, outputs: Arrays) -> float:
    """The largest error as a share of what is allowed: at most 1 if right, infinite for NaN."""
    op = registry.op(workload.op)
    reference = op.reference(workload, inputs)
    allowed = op.tolerance(workload, inputs, reference)
    return max(_ratio(outputs[name], reference[name], allowed[name]) for name in reference)


def _ratio(found: npt.NDArray[Any], exact: npt.NDArray[Any], allowed: npt.NDArray[Any]) -> float:
    differs = np.atleast_1d(found != exact)  # infinities are right only where they are equal
    with np.errstate(invalid="ignore"):
        error = np.abs(np.atleast_1d(found).astype(np.float64) - exact) / allowed
    return float(np.nan_to_num(error, nan=np.inf)[differs].max(initial=0.0))


def assert_right_on(
    backend: Backend, template: Template, workload: Workload, schedule: Schedule, seed: int = 0
) -> None:
    """Run once on a device with poisoned outputs between guard bands, and compare everything."""
    source = template.render(workload, schedule, backend.dialect)
    inputs = registry.op(workload.op).inputs(workload, seed)
    execution = backend.prepare(source, backend.compile(source), inputs)
    try:
        execution.poison()
        execution.launch()
        outputs = execution.outputs()
        found = {
            array.name: dtypes.decode(array.dtype, outputs[array.name]).reshape(array.shape)
            for array in source.arrays
            if array.role == "output"
        }
        ratio = error_ratio(workload, inputs, found)
        damage = execution.damage()
    finally:
        execution.close()
    assert damage == "", f"{workload}: {schedule}: {damage}"
    assert ratio <= 1, f"{workload}: {schedule}: error is {ratio:.3g} times what is allowed"
