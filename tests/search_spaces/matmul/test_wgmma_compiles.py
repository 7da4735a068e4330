"""NVRTC makes machine code for sm_90a of the wgmma template; no GPU is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvrtc import compiled
from wgmma_cases import GPU, SQUARE, WORKLOADS, rendered, schedule

from records.schedule import Schedule
from records.workload import Workload
from search_spaces import matmul as package
from search_spaces.kernel import KernelSource
from search_spaces.matmul import matmul
from search_spaces.matmul.wgmma import WGMMA

ARCH = "sm_90a"


def assert_clean(workload: Workload, chosen: Schedule, spilled_bytes: int = 0) -> None:
    """Nothing in local memory, no warning: not that products are serialised (C7510), not that
    setmaxnreg is ignored (C7508)."""
    source = rendered(workload, chosen)
    result = compiled(source, ARCH)
    assert result.registers.keys() == {launch.kernel for launch in source.launches}
    assert max(*result.spilled_bytes.values(), *result.stack_bytes.values()) <= spilled_bytes
    assert "warning" not in result.log.lower(), f"{chosen}\n{result.log}"
    assert "C75" not in result.log, f"{chosen}\n{result.log}"


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_sampled_schedules_spill_nothing(workload: Workload) -> None:
    for chosen in WGMMA.space(workload, GPU).sample(1, np.random.default_rng(7)):
        assert_clean(workload, chosen)


@pytest.mark.parametrize(
    "knobs",
    [
        {"tile_m": 256, "tile_n": 192, "stages": 3},  # the most sums: 192 a thread
        {"tile_m": 128, "tile_n": 192, "pingpong": True, "stages": 4, "buffers": 1},
        {"stream_k": True, "tile_n": 256, "stages": 3},
        {"tile_m": 192, "tile_n": 192, "consumers": 3, "stages": 3},
        {"tile_m": 64, "tile_n": 256, "consumers": 1, "stages": 5},
        {"tile_m": 128, "tile_n": 64, "resident": 2, "blocks": 264, "stages": 3},
        {"tile_m": 256, "cluster_m": 2, "cluster_n": 2, "raster": "hilbert", "stages": 2},
    ],
)
@pytest.mark.parametrize(("layout", "epilogue"), [("nt", ("bias", "relu")), ("tn", ())])
def test_schedules_at_the_limits_spill_nothing(
    layout: str, epilogue: tuple[str, ...], knobs: dict[str, Any]
) -> None:
    workload = matmul(**SQUARE.values | {"layout": layout, "epilogue": epilogue})
    chosen = schedule(**knobs)
    assert WGMMA.space(workload, GPU).violations(chosen.values) == []
    assert_clean(workload, chosen, spilled_bytes=16)  # where a tile lies, until it is stored


def test_the_text_compiles_by_itself() -> None:
    folder = Path(str(package.__file__)).parent
    text = (folder / "wgmma.cu").read_text()
    source = KernelSource("cuda", text, (), (), options=(f"-I{folder}",))
    assert compiled(source, ARCH).spilled_bytes == {"matmul": 0}
