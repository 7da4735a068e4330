"""Oclgrind must see what it is there for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from oclgrind import simulate

from search_spaces.kernel import Array, KernelSource, Launch

X = np.arange(1, 17, dtype=np.float32)


def source(body: str) -> KernelSource:
    text = f"kernel void f(global const float *x, global float *y) {{ {body} }}"
    arrays = (Array("x", (16,), "float32", "input"), Array("y", (16,), "float32", "output"))
    return KernelSource("opencl", text, (Launch("f", (2, 1, 1), (8, 1, 1), ("x", "y")),), arrays)


REVERSED = """
    local float tile[8];
    int i = get_local_id(0);
    tile[i] = x[get_global_id(0)];
    {barrier}
    y[get_global_id(0)] = tile[7 - i];
"""


def test_races_and_overruns_are_reported_and_missing_writes_leave_nan(tmp_path: Path) -> None:
    fence = "barrier(CLK_LOCAL_MEM_FENCE);"
    bodies = {
        "correct": REVERSED.replace("{barrier}", fence),
        "racy": REVERSED.replace("{barrier}", ""),
        "read": "int i = get_global_id(0); y[i] = x[i + 1];",
        "write": "int i = get_global_id(0); y[i + 1] = x[i]; y[0] = 0;",
        "unwritten": "int i = get_global_id(0); if (i) y[i] = x[i];",
        "correct again": "int i = get_global_id(0); y[i] = 2 * x[i];",
    }
    jobs = [(source(body), {"x": X}) for body in bodies.values()]
    results = dict(zip(bodies, simulate(jobs, tmp_path), strict=True))
    np.testing.assert_array_equal(results["correct"].outputs["y"], X.reshape(2, 8)[:, ::-1].ravel())
    assert results["correct"].report == ""
    assert "data race" in results["racy"].report
    assert "Invalid read" in results["read"].report
    assert "Invalid write" in results["write"].report
    np.testing.assert_array_equal(np.isnan(results["unwritten"].outputs["y"]), X == 1)
    np.testing.assert_array_equal(results["correct again"].outputs["y"], 2 * X)
    assert results["correct again"].report == ""
