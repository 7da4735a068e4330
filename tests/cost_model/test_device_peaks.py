"""What was probed of devices, as a measure of how alike they are and as a feature."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from autotune.testing.cost_model import EXAMPLE, TARGET, find_example, workload
from cost_model.evaluate import pairwise_accuracy
from cost_model.features import context_features, distance
from cost_model.groups import known_groups
from cost_model.pretrained import SHIPPED
from cost_model.pretrained.model import PretrainedModel
from cost_model.pretrained.training import train
from cost_model.relatives import Relatives
from records import Measurement, Schedule, Target, TuningRecord
from records.peaks import NO_PEAKS, Peaks, PeaksOf
from search_spaces import registry

SCHEDULES = EXAMPLE.space.sample(300, np.random.default_rng(2))
UNSEEN = EXAMPLE.space.sample(200, np.random.default_rng(3))
OTHERS = [replace(TARGET, device=name) for name in ("a", "b", "c", "d", "e")]

HERE_PEAKS = Peaks(2.0**34, {"float32": 2.0**40})
ALIKE = Peaks(2.0**34, {"float32": 2.0**41})
UNLIKE = Peaks(2.0**38, {"float32": 2.0**36})


def time_s(schedule: Schedule, bandwidth: float) -> float:
    """Wide tiles are fast where bandwidth is scarce: at 2^34 bytes a second, slow at 2^38."""
    scarce = (36.0 - math.log2(bandwidth)) / 2.0
    columns = math.log2(schedule["columns"])
    return float(EXAMPLE.time_s(schedule) ** 0.2 * 2.0 ** (-0.5 * scarce * columns))


def measured(target: Target, bandwidth: float, n: int = 512, count: int = 80) -> list[TuningRecord]:
    return [
        TuningRecord(
            workload(n), target, each, Measurement.ok((time_s(each, bandwidth) * n / 512,)), ""
        )
        for each in SCHEDULES[:count]
    ]


def test_peaks_are_features_in_doublings_where_they_are_known() -> None:
    known = context_features(workload(), TARGET, {TARGET: HERE_PEAKS})
    unknown = context_features(workload(), TARGET)
    assert {name: known[name] for name in known.keys() - unknown.keys()} == {
        "target.peak_flops": 40.0,
        "target.bandwidth": 34.0,
        "target.ridge": 6.0,
    }
    assert context_features(workload(), TARGET, {OTHERS[0]: ALIKE}) == unknown


def test_a_dtype_that_was_not_probed_has_no_peak() -> None:
    features = context_features(workload(), TARGET, {TARGET: Peaks(2.0**34, {"float64": 1e12})})
    assert math.isnan(features["target.peak_flops"]) and math.isnan(features["target.ridge"])
    assert features["target.bandwidth"] == 34.0


@pytest.mark.parametrize(
    ("peaks", "apart"),
    [
        ({}, 0.0),
        ({TARGET: HERE_PEAKS}, 0.0),
        ({TARGET: HERE_PEAKS, OTHERS[0]: HERE_PEAKS}, 0.0),
        ({TARGET: HERE_PEAKS, OTHERS[0]: ALIKE}, 1.0 + 1.0),
        ({TARGET: HERE_PEAKS, OTHERS[0]: UNLIKE}, 4.0 + 4.0 + 8.0),
        ({TARGET: HERE_PEAKS, OTHERS[0]: Peaks(2.0**36, {})}, 2.0),
    ],
)
def test_distance_counts_doublings_of_peaks(peaks: PeaksOf, apart: float) -> None:
    here, there = (workload(), TARGET), (workload(), OTHERS[0])
    assert distance(here, there, peaks) == distance(there, here, peaks) == 1.0 + apart
    assert distance(here, here, peaks) == 0.0


@pytest.mark.parametrize("is_first_alike", [True, False])
def test_relatives_of_like_peaks_are_believed_first(is_first_alike: bool) -> None:
    """But for their peaks the two devices are equally near, and say the opposite."""
    rates = [2.0**34, 2.0**38]
    alike, unlike = OTHERS[:2] if is_first_alike else OTHERS[1::-1]
    records = [each for place in (0, 1) for each in measured(OTHERS[place], rates[place])]
    peaks = {TARGET: HERE_PEAKS, alike: ALIKE, unlike: UNLIKE}
    knowing = Relatives(records, workload(), TARGET, find_template=find_example, peaks=peaks)
    assert [group.target for group in knowing.groups] == [alike, unlike]
    expected = knowing.mean(UNSEEN)
    as_alike, as_unlike = (
        pairwise_accuracy(expected, np.array([time_s(each, rate) for each in UNSEEN]))
        for rate in (rates if is_first_alike else reversed(rates))
    )
    assert as_alike > 0.65 and as_unlike < 0.45  # without peaks both are near 0.5


@pytest.mark.parametrize("peaks", [NO_PEAKS, {TARGET: HERE_PEAKS}, {OTHERS[0]: ALIKE}])
def test_without_peaks_to_compare_nothing_changes(peaks: PeaksOf) -> None:
    records = [*measured(OTHERS[0], 2.0**34), *measured(OTHERS[1], 2.0**38)]
    plain = Relatives(records, workload(), TARGET, find_template=find_example)
    knowing = Relatives(records, workload(), TARGET, find_template=find_example, peaks=peaks)
    assert [group.target for group in knowing.groups] == OTHERS[:2]
    if OTHERS[0] not in peaks:
        assert knowing.mean(UNSEEN).tolist() == plain.mean(UNSEEN).tolist()


def test_a_trained_model_knows_a_device_by_its_peaks() -> None:
    """Of five devices with equal limits, two are unlike the rest; one never seen is as they."""
    rates = dict(zip(OTHERS, [2.0**34, 2.0**34, 2.0**34, 2.0**38, 2.0**38], strict=True))
    peaks = {target: Peaks(rate, {"float32": 2.0**40}) for target, rate in rates.items()}
    peaks[TARGET] = Peaks(2.0**38, {"float32": 2.0**40})
    records = [
        record
        for target, rate in rates.items()
        for n in (256, 512, 1024)
        for record in measured(target, rate, n)
    ]
    groups = known_groups(records, find_example)
    times_s = np.array([time_s(each, 2.0**38) for each in UNSEEN])
    knowing, plain = (train(groups, find_example, 0, each) for each in (peaks, NO_PEAKS))
    assert "target.bandwidth" in knowing.header.features
    assert not {"target.bandwidth", "target.ridge"} & set(plain.header.features)
    right, guessed = (
        pairwise_accuracy(model.predict(workload(), TARGET, UNSEEN).score, times_s)
        for model in (knowing, plain)
    )
    assert right > 0.85 and guessed < 0.5


def test_the_shipped_model_does_not_mind_peaks_that_it_was_not_trained_with() -> None:
    asked = registry.op("matmul").workload(m=640, n=640, k=640)
    limits = {"kind": "cpu", "units": 2, "warp": 1, "vector_bytes": 64, "dtypes": ["float32"]}
    limits |= {"max_group": 4096, "l1_bytes": 1 << 15, "l2_bytes": 1 << 20, "cache_bytes": 1 << 25}
    device = Target.of("opencl", "a CPU", "x86-64-avx512", limits)
    template = registry.template("matmul", "cpu")
    schedules = template.space(asked, device).sample(20, np.random.default_rng(0))
    plain = PretrainedModel.load(SHIPPED)
    knowing = PretrainedModel.load(SHIPPED, peaks={device: HERE_PEAKS})
    assert (
        knowing.predict(asked, device, schedules).score.tolist()
        == plain.predict(asked, device, schedules).score.tolist()
    )
