"""Features: the right numbers under the right names, missing where unknown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autotune.testing.cost_model import EXAMPLE, TARGET, find_example, workload
from cost_model.features import context_features, knob_features, stats_features
from cost_model.table import FeatureTable
from records import Schedule, Target, Workload
from search_spaces.attention import attention
from search_spaces.kernel import KernelStats

GPU = Target.of(
    "cuda",
    "example",
    "sm_80",
    {
        "units": 100,
        "warp": 32,
        "shared_bytes": 49152,
        "registers": 65536,
        "cache_bytes": 2**22,
        "vector_bytes": 16,
        "dtypes": ("float16", "float32"),
    },
)
MATMUL = Workload.of("matmul", {"m": 1024, "dtype": "float16", "epilogue": ("bias", "relu")})
STATS = KernelStats(
    groups=150,
    threads=48,
    shared_bytes=20000,
    registers=64,
    flops=4096.0,
    useful_flops=3072.0,
    dram_bytes=1024.0,
    vector_lanes=4,
    extra=(("stalls", 7.0),),
)


def one(stats: KernelStats, target: Target = GPU) -> dict[str, float]:
    return {name: column[0] for name, column in stats_features(MATMUL, target, [stats]).items()}


def test_ratios_that_decide_speed() -> None:
    features = one(STATS)
    assert features["intensity.dram"] == 2.0  # log2 of 4 FLOP a byte
    assert features["edge_efficiency"] == 0.75
    assert features["unit_efficiency"] == 0.75  # 1.5 groups a unit take as long as 2
    assert features["waves"] == pytest.approx(math.log2(0.75))  # 2 groups fit: by local memory
    assert features["resident_threads"] == pytest.approx(math.log2(1.5 * 48))
    assert features["warp_efficiency"] == 0.75  # 48 work-items take 2 warps
    assert features["vector_fill"] == -1.0  # 4 halves fill half of 16 bytes
    assert features["extra.stalls"] == 7.0


def test_registers_can_limit_residency_too() -> None:
    heavy = KernelStats(groups=1000, threads=512, registers=128, shared_bytes=1024)
    assert one(heavy)["waves"] == pytest.approx(math.log2(10.0))  # 1 group fits a unit


def test_the_unknown_is_missing() -> None:
    features = one(KernelStats(), Target.of("sim", "x", "x", {}))
    known = {name for name, value in features.items() if not math.isnan(value)}
    assert known == {"stats.vector_lanes", "stats.launches"}


def test_extra_numbers_are_aligned_by_name() -> None:
    other = KernelStats(extra=(("hops", 3.0),))
    columns = stats_features(MATMUL, GPU, [STATS, other])
    assert columns["extra.stalls"][0] == 7.0 and np.isnan(columns["extra.stalls"][1])
    assert columns["extra.hops"][1] == 3.0 and np.isnan(columns["extra.hops"][0])


def test_knobs_keep_their_value_and_categories_become_columns() -> None:
    schedule = Schedule.of("tiled", 1, {"rows": 8, "pad": True, "order": "row"})
    assert knob_features(schedule) == {
        "template=tiled": 1.0,
        "knob.rows": 8.0,
        "knob.pad": 1.0,
        "knob.order=row": 1.0,
    }


def test_workload_and_target() -> None:
    features = context_features(MATMUL, GPU)
    assert features["workload.m"] == 10.0
    assert features["workload.dtype=float16"] == 1.0
    assert features["workload.epilogue=bias"] == features["workload.epilogue=relu"] == 1.0
    assert features["target.shared_bytes"] == math.log2(49152)
    assert features["target.dtypes=float32"] == 1.0


def test_the_table_aligns_templates_by_name() -> None:
    class Bare:
        version = 1

        def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
            return KernelStats()

    table = FeatureTable(lambda op, name: EXAMPLE if name == EXAMPLE.name else Bare())
    bare = Schedule.of("bare", 1, {"rows": 5, "depth": 9})
    tiled = EXAMPLE.space.at(70)
    matrix = table.matrix(workload(), TARGET, [bare, tiled, bare])
    column = {name: matrix[:, place] for place, name in enumerate(table.names)}
    assert column["knob.rows"].tolist() == [5.0, float(tiled["rows"]), 5.0]
    assert column["knob.depth"][0] == 9.0 and np.isnan(column["knob.depth"][1])
    assert np.isnan(column["stats.groups"][0]) and not np.isnan(column["stats.groups"][1])
    assert column["workload.n"].tolist() == [9.0, 9.0, 9.0]
    assert np.array_equal(matrix[0], matrix[2], equal_nan=True)


def test_the_table_computes_each_schedule_once() -> None:
    class Counting:
        version = EXAMPLE.version
        calls = 0

        def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
            self.calls += 1
            return EXAMPLE.stats(workload, schedule, target)

    counting = Counting()
    table = FeatureTable(lambda op, name: counting)
    schedules = [EXAMPLE.space.at(index) for index in range(50)]
    first = table.matrix(workload(), TARGET, schedules)
    again = table.matrix(workload(), TARGET, schedules[::-1])
    assert counting.calls == 50
    assert np.array_equal(first, again[::-1], equal_nan=True)


def test_columns_only_grow() -> None:
    table = FeatureTable(find_example)
    table.matrix(workload(), TARGET, [EXAMPLE.space.at(0)])
    before = table.names
    table.matrix(workload(99), GPU, [EXAMPLE.space.at(EXAMPLE.space.size - 1)])
    assert table.names[: len(before)] == before


def test_a_template_that_cannot_tell_costs_only_its_statistics() -> None:
    class Broken:
        version = EXAMPLE.version

        def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
            raise ZeroDivisionError("no tile")

    table = FeatureTable(lambda op, name: Broken())
    matrix = table.matrix(workload(), TARGET, [EXAMPLE.space.at(0), EXAMPLE.space.at(1)])
    column = dict(zip(table.names, matrix.T, strict=True))
    assert np.isnan(column["stats.groups"]).all()
    assert not np.isnan(column["knob.unroll"]).any()


def test_lengths_become_a_summary() -> None:
    workload = Workload.of("matmul", {"m": 12, "groups": (4, 0, 8)})
    features = context_features(workload, GPU)
    assert features["workload.groups.count"] == math.log2(3)
    assert features["workload.groups.mean"] == 2.0 and features["workload.groups.max"] == 3.0
    assert features["workload.groups.spread"] == pytest.approx(math.sqrt(32 / 3) / 4)
    assert not any(name.startswith("workload.groups=") for name in features)


def test_attention_has_all_its_sizes_and_flags() -> None:
    short = context_features(attention(heads=4, q_len=64, head_dim=32), GPU)
    long = context_features(
        attention(heads=4, q_len=1, kv_lens=(8, 24), head_dim=32, causal=True, window=16), GPU
    )
    assert short["workload.kv_len"] == 6.0 and short["workload.kv_heads"] == 2.0
    assert short["workload.batch"] == 0.0 and short["workload.causal"] == 0.0
    assert math.isnan(short["workload.window"]) and long["workload.window"] == 4.0
    assert long["workload.causal"] == 1.0 and long["workload.batch"] == 1.0
    assert long["workload.kv_lens.mean"] == 4.0
    assert short["workload.bias=none"] == short["workload.dtype=float32"] == 1.0
