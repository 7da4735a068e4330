"""Export and import of records as lines of JSON."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from record_samples import PEAKS, TARGET, WORKLOAD, record

from autotune import record_files
from records import Kind, Target, TuningRecord
from records.errors import InvalidInputError
from records.exchange import write, write_file
from records.peaks import Peaks
from records.store import TuningDatabase

RECORDS = [
    record(4, 1e-3, at=0),
    record(8, None, at=1),
    record(4, 2e-3, at=2, kind=Kind.FINAL),
    record(4, at=3, target=Target.of("sim", "other", "sim-1", {})),
]


def database_of(path: Path, records: list[TuningRecord]) -> TuningDatabase:
    database = TuningDatabase(path)
    for each in records:
        database.add(each)
    return database


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_everything_survives_the_way_through_a_file(tmp_path: Path, name: str) -> None:
    with database_of(tmp_path / "a.db", RECORDS) as source:
        assert source.export(tmp_path / name) == 4
    with TuningDatabase(tmp_path / "b.db") as target:
        report = target.import_(tmp_path / name)
        assert (report.added, report.skipped, report.broken) == (4, 0, [])
        assert list(target.records()) == RECORDS
        again = target.import_(tmp_path / name)
        assert (again.added, again.skipped) == (0, 4)
        assert list(target.records()) == RECORDS
        assert target.check() == []


def test_the_file_is_plain_lines_with_a_header(tmp_path: Path) -> None:
    with database_of(tmp_path / "a.db", RECORDS) as source:
        source.export(tmp_path / "log.jsonl")
        source.export(tmp_path / "log.jsonl.gz")
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"format": "autotune-records", "version": 1}
    assert [TuningRecord.from_json(json.loads(line)) for line in lines[1:]] == RECORDS
    assert gzip.decompress((tmp_path / "log.jsonl.gz").read_bytes()).decode().splitlines() == lines
    assert {path.name for path in tmp_path.iterdir()} == {"a.db", "log.jsonl", "log.jsonl.gz"}


def test_a_part_can_be_exported(tmp_path: Path) -> None:
    with database_of(tmp_path / "a.db", RECORDS) as source:
        assert source.export(tmp_path / "log.jsonl", WORKLOAD, TARGET) == 3
        assert source.export(tmp_path / "log.jsonl", op="attention") == 0


def test_peaks_go_with_the_records_of_their_targets(tmp_path: Path) -> None:
    other = RECORDS[-1].target
    with database_of(tmp_path / "a.db", RECORDS) as source:
        source.note_peaks(TARGET, Peaks(1e9, {}))
        source.note_peaks(TARGET, PEAKS)
        source.note_peaks(other, Peaks(5e9, {"float32": 1e11}))
        known = source.peaks()
        assert known == {TARGET: PEAKS, other: Peaks(5e9, {"float32": 1e11})}
        source.export(tmp_path / "all.jsonl")
        source.export(tmp_path / "one.jsonl", WORKLOAD, TARGET)
        source.export(tmp_path / "none.jsonl", op="attention")
    assert record_files.read_peaks([tmp_path / "none.jsonl"]) == {}
    assert record_files.read_peaks([tmp_path / "one.jsonl"]) == {TARGET: PEAKS}
    assert record_files.read_peaks([tmp_path / "all.jsonl", tmp_path / "a.db"]) == known
    with TuningDatabase(tmp_path / "b.db") as target:
        target.note_peaks(TARGET, Peaks(1.0, {}))
        target.import_(tmp_path / "all.jsonl")
        assert target.peaks() == known | {TARGET: Peaks(1.0, {})}  # its own stand
        assert target.check() == []


@pytest.mark.parametrize(
    "peaks", ["1", '[{"target":1}]', '[{"peaks":{"copy_bytes_per_s":-1,"flops_per_s":{}}}]']
)
def test_peaks_that_are_none_are_told(tmp_path: Path, peaks: str) -> None:
    header = f'{{"format":"autotune-records","version":1,"peaks":{peaks}}}'
    with TuningDatabase(tmp_path / "a.db") as target:
        with pytest.raises(InvalidInputError, match="stream: the peaks of its first line"):
            target.import_lines([header], "stream")


def test_text_streams_serve_too(tmp_path: Path) -> None:
    stream = io.StringIO()
    assert write(RECORDS, stream) == 4
    with TuningDatabase(tmp_path / "a.db") as target:
        report = target.import_lines(io.StringIO(stream.getvalue()), "standard input")
        assert report.added == 4


def test_records_that_differ_in_anything_are_all_kept(tmp_path: Path) -> None:
    alike = [record(4, at=0), record(4, at=1), record(4, 2e-3, at=0), record(4, None, at=0)]
    alike += [record(4, at=0, kind=Kind.FINAL), record(4, at=0, environment={"driver": "9"})]
    stream = io.StringIO()
    write(alike + alike[:1], stream)
    with TuningDatabase(tmp_path / "a.db") as target:
        report = target.import_lines(stream.getvalue().splitlines(), "stream")
    assert (report.added, report.skipped) == (6, 1)


def break_status(line: dict[str, object]) -> None:
    line["measurement"]["status"] = "splendid"  # type: ignore[index]


def remove_times(line: dict[str, object]) -> None:
    line["measurement"]["times_s"] = []  # type: ignore[index]


def make_version_a_text(line: dict[str, object]) -> None:
    line["schedule"]["version"] = "1"  # type: ignore[index]


def nest_a_knob(line: dict[str, object]) -> None:
    line["schedule"]["knobs"] = {"tile": {"m": 1}}  # type: ignore[index]


def remove_workload(line: dict[str, object]) -> None:
    del line["workload"]


def make_the_day_unreadable(line: dict[str, object]) -> None:
    line["created_at"] = "yesterday"


BREAKS: dict[Callable[[dict[str, object]], None], str] = {
    break_status: "splendid",
    remove_times: "positive finite times",
    make_version_a_text: "version: need a whole number",
    nest_a_knob: "tile=",
    remove_workload: "'workload' is missing",
    make_the_day_unreadable: "created_at",
}


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_a_broken_line_is_told_by_number_and_nothing_is_imported(
    tmp_path: Path, damage: Callable[[dict[str, object]], None]
) -> None:
    stream = io.StringIO()
    write(RECORDS, stream)
    lines = stream.getvalue().splitlines()
    broken = json.loads(lines[3])
    damage(broken)
    lines[3] = json.dumps(broken)
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines))
    with TuningDatabase(tmp_path / "a.db") as target:
        with pytest.raises(InvalidInputError, match="line 4: ") as caught:
            target.import_(path)
        assert BREAKS[damage] in str(caught.value)
        assert list(target.records()) == [] and target.workloads() == []
        report = target.import_(path, skip_broken=True)
        assert report.added == 3
        assert len(report.broken) == 1 and BREAKS[damage] in report.broken[0]
        assert target.check() == []


@pytest.mark.parametrize("line", ["{", "[]", "7", '"text"', "null", '{"workload":[]}'])
def test_lines_that_are_no_records(tmp_path: Path, line: str) -> None:
    header = '{"format":"autotune-records","version":1}'
    with TuningDatabase(tmp_path / "a.db") as target:
        with pytest.raises(InvalidInputError, match="stream, line 3: not a tuning record"):
            target.import_lines([header, "\n", line], "stream")


@pytest.mark.parametrize("first", ["", "hello", "[]", '{"workload":{}}', '{"version":1}'])
def test_a_file_without_header_is_refused(tmp_path: Path, first: str) -> None:
    (tmp_path / "log.jsonl").write_text(first)
    with TuningDatabase(tmp_path / "a.db") as target:
        with pytest.raises(InvalidInputError, match="need a first line .*db export"):
            target.import_(tmp_path / "log.jsonl")


def test_a_newer_format_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with TuningDatabase(tmp_path / "a.db") as target:
        with pytest.raises(InvalidInputError, match=r"version 2.*upgrade"):
            target.import_lines(['{"format":"autotune-records","version":2}'], "stream")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b'{"format":"autotune-records"')[:-9])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfa")
    with TuningDatabase(tmp_path / "a.db") as target:
        for name in ("absent", "torn.gz", "binary", "."):
            with pytest.raises(InvalidInputError, match="cannot be read"):
                target.import_(tmp_path / name)
        with pytest.raises(InvalidInputError, match="cannot be written"):
            target.export(tmp_path / "absent" / "log.jsonl")


def test_a_failed_export_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_of(tmp_path / "a.db", RECORDS) as source:
        source.export(tmp_path / "log.jsonl")
        before = (tmp_path / "log.jsonl").read_bytes()

        def interrupted(self: TuningRecord) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(TuningRecord, "to_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            source.export(tmp_path / "log.jsonl")
    assert (tmp_path / "log.jsonl").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.db", "log.jsonl"}


def test_export_into_a_device_writes_through_it() -> None:
    device = Path("/dev/null")
    if not device.is_char_device():
        pytest.skip("no /dev/null here")
    assert write_file(device, RECORDS) == 4
    assert device.is_char_device()
