"""What the shipped cost model is trained from, and what it is worth: the two scripts."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from recorded_tunings import records, written

from autotune import record_files
from records.record import Kind, TuningRecord
from records.schedule import Schedule
from records.store import TuningDatabase

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def of_an_older_template(record: TuningRecord) -> TuningRecord:
    now = record.schedule
    return replace(record, schedule=Schedule.of(now.template, now.version + 1, now.values))


def test_only_trials_of_todays_templates_are_kept_a_file_a_workload(tmp_path: Path) -> None:
    many, few = records(512, count=50), records(256, count=8)
    finals = [replace(record, kind=Kind.FINAL) for record in many[:5]]
    with TuningDatabase(tmp_path / "tuning.db") as store:
        for record in [*many, *few, *finals, *map(of_an_older_template, many[:7])]:
            store.add(record)
    words = [str(tmp_path / "tuning.db"), "-o", str(tmp_path / "data")]
    done = CliRunner().invoke(module("export_data").main, words)
    assert done.exit_code == 0, done.output
    [path] = (tmp_path / "data").rglob("*.jsonl.gz")
    assert path.relative_to(tmp_path / "data").as_posix() == (
        "epyc-2-units/matmul-512x512x512-float32.jsonl.gz"
    )
    assert record_files.read([tmp_path / "data"]) == many


def test_the_data_that_are_shipped_name_no_machine_and_no_person() -> None:
    found = record_files.read([BENCHMARKS / "data"])
    assert len(found) > 2000 and {record.kind for record in found} == {Kind.SEARCH}
    for record in found:
        facts = str(record.to_json())
        assert not any(word in facts for word in ("/home", "/root", "/tmp", "/work", "host"))


def test_a_search_alone_and_beginning_with_the_model(tmp_path: Path) -> None:
    written(tmp_path / "log.jsonl", *(records(size, count=60) for size in (256, 384, 512)))
    words = ["--data", str(tmp_path), "--seeds", "1", "-o", str(tmp_path / "prior.md")]
    done = CliRunner().invoke(module("prior").main, words)
    assert done.exit_code == 0, done.output
    rows = [line for line in (tmp_path / "prior.md").read_text().splitlines() if "→" in line]
    assert len(rows) == 1 + 3 + 1
    alone, begun = (float(number) for number in rows[-1].split("|")[2].split("→"))
    assert begun > alone
