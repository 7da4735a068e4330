"""What is known of others: read from a database, and worth something in a search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from recorded_tunings import records, target

from autotune import knowledge
from autotune.api import make_proposer, search_space
from autotune.knowledge import earlier_records, informed, usable
from autotune.recorded import RecordedSpace, from_records
from autotune.replay import Policy, replay, searched
from autotune.session import SilentObserver, TuningOptions
from autotune.testing.cost_model import EXAMPLE, TARGET, workload
from autotune.warm_start import winners
from cost_model import DEFAULT
from records import Measurement, Schedule, Target, TuningRecord, Workload
from records.canonical import freeze
from records.peaks import Peaks
from records.store import TuningDatabase
from search_spaces import registry
from search_spaces.titles import title

POLICY = Policy("guided", DEFAULT)


def narrow(schedule: Schedule) -> float:
    """Fast only near one point, which 20 random trials hardly meet."""
    rows, columns = np.log2(schedule["rows"]), np.log2(schedule["columns"])
    return float((1.0 + (rows - 6.0) ** 2 + (columns - 5.0) ** 2) * EXAMPLE.time_s(schedule) ** 0.1)


def shifted(schedule: Schedule) -> float:
    rows, columns = np.log2(schedule["rows"]), np.log2(schedule["columns"])
    return float(3.0 + (rows - 5.0) ** 2 + (columns - 5.0) ** 2 + 0.2 * schedule["unroll"])


def inverted(schedule: Schedule) -> float:
    return 1.0 / narrow(schedule)


def recorded(device: str, time_s: Callable[[Schedule], float]) -> RecordedSpace:
    measurements = {each: Measurement.ok((time_s(each),)) for each in EXAMPLE.space}
    return from_records(workload(), Target.of("sim", device, device, {}), measurements)


HERE = recorded("here", narrow)


@cache
def trials(device: str, time_s: Callable[[Schedule], float]) -> tuple[TuningRecord, ...]:
    return tuple(searched(POLICY, recorded(device, time_s), 60, 5))


def means(trial_count: int, earlier: Sequence[TuningRecord]) -> float:
    found = [replay(POLICY, HERE, trial_count, seed, earlier=earlier) for seed in range(2)]
    return float(np.mean([each.fractions[-1] for each in found]))


def test_helpful_relatives_help_after_few_trials() -> None:
    assert means(8, trials("there", shifted)) > means(8, []) + 0.1


def test_misleading_relatives_do_no_harm_in_the_end() -> None:
    assert means(48, trials("there", inverted)) > means(48, []) - 0.02


def test_the_same_seed_gives_the_same_search() -> None:
    earlier = trials("there", shifted)
    first, second = (
        [record.schedule for record in searched(POLICY, HERE, 24, 1, earlier=earlier)]
        for _ in range(2)
    )
    assert first == second


def test_who_knows_nothing_of_use_searches_as_if_nothing_were_known() -> None:
    outdated = [
        TuningRecord(each.workload, each.target, Schedule.of("example", 2, each.schedule.values),
                     each.measurement, "")
        for each in trials("there", shifted)
    ]  # fmt: skip
    cold, same = (
        [record.schedule for record in searched(POLICY, HERE, 16, 1, earlier=earlier)]
        for earlier in ([], outdated)
    )
    assert cold == same


def test_records_of_other_knobs_are_of_no_use() -> None:
    known = list(trials("there", shifted)[:3])
    other = Schedule.of("example", EXAMPLE.version, {"rows": 4})
    records = [*known, TuningRecord(workload(), TARGET, other, Measurement.ok((1.0,)), "")]
    assert usable(records, HERE) == known


@pytest.mark.parametrize(
    ("strategy", "model"), [("guided", "xgboost"), ("random", DEFAULT), ("guided", "none")]
)
def test_who_cannot_be_told_is_not(strategy: str, model: str) -> None:
    assert begun(trials("there", shifted), strategy, model) == (False, [])


def test_says_in_one_line_what_is_known() -> None:
    is_informed, notices = begun([*trials("there", shifted), *trials("elsewhere", inverted)[:20]])
    assert is_informed
    assert notices == [
        "knows 80 trials of 1 workload on 2 devices; the nearest is "
        "example(dtype=float32, n=512) on there"
    ]


def begun(
    earlier: Sequence[TuningRecord], strategy: str = "guided", model: str = DEFAULT
) -> tuple[bool, list[str]]:
    notices: list[str] = []
    proposer = informed(
        HERE,
        HERE.workload,
        HERE.target,
        earlier,
        strategy=strategy,
        model=model,
        seed=0,
        notice=notices.append,
        find_template=HERE.find_template,
    )
    return proposer is not None, notices


def matmul(size: int, dtype: str = "float32") -> Workload:
    return registry.op("matmul").workload(m=size, n=size, k=size, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_types_of_the_same_op_are_relatives(dtype: str) -> None:
    asked = matmul(512, dtype)
    types = {"dtypes": ("float16", "float32", "float64")}
    device = replace(target(), limits=freeze(dict(target().limits) | types))
    space = search_space(asked, device)
    notices: list[str] = []
    proposer = informed(
        space,
        asked,
        device,
        records(512),
        strategy="guided",
        model=DEFAULT,
        seed=0,
        notice=notices.append,
    )
    assert proposer is not None and "40 trials of 1 workload on 1 device" in notices[0]
    proposer.refit()
    first = proposer.next(4)
    for schedule in first:
        proposer.tell(schedule, Measurement.ok((1.0,)))
    proposer.refit()
    then = proposer.next(8)
    assert first and then and not set(first) & set(then)
    assert all(schedule in space for schedule in (*first, *then))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TuningDatabase]:
    with TuningDatabase(tmp_path / "tuning.db") as store:
        yield store


def stored(database: TuningDatabase, *groups: Sequence[TuningRecord]) -> None:
    for each in (record for group in groups for record in group):
        database.add(each)


def test_the_nearest_workloads_and_devices_are_read_first(database: TuningDatabase) -> None:
    stored(database, records(2048), records(256, "Xeon"), records(256), records(300))
    found = earlier_records(database, matmul(256), target())
    order = [(each.workload["m"], each.target.device) for each in found]
    nearest = [(300, "EPYC"), (256, "Xeon"), (2048, "EPYC")]
    assert list(dict.fromkeys(order)) == nearest
    assert len(found) == 120


@pytest.mark.parametrize(("alike", "unlike"), [("Xeon", "Core"), ("Core", "Xeon")])
def test_devices_of_like_peaks_come_first(
    database: TuningDatabase, alike: str, unlike: str
) -> None:
    stored(database, records(256, "Xeon"), records(256, "Core"))
    asked, here = matmul(256), target()
    assert devices_of(earlier_records(database, asked, here)) == ["Xeon", "Core"]
    database.note_peaks(here, Peaks(20e9, {"float32": 100e9}))
    database.note_peaks(target(device=alike), Peaks(22e9, {"float32": 110e9}))
    database.note_peaks(target(device=unlike), Peaks(200e9, {"float32": 100e9}))
    assert devices_of(earlier_records(database, asked, here)) == [alike, unlike]
    said = Said()
    space = search_space(asked, here)
    proposer = make_proposer(asked, here, space, database, TuningOptions(), said)
    assert said.notices[0].endswith(f"the nearest is {title(asked)} on {alike}")
    proposer.refit()
    peaks, known = database.peaks(), list(database.records())
    assert proposer.next(12) == winners(known, asked, here, space, peaks=peaks)


def devices_of(found: Sequence[TuningRecord]) -> list[str]:
    return list(dict.fromkeys(each.target.device for each in found))


def test_simulated_devices_tell_nothing_of_real_ones(database: TuningDatabase) -> None:
    simulated = replace(target(), backend="sim")
    stored(database, [replace(each, target=simulated) for each in records(300)])
    assert earlier_records(database, matmul(256), target()) == []
    assert len(earlier_records(database, matmul(256), simulated)) == 40


def test_what_is_read_is_bounded(database: TuningDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "EACH", 15)
    monkeypatch.setattr(knowledge, "MOST", 25)
    stored(database, records(512), records(1024))
    found = earlier_records(database, matmul(256), target())
    assert [each.workload["m"] for each in found] == [512] * 15 + [1024] * 10
    assert found[:15] == records(512)[-15:]


def test_a_session_begins_with_what_the_database_knows(database: TuningDatabase) -> None:
    stored(database, records(512), records(256, "Xeon"))
    said = Said()
    asked = matmul(256)
    space = search_space(asked, target())
    proposer = make_proposer(asked, target(), space, database, TuningOptions(), said)
    assert said.notices == [
        f"knows 80 trials of 2 workloads on 2 devices; the nearest is {title(matmul(256))} on Xeon"
    ]
    proposer.refit()
    assert proposer.next(12) == winners(list(database.records()), asked, target(), space)


class Said(SilentObserver):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)
