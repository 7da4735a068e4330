"""Workloads, targets, schedules, measurements: identity, round trips, refusals."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import Kind, Measurement, Schedule, Status, Target, TuningRecord, Workload
from records.canonical import canonical_json, freeze
from records.record import utc_now

names = st.text(max_size=8)
scalars = (
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
mappings = st.dictionaries(names, scalars | st.lists(scalars, max_size=3), max_size=5)
times = st.floats(min_value=1e-9, max_value=1e3)
measurements = st.builds(
    Measurement.ok,
    st.lists(times, min_size=1, max_size=5).map(tuple),
    compile_s=times,
    details=mappings,
    environment=mappings,
) | st.builds(
    Measurement.failed,
    st.sampled_from([status for status in Status if status is not Status.OK]),
    st.text(max_size=20),
    details=mappings,
    environment=mappings,
)
records = st.builds(
    TuningRecord,
    st.builds(Workload.of, names, mappings),
    st.builds(Target.of, names, names, names, mappings),
    st.builds(Schedule.of, names, st.integers(), mappings),
    measurements,
    st.just("2030-01-01T00:00:00.000+00:00"),
    st.sampled_from(Kind),
)


@given(records)
def test_a_record_survives_json(record: TuningRecord) -> None:
    text = canonical_json(record.to_json())
    again = TuningRecord.from_json(json.loads(text))
    assert again == record
    assert canonical_json(again.to_json()) == text
    assert hash(again) == hash(record)
    assert again.workload.key == record.workload.key
    assert again.target.key == record.target.key
    assert again.schedule.key == record.schedule.key


@given(mappings, st.randoms(use_true_random=False))
def test_identity_does_not_depend_on_order(values: dict[str, Any], random: Any) -> None:
    shuffled = list(values.items())
    random.shuffle(shuffled)
    first, second = Workload.of("op", values), Workload.of("op", dict(shuffled))
    assert first == second and first.key == second.key


LOOKALIKES = [0, 1, 0.0, 1.0, False, True, "1", "", [], [1], [True], ["1"]]


def test_values_that_look_alike_have_keys_of_their_own() -> None:
    assert len({Workload.of("op", {"x": value}).key for value in LOOKALIKES}) == len(LOOKALIKES)


@given(mappings)
def test_freezing_twice_changes_nothing(values: dict[str, Any]) -> None:
    assert freeze(freeze(values)) == freeze(values)


def test_numpy_numbers_become_plain_ones() -> None:
    frozen = dict(freeze({"a": np.int64(3), "b": np.float32(0.5), "c": np.float64(2.0)}))
    assert frozen == {"a": 3, "b": 0.5, "c": 2.0}
    assert [type(value) for value in frozen.values()] == [int, float, float]


def test_minus_zero_is_zero() -> None:
    assert Workload.of("op", {"beta": -0.0}).key == Workload.of("op", {"beta": 0.0}).key


@pytest.mark.parametrize("value", [None, {"a": 1}, [[1]], {1}, 1j, b"x"], ids=repr)
def test_values_that_are_no_facts_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="knob=.*need a bool, int"):
        freeze({"knob": value})


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]], ids=repr)
def test_numbers_that_json_has_not_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="finite"):
        freeze({"knob": value})


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each name once"):
        freeze([("m", 1), ("m", 2)])


@pytest.mark.parametrize("times_s", [(), (0.0,), (1e-3, -1e-3), (math.nan,), (math.inf,)])
def test_ok_needs_positive_times(times_s: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="positive finite times"):
        Measurement.ok(times_s)


def test_a_failure_has_no_times_and_needs_its_status() -> None:
    assert Measurement.failed(Status.TIMEOUT, "5 s").time_s is None
    with pytest.raises(ValueError, match="a failure none"):
        Measurement(Status.TIMEOUT, (1e-3,))
    with pytest.raises(ValueError, match="ok with"):
        Measurement.failed(Status.OK, "")


def test_details_keep_errors_that_are_no_numbers() -> None:
    failed = Measurement.failed(
        Status.WRONG_RESULT, "off", details={"largest_error": math.inf, "element": 3}
    )
    assert failed.detail("largest_error") == "inf" and failed.detail("element") == 3
    assert Measurement.from_json(json.loads(json.dumps(failed.to_json()))) == failed


def test_the_time_is_the_median() -> None:
    assert Measurement.ok((3.0, 1.0, 2.0)).time_s == 2.0
    assert Measurement.ok((1.0, 2.0)).time_s == 1.5


def test_moments_sort_as_texts() -> None:
    moments = [utc_now() for _ in range(50)]
    assert moments == sorted(moments) and len(set(map(len, moments))) == 1


def test_importing_records_is_cheap() -> None:
    """A program that only carries records around pays for no database and no numpy."""
    code = (
        "import sys, records, records.store; "
        "print([name for name in ('sqlite_utils', 'numpy', 'click') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
