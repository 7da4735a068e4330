"""`autotune model`: trained, judged and shown; what it says of files that it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run, exit_code
from recorded_tunings import records, target, written

from records import exchange
from records.peaks import Peaks
from search_spaces import registry


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three sizes on two devices, in a folder of two files."""
    folder = tmp_path_factory.mktemp("logs")
    written(folder / "one.jsonl.gz", *(records(size) for size in (256, 384, 512)))
    written(folder / "two.jsonl", *(records(size, "Xeon") for size in (256, 384, 512)))
    return str(folder)


@pytest.fixture(scope="module")
def model(many: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.ubj"
    assert exit_code("model", "train", many, "-o", str(path)) == 0
    return path


def test_training_keeps_what_was_learnt_and_how_it_was_judged(run: Run, model: Path) -> None:
    found = run("model", "info", str(model), "--json").json
    assert found["workloads"] == {"matmul": 3} and found["records"] == 240
    assert found["templates"] == {"matmul": {"cpu": registry.template("matmul", "cpu").version}}
    assert {name for _, name, _ in found["targets"]} == {"EPYC", "Xeon"}
    assert found["outdated"] == ""
    for held_out in ("workload", "device"):
        assert found["judged"]["matmul"][held_out]["helps"]
    assert sum(found["importance"].values()) == pytest.approx(1.0)
    assert "tile" in " ".join([*found["importance"]][:3]) or "copies" in [*found["importance"]][0]


def test_the_same_records_give_the_same_file(run: Run, many: str, model: Path) -> None:
    found = run("model", "train", many, "-o", "again.ubj", "--json").json
    assert found["path"] == "again.ubj" and found["judged"]["matmul"]["device"]["helps"]
    assert Path("again.ubj").read_bytes() == model.read_bytes()


def test_a_summary_for_people(run: Run, model: Path) -> None:
    out = run("model", "info", str(model)).out
    assert "3 of matmul" in out and "opencl:EPYC, opencl:Xeon" in out
    assert "pairs in order" in out and ": used" in out and "share of what splits gain" in out


def test_tables_for_people_and_the_same_for_programs(run: Run, many: str) -> None:
    lines = run("model", "evaluate", many).out.splitlines()
    assert lines[0] == "A workload never seen" and "A device never seen" in lines
    assert lines[1].split() == "op n pairs in order loss@1 loss@5 loss@10 recall@30".split()
    assert lines[2].split()[:2] == ["matmul", "6"] and "±" in lines[2]
    found = run("model", "evaluate", many, "--json").json
    assert len(found["workload"]) == len(found["device"]) == 6
    assert min(each["accuracy"] for each in found["workload"]) > 0.8


def test_a_model_knows_the_peaks_that_the_records_came_with(run: Run, tmp_path: Path) -> None:
    for number, device in enumerate(("EPYC", "Xeon"), start=1):
        peaks = {target(device=device): Peaks(number * 1e10, {"float32": 1e11})}
        found = [each for size in (256, 384, 512) for each in records(size, device)]
        exchange.write_file(tmp_path / f"{device}.jsonl", found, peaks)
    trained = run("model", "train", str(tmp_path), "-o", "model.ubj", "--json").json
    assert {"target.bandwidth", "target.peak_flops", "target.ridge"} <= set(trained["features"])
    assert run("model", "evaluate", str(tmp_path)).code == 0


def test_one_device_cannot_be_held_out(run: Run, tmp_path: Path) -> None:
    one = written(tmp_path / "one.jsonl", *(records(size) for size in (256, 384, 512)))
    assert "needs records of two devices" in run("model", "evaluate", one).out


def test_the_shipped_model_fits_the_templates_of_today(run: Run) -> None:
    found = run("model", "info", "--json").json
    assert found["outdated"] == ""
    assert found["workloads"]["matmul"] >= 7


def test_too_few_workloads(run: Run, tmp_path: Path) -> None:
    few = written(tmp_path / "few.jsonl", records(256), records(512))
    for words in (("train", few, "-o", "model.ubj"), ("evaluate", few)):
        done = run("model", *words)
        assert done.code == 2 and done.err.count("\n") == 1
        assert "need search trials of 3 workloads or more" in done.err and "found 2" in done.err
    assert not Path("model.ubj").exists()


def test_a_file_that_cannot_be_written_is_told_before_the_training(run: Run, many: str) -> None:
    done = run("model", "train", many, "-o", "absent/model.ubj")
    assert done.code == 2 and "absent does not exist; make it: mkdir -p absent" in done.err


def test_files_that_are_no_models(run: Run, model: Path, tmp_path: Path) -> None:
    line, _, trees = model.read_bytes().partition(b"\n")
    header = json.loads(line)
    damaged = {
        "no cost model": b"\0\1\2",
        "autotune model train": b"{}\n",
        "version 99 of the format, this autotune reads 1": _line({**header, "version": 99}),
        "its header is damaged": _line({**header, "features": None}) + trees,
        "its trees are not those that were written": line + b"\n" + trees[:-20],
        "1 names": _line({**header, "features": ["one"]}) + trees,
    }
    for message, data in damaged.items():
        path = tmp_path / "bad.ubj"
        path.write_bytes(data)
        done = run("model", "info", str(path))
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1


def test_a_line_that_is_no_record_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"format":"autotune-records","version":1}\n{}\n')
    done = run("model", "evaluate", str(path))
    assert done.code == 2 and "bad.jsonl, line 2" in done.err


def _line(header: dict[str, object]) -> bytes:
    return json.dumps(header).encode() + b"\n"
