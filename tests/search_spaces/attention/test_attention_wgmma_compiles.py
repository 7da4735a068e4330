"""NVRTC makes machine code for sm_90a of the wgmma attention; no GPU is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvrtc import compiled
from wgmma_attention_cases import ALONE, GPU, WORKLOADS, rendered, schedule

from records.schedule import Schedule
from records.workload import Workload
from search_spaces import attention as package
from search_spaces.attention import attention
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.wgmma import WGMMA_ATTENTION
from search_spaces.kernel import KernelSource

ARCH = "sm_90a"


def assert_clean(workload: Workload, chosen: Schedule) -> None:
    """Nothing in local memory, no warning: not that products are serialised (C7510, C7512), not
    that setmaxnreg is ignored (C7508)."""
    source = rendered(workload, chosen)
    result = compiled(source, ARCH)
    assert result.registers.keys() == {launch.kernel for launch in source.launches}
    few = 96 if Parameters.of(workload).softcap else 0  # bytes, of temporaries of many tanh at once
    assert max(*result.spilled_bytes.values(), *result.stack_bytes.values()) <= few, str(chosen)
    assert "warning" not in result.log.lower(), f"{chosen}\n{result.log}"
    assert "C75" not in result.log, f"{chosen}\n{result.log}"


@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_sampled_schedules_spill_nothing(workload: Workload) -> None:
    for chosen in WGMMA_ATTENTION.space(workload, GPU).sample(2, np.random.default_rng(1)):
        assert_clean(workload, chosen)


@pytest.mark.parametrize(
    ("given", "knobs"),
    [
        ({"head_dim": 128}, {"tile_n": 176}),
        ({"head_dim": 128, "causal": True}, {"tile_n": 128, "lazy": True, "polynomials": 4}),
        ({"head_dim": 128, "lse": True}, {"tile_n": 128, "blocks": 132, "together": 8}),
        ({"head_dim": 64, "causal": True}, {"tile_n": 128, "consumers": 3, "polynomials": 6}),
        ({"head_dim": 64}, {"tile_n": 192, "query": "registers"}),
        ({"head_dim": 64, "softcap": 9.0}, {"tile_n": 192}),
        ({"head_dim": 64, "q_len": 64}, {"tile_n": 224, **ALONE}),
        ({"head_dim": 256, "window": 500}, {"tile_n": 80, "store": "direct"}),
        ({"head_dim": 192, "v_dim": 128, "bias": "head"}, {"tile_n": 112}),
    ],
)
def test_schedules_at_the_limits_spill_nothing(given: dict[str, Any], knobs: Any) -> None:
    sizes = {"batch": 4, "heads": 16, "q_len": 4096, "kv_len": 4096, **given}
    workload = attention(dtype="bfloat16", **sizes)
    chosen = schedule(**knobs)
    assert WGMMA_ATTENTION.space(workload, GPU).violations(chosen.values) == []
    assert_clean(workload, chosen)


def test_the_text_compiles_by_itself() -> None:
    folder = Path(str(package.__file__)).parent
    text = (folder / "wgmma.cu").read_text()
    source = KernelSource("cuda", text, (), (), options=(f"-I{folder}",))
    assert compiled(source, ARCH).spilled_bytes == {"attention": 0}
