"""The rule for the best schedule, written down in Python, against the query and the view."""

from __future__ import annotations

import itertools
import sqlite3
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_samples import DRIVER_1, DRIVER_2, TARGET, WORKLOAD, record

from records import Kind, TuningRecord
from records.canonical import Items, freeze
from records.errors import NotTunedError
from records.store import TuningDatabase

KINDS = (Kind.SEARCH, Kind.FINAL)

histories = st.lists(
    st.builds(
        record,
        st.integers(1, 4),
        st.none() | st.integers(1, 9).map(lambda tenths: tenths * 1e-4),
        at=st.integers(0, 3),
        kind=st.sampled_from(Kind),
        environment=st.sampled_from([DRIVER_1, DRIVER_2]),
    ),
    max_size=14,
)


def times_by_rule(
    records: Sequence[TuningRecord], environment: Items | None, heats: bool = False
) -> list[float]:
    """Sorted times of the usable schedules; `records` in the order they were stored."""
    kinds = (*KINDS, Kind.HEAT) if heats else KINDS
    oldest_first = sorted(
        (each for each in records if each.kind in kinds), key=lambda each: each.created_at
    )
    times = []
    by_schedule = sorted(oldest_first, key=lambda each: each.schedule.key)
    for _, group in itertools.groupby(by_schedule, key=lambda each: each.schedule.key):
        history = list(group)
        if not history[-1].measurement.is_ok:
            continue
        sound = [each for each in history if each.measurement.is_ok]
        sound = [each for each in sound if each.kind is not Kind.HEAT] or sound
        here = [each for each in sound if each.measurement.environment == environment] or sound
        final = [each for each in here if each.kind is Kind.FINAL] or here
        times.append(statistics.median(final[-1].measurement.times_s))
    return sorted(times)


@settings(deadline=None, max_examples=60)
@given(history=histories, circumstances=st.sampled_from([DRIVER_1, DRIVER_2]))
def test_query_and_view_follow_the_rule(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[TuningRecord],
    circumstances: dict[str, object],
) -> None:
    environment = freeze(circumstances)
    path = tmp_path_factory.mktemp("rule") / "tuning.db"
    with TuningDatabase(path) as database:
        for each in history:
            database.add(each)
        expected = times_by_rule(history, None)
        ranking = database.ranking(WORKLOAD, TARGET, len(history))
        assert [match.time_s for match in ranking] == expected
        assert len({match.schedule for match in ranking}) == len(ranking)
        with_heats = database.ranking(WORKLOAD, TARGET, len(history), include_heats=True)
        assert [match.time_s for match in with_heats] == times_by_rule(history, None, heats=True)
        assert times_in_view(path) == pytest.approx(expected[:1])
        if not expected:
            with pytest.raises(NotTunedError):
                database.best(WORKLOAD, TARGET, environment=environment)
            return
        best = database.best(WORKLOAD, TARGET, environment=environment)
        assert best.time_s == times_by_rule(history, environment)[0]
        is_here = best.record.measurement.environment == environment
        assert best.how == ("exact" if is_here else "stale")


def times_in_view(path: Path) -> list[float]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT time_ms / 1e3 FROM best_schedules").fetchall()
    connection.close()
    return [time_s for (time_s,) in rows]


def test_a_heat_is_no_answer(tmp_path: Path) -> None:
    with TuningDatabase(tmp_path / "tuning.db") as database:
        database.add(record(1, 1e-3, kind=Kind.HEAT))
        with pytest.raises(NotTunedError):
            database.best(WORKLOAD, TARGET)
        assert not database.measured(WORKLOAD, TARGET, freeze(DRIVER_1))
        database.add(record(1, 2e-3))
        assert database.best(WORKLOAD, TARGET).time_s == 2e-3
