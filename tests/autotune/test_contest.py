"""The contest's protocol, on simulated devices and the host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autotune import workers
from autotune.backends.simulated import ideal_time_s
from autotune.contest import Contest, Ring, hold
from autotune.processes import ChildProcess, spawn
from autotune.rendering import rendered
from autotune.runners import Job
from autotune.testing import devices
from autotune.timing import TimingPlan, default_plan
from records import Target
from search_spaces import registry
from search_spaces.dialect import OPENCL
from search_spaces.matmul import matmul

WORKLOAD = matmul(m=32, n=32, k=32)


def job(target: Target) -> Job:
    schedule = registry.template("matmul", "portable").space(WORKLOAD, target).at(0)
    return Job(WORKLOAD, schedule, rendered(WORKLOAD, schedule, OPENCL))


def test_on_a_gpu_its_own_clock_counts() -> None:
    target = Target.of("sim", "steady", "sim", {"kind": "gpu", "shared_bytes": 48 << 10})
    ours = job(target)
    contest = Contest(WORKLOAD, (("ours", ours),), (), rounds=3, flush_bytes=1 << 20)
    [standing] = hold("sim:steady", contest)
    assert standing.error == ""
    assert standing.times_s == pytest.approx([ideal_time_s(ours.source)] * 3)


def test_a_wrong_kernel_and_a_library_that_fails_do_not_end_it() -> None:
    target = Target.of("sim", "steady", "sim", {"kind": "gpu", "shared_bytes": 48 << 10})
    right = job(target)
    text = f"#define SIMULATE_FAILURE wrong_result\n{right.source.text}"
    wrong = replace(right, source=replace(right.source, text=text))
    contest = Contest(WORKLOAD, (("ours", right), ("wrong", wrong)), ("cublas",), rounds=2)
    ours, theirs, failed = hold("sim:steady", contest)
    assert len(ours.times_s) == 2
    assert "elements are off" in theirs.error and theirs.times_s == ()
    assert failed.name == "cublas" and failed.error


def test_contests_in_one_ring_share_a_process_until_one_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[ChildProcess] = []

    def counted() -> ChildProcess:
        starts.append(spawn())
        return starts[-1]

    monkeypatch.setattr(workers, "spawn", counted)
    target = Target.of("sim", "steady", "sim", {"kind": "gpu", "shared_bytes": 48 << 10})
    ours = Contest(WORKLOAD, (("ours", job(target)),), (), rounds=1)
    beside_a_library = replace(ours, libraries=("cublas",))  # which fails without a GPU
    with Ring("sim:steady") as ring:
        counts = []
        for contest in (ours, ours, beside_a_library, ours):
            assert ring.hold(contest)[0].error == ""
            counts.append(len(starts))
        assert starts[-1].is_alive
    assert counts == [1, 1, 2, 3]
    assert not starts[-1].is_alive


@pytest.mark.parametrize("device", devices.names("opencl")[:1])
def test_on_the_host_libraries_are_timed_beside(device: str) -> None:
    contest = Contest(WORKLOAD, (), ("numpy",), rounds=2)
    [standing] = hold(device, contest)
    assert standing.error == "" and len(standing.times_s) == 2
    assert "numpy" in standing.details


def test_last_level_caches_are_flushed_on_gpus_only() -> None:
    def plan(backend: str, kind: str) -> TimingPlan:
        return default_plan(Target.of(backend, "x", "y", {"kind": kind, "cache_bytes": 50 << 20}))

    assert plan("cuda", "gpu").flush_bytes == 100 << 20
    assert plan("opencl", "gpu").flush_bytes == 100 << 20
    assert plan("opencl", "cpu") == plan("sim", "gpu") == TimingPlan()
    assert plan("cuda", "gpu").circumstances["flush_bytes"] == 100 << 20
