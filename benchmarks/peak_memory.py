"""Memory that a tuned kernel takes beyond its inputs and outputs, on the host's CPU."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import autotune
from records.workload import Workload
from search_spaces import registry

_CALLS = 3
_PAGE_BYTES = 4096
_RESET_PEAK = "5"  # see proc(5), clear_refs
_STATUS = Path("/proc/self/status")


def beyond_bytes(workload: Workload, device: str, database: Path) -> int | None:
    """Growth of the resident memory of a fresh process while it calls the stored best.

    The arrays lie there before, and the kernel is compiled and bound; what it writes to besides
    its outputs, and what the OpenCL runtime takes to run it, counts. None where the system does
    not tell, which Linux does.
    """
    if not _STATUS.exists():
        return None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return int(pool.apply(_measured, (workload, device, database)))


def _measured(workload: Workload, device: str, database: Path) -> int:
    inputs = {
        name: _on_a_page(array) if array.shape else array
        for name, array in registry.op(workload.op).inputs(workload, seed=0).items()
    }
    with autotune.load(workload, device=device, database=database) as kernel:
        outputs = {
            each.name: _on_a_page(np.zeros(each.storage_shape, each.storage))
            for each in kernel.outputs
        }
        before_bytes = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        for _ in range(_CALLS):
            kernel(**inputs, out=outputs)
        return max(0, _resident("VmHWM") - before_bytes)


def _on_a_page(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that the device can use as it lies."""
    raw = np.zeros(array.nbytes + _PAGE_BYTES, np.uint8)
    start = -raw.ctypes.data % _PAGE_BYTES
    placed = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None, f"{_STATUS} has no {name}"
    return int(found[1]) * 1024
