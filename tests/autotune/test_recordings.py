"""The same space in every format that recordings come in, and files that are none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recording_samples import FAILED, kernel_tuner_cache, recording, t4_results

from autotune.recorded import RecordedSpace
from autotune.recordings import read
from records import Schedule, Status
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.record import Kind, TuningRecord, utc_now
from records.store import TuningDatabase
from records.target import Target
from search_spaces import registry
from search_spaces.matmul import matmul

CHIP = Target.of("opencl", "chip", "chip", {"units": 4})
WORKLOADS = [matmul(m=size, n=64, k=64) for size in (64, 128)]


def knobs(space: RecordedSpace) -> dict[str, float | str]:
    """What was measured by configuration: milliseconds, or the status."""
    found: dict[str, float | str] = {}
    for schedule in space:
        measurement = space.measure(schedule)
        time_s = measurement.time_s
        told = str(measurement.status) if time_s is None else round(time_s * 1e3, 9)
        found[json.dumps(schedule.values)] = told
    return found


def written(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("make", [kernel_tuner_cache, t4_results])
def test_formats_say_the_same(make: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    [ours] = read(written(tmp_path / "ours.json", recording()))
    [theirs] = read(written(tmp_path / "theirs.json", make()))
    assert knobs(theirs) == knobs(ours)
    assert theirs.optimum_s == pytest.approx(ours.optimum_s)


@pytest.mark.parametrize("cut", ["braces", "comma", "middle of an entry"])
def test_a_cache_that_was_cut_off_is_read(tmp_path: Path, cut: str) -> None:
    """Kernel Tuner appends entries, a line each, and closes the braces only at the end."""
    whole = kernel_tuner_cache()
    entries = whole.pop("cache")
    head = json.dumps(whole, indent=0)[:-2]
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
    text = f'{head},\n"cache": {{\n' + ",\n".join(lines)
    ending = {"braces": "", "comma": ",", "middle of an entry": ',\n"1,2,a'}[cut]
    path = tmp_path / "cache.json"
    path.write_text(text + ending)
    assert len(read(path)[0]) == len(recording()["configs"])


@pytest.mark.parametrize(
    ("time", "status"),
    [
        (FAILED, Status.COMPILE_ERROR),
        ("RuntimeFailedConfig", Status.LAUNCH_ERROR),
        ("InvalidConfig", Status.INVALID),
        ("VerificationFailedConfig", Status.WRONG_RESULT),
        (1e20, Status.LAUNCH_ERROR),
        (math.inf, Status.LAUNCH_ERROR),
        (None, Status.LAUNCH_ERROR),
        (2.5, Status.OK),
    ],
)
def test_what_stands_in_place_of_a_time(tmp_path: Path, time: object, status: Status) -> None:
    cache = kernel_tuner_cache()
    name = next(name for name in cache["cache"] if name.startswith("2,2,a,False"))
    cache["cache"][name]["time"] = time
    [space] = read(written(tmp_path / "cache.json", cache))
    values = {"rows": 2, "columns": 2, "order": "a", "pad": False}
    assert space.measure(Schedule.of("tile", 1, values)).status is status


def test_failures_of_newer_caches(tmp_path: Path) -> None:
    cache = kernel_tuner_cache()
    entry = next(each for each in cache["cache"].values() if each["time"] != FAILED)
    del entry["time"]
    entry["__error__"] = "RuntimeFailedConfig"
    [space] = read(written(tmp_path / "cache.json", cache))
    statuses = [space.measure(schedule).status for schedule in space]
    assert statuses.count(Status.LAUNCH_ERROR) == 1


def test_numbers_that_are_equal_are_one_value(tmp_path: Path) -> None:
    data = recording()
    data["configs"] = [(float(rows), *others) for rows, *others in data["configs"]]
    data["configs"].append([1.0, 1, "a", 0])
    data["time_ms"].append(0.5)
    [space] = read(written(tmp_path / "a.json", data))
    assert set(space) == set(read(written(tmp_path / "b.json", recording()))[0])
    assert space.optimum_s == pytest.approx(0.5e-3)  # the last of two counts


@pytest.mark.parametrize("time_ms", [0, -1.0, math.nan, math.inf, None])
def test_what_is_no_time_is_a_failure(tmp_path: Path, time_ms: float | None) -> None:
    data = recording()
    data["time_ms"][5] = time_ms
    [space] = read(written(tmp_path / "a.json", data))
    assert not space.measure(list(space.measurements)[5]).is_ok


@pytest.mark.parametrize("problem", [[384, 1, 4096], "384x1x4096", "large", None])
def test_sizes_of_the_problem_are_the_workload(tmp_path: Path, problem: object) -> None:
    [space] = read(written(tmp_path / "a.json", recording() | {"problem": problem}))
    sized = problem in ([384, 1, 4096], "384x1x4096")
    assert space.workload.op == "tile"
    assert space.workload.values == ({"size_0": 384, "size_1": 1, "size_2": 4096} if sized else {})


@pytest.mark.parametrize(
    ("unit", "seconds"), [("seconds", 1.0), ("microseconds", 1e-6), ("ns", 1e-9), ("ms", 1e-3)]
)
def test_units_of_t4(tmp_path: Path, unit: str, seconds: float) -> None:
    data = t4_results() | {"metadata": {"timeunit": unit}}
    assert read(written(tmp_path / "t4.json", data))[0].optimum_s == pytest.approx(seconds)


def record(
    rows: int, time_s: float | None, kind: Kind = Kind.SEARCH, workload: int = 0
) -> TuningRecord:
    measurement = (
        Measurement.failed(Status.CRASHED, "signal 11")
        if time_s is None
        else Measurement.ok((time_s,))
    )
    schedule = Schedule.of("portable" if kind is not Kind.LIBRARY else "blas", 1, {"rows": rows})
    return TuningRecord(WORKLOADS[workload], CHIP, schedule, measurement, utc_now(), kind)


RECORDS = [
    record(1, 4.0),
    record(2, 2.0),
    record(4, None),
    record(2, 2.2, Kind.FINAL),
    record(1, 0.1, Kind.LIBRARY),
    record(8, 3.0, Kind.FINAL),
    record(1, 5.0, workload=1),
]


@pytest.mark.parametrize("ending", [".db", ".jsonl", ".jsonl.gz"])
def test_our_own_records_are_a_recording_for_each_workload(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as store:
        for each in RECORDS:
            store.add(each)
        if ending != ".db":
            store.export(path.with_suffix(ending))
    first, second = read(path.with_suffix(ending) if ending != ".db" else path)
    assert (first.workload, second.workload) == tuple(WORKLOADS)
    assert first.target == CHIP
    found = {schedule["rows"]: first.measure(schedule).time_s for schedule in first}
    assert found == {1: 4.0, 2: 2.0, 4: None, 8: 3.0}
    assert first.optimum_s == 2.0
    assert len(second) == 1
    with pytest.raises(InvalidInputError, match="it has 2 recordings, need one"):
        RecordedSpace.load(path)


def test_records_of_which_nothing_worked_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuning.db"
    with TuningDatabase(path) as store:
        store.add(record(1, None))
    with pytest.raises(InvalidInputError, match="no workload of which a schedule worked"):
        read(path)


def test_recordings_of_ours_know_their_template(tmp_path: Path) -> None:
    portable = registry.template("matmul", "portable")
    for version in (portable.version, portable.version + 1):
        path = tmp_path / f"{version}.db"
        with TuningDatabase(path) as store:
            store.add(replace(record(1, 1.0), schedule=Schedule.of("portable", version, {"x": 1})))
        [space] = read(path)
        found = space.find_template("matmul", "portable")
        assert found is (portable if version == portable.version else space)
        assert found.version == version
        assert space.find_template("matmul", "of someone else") is space


def several(**changes: Any) -> dict[str, Any]:
    return recording() | changes


BAD: list[tuple[object, str]] = [
    ({"something": "else"}, "is no recording; there are: a tuning database, recorded space"),
    ([1, 2], "is no recording"),
    ([], "is no recording"),
    (several(time_ms=[None] * len(recording()["configs"])), "none of 234 schedules worked"),
    (several(configs=[[1]] * 234), "need 4 values|argument"),
    (several(restrictions=["import os"]), "no Python expression"),
    (several(params={"rows": [1, 1]}), "lists a value twice"),
    (kernel_tuner_cache() | {"objective": "GFLOP/s"}, "its objective is 'GFLOP/s'"),
    ({k: v for k, v in kernel_tuner_cache().items() if k != "tune_params"}, "lacks 'tune_params'"),
    (t4_results() | {"results": []}, "it has no results"),
    (t4_results() | {"metadata": {"timeunit": "fortnights"}}, "its time unit is 'fortnights'"),
    (t4_results() | {"results": [{}]}, "lacks 'configuration'"),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=[message for _, message in BAD])
def test_files_that_are_none(tmp_path: Path, data: object, message: str) -> None:
    path = written(tmp_path / "bad.json", data)
    with pytest.raises(InvalidInputError, match=message) as refused:
        read(path)
    assert "bad.json" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"[1", b"not json"])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("bad.json", "bad.json.gz"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=f"{name}.*name another file"):
            read(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read(tmp_path / "absent.json")
