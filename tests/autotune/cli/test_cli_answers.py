"""What `best`, `bench`, `build`, `db`, `devices` and `space` answer, to people and programs."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import SIZES, STEADY, Run, start

from autotune import benchmark, device_names, peaks
from autotune.backends.base import DeviceInfo
from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Standing
from autotune.peaks import Peaks
from records import Kind, Measurement, Schedule, Status, Target, TuningRecord, Workload
from records.errors import DeviceError
from records.store import TuningDatabase


def test_best(run: Run, tuned: Path) -> None:
    outcome = run("best", *STEADY)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("matmul 16×16×16 float32 on sim:steady\n")
    assert "raced against other finalists" in outcome.out
    assert "block_m=16" in outcome.out


def test_best_for_programs(run: Run, tuned: Path) -> None:
    first = run("best", *STEADY, "--json").json
    ranked = run("best", *STEADY, "--json", "--top", "3").json
    assert first == ranked[0]
    assert len(ranked) == 3
    assert [each["time_s"] for each in ranked] == sorted(each["time_s"] for each in ranked)
    assert len(run("best", *STEADY, "--top", "3").out.splitlines()) == 5
    assert first["schedule"]["knobs"]["block_m"] == 16


@pytest.mark.parametrize(("time_s", "wins"), [(1e-9, True), (1.0, False)])
def test_best_says_where_the_library_wins(run: Run, tuned: Path, time_s: float, wins: bool) -> None:
    with TuningDatabase(tuned) as store:
        known = next(store.records())
        library = replace(
            known,
            schedule=Schedule.of("cublaslt", 1, {}),
            measurement=Measurement.ok((time_s,)),
            kind=Kind.LIBRARY,
        )
        store.add(library)
    plain, either = run("best", *STEADY).out, run("best", *STEADY, "--libraries").out
    assert "block_m=16" in plain and "cublaslt" in plain
    assert ("the library wins here" in plain) == wins
    assert ("block_m=16" in either) == (not wins)
    found = run("best", *STEADY, "--libraries", "--json").json
    assert (found["kind"] == "library") == wins
    assert (found["schedule"]["template"] == "cublaslt") == wins


def test_bench_without_rivals_says_why(run: Run, tuned: Path) -> None:
    outcome = run("bench", *STEADY, "--rounds", "1")
    assert (outcome.code, outcome.err) == (0, "")
    assert "numpy computes on the host's CPU only" in outcome.out
    assert "not compared" in outcome.out


def test_bench_against_a_library(run: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TuningDatabase(tuned) as store:
        record = next(store.records())
    rival = Standing("numpy", (2e-3,), details={"architecture": "SkylakeX"})
    found = BenchResult(
        record.workload,
        record.target,
        record,
        Standing("autotune", (1e-3,)),
        ((rival, Ratio(2.0, 0.01)),),
        (("torch", "PyTorch is not installed: pip install torch"),),
    )
    monkeypatch.setattr(benchmark, "bench", lambda *args, **options: found)
    out = run("bench", *STEADY).out
    assert "2.000 ± 0.020 times as fast" in out
    assert "architecture SkylakeX" in out
    answer = run("bench", *STEADY, "--json").json
    assert answer["rivals"][0]["ratio"] == 2.0
    assert answer["rivals"][0]["ratio_interval"] == 0.01
    assert answer["ours"]["time_s"] == 1e-3
    assert answer["absent"] == {"torch": "PyTorch is not installed: pip install torch"}


def test_build(run: Run, tuned: Path) -> None:
    outcome = run("build", "--device", "sim:steady", "-o", "kernels")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("1 kernel for sim:steady in kernels\n")
    assert Path("kernels/manifest.json").exists()
    answer = run("build", "--device", "sim:steady", "-o", "kernels", "--locked", "--json").json
    assert Path("kernels", f"{answer['kernels'][0]}.cl").exists()
    assert answer["warnings"] == []


def test_the_results_of_another_machine(run: Run, tuned: Path) -> None:
    """A device that only the database knows, by a part of its name; one that nobody knows."""
    elsewhere = Target.of("opencl", "Far [away] GPU 7", "x", {"kind": "gpu", "max_group": 256})
    with TuningDatabase(tuned) as store:
        known = next(store.records())
        store.add(replace(known, target=elsewhere))
    words = ("best", "matmul", *SIZES, "--json", "--device")
    answer = run(*words, "opencl:far [away]").json
    assert answer["target"]["device"] == "Far [away] GPU 7"
    built = run("build", "--device", "opencl:gpu 7", "-o", "kernels")
    assert built.out.startswith("1 kernel for opencl:Far [away] GPU 7 in kernels\n")
    nobody = run(*words, "opencl:gpu 8")
    assert (nobody.code, nobody.out) == (2, "")
    assert "knows: sim:steady, opencl:Far [away] GPU 7" in nobody.err


# space


def test_space(run: Run) -> None:
    outcome = run("space", *STEADY)
    assert (outcome.code, outcome.err) == (0, "")
    assert "template cpu: not here: made for CPUs" in outcome.out
    assert "template portable: " in outcome.out
    assert "of a work-group" in outcome.out
    answer = run("space", *STEADY, "--json", "--template", "portable").json
    (portable,) = answer["templates"]
    assert f"{portable['size']:,} schedules of {portable['product']:,}" in outcome.out
    for constraint in portable["constraints"]:
        assert 0 <= constraint["only_it_removes"] <= constraint["removes"] <= portable["product"]
        assert (constraint["reason"] in outcome.out) == (constraint["removes"] > 0)


def test_why_a_schedule_is_refused(run: Run) -> None:
    broken = "block_m=16,block_n=16,thread_m=1,thread_n=1,vector_tile=4"
    outcome = run("space", *STEADY, "--why", broken)
    assert outcome.code == 1
    assert outcome.out.startswith("portable: not legal\n  - ")
    assert "whole vectors of 4; it owns only 1" in outcome.out
    (answer,) = run("space", *STEADY, "--why", broken, "--json").json["templates"]
    assert not answer["legal"]
    assert [f"  - {reason}" for reason in answer["reasons"]] == outcome.out.splitlines()[1:]


def test_why_reads_values_as_people_write_them(run: Run) -> None:
    outcome = run("space", *STEADY, "--why", " prefetch=FALSE, stages = 1 ")
    assert (outcome.code, outcome.out) == (0, "portable: legal\n")
    wrong = run("space", *STEADY, "--why", "prefetch=maybe")
    assert wrong.code == 1
    assert "prefetch=maybe is not legal; legal values: False, True" in wrong.out


# db


def test_info(run: Run, tuned: Path) -> None:
    _fail(tuned, Status.COMPILE_ERROR, "line 7: expected [/b] ';'\nmore")
    _fail(tuned, Status.COMPILE_ERROR, "line 12: expected [/b] ';'\nother")
    outcome = run("db", "info")
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["2", "compile_error"] in rows
    assert ["2", "compile_error", "line", "7:", "expected", "[/b]", "';'"] in rows
    assert any(row[:4] == ["matmul", "16×16×16", "float32", "sim:steady"] for row in rows)
    answer = run("db", "info", "--json").json
    assert answer["failures"] == [
        {"status": "compile_error", "reason": "line 7: expected [/b] ';'", "trials": 2}
    ]
    assert answer["pairs"][0]["best"]["schedule"]["template"] == "portable"


def test_info_of_what_it_does_not_know(run: Run, tuned: Path) -> None:
    """Records of an op of somebody else's, and of a matmul in another form."""
    target = Target.of("opencl", "Odd [bold] device", "x", {})
    for workload in (Workload.of("conv", {"c": 3}), Workload.of("matmul", {"rows": 3})):
        with TuningDatabase(tuned) as store:
            measurement = Measurement.ok((1e-3,), environment={})
            schedule = Schedule.of("t", 1, {})
            store.add(TuningRecord(workload, target, schedule, measurement, "2026-01-01T00:00:00"))
    outcome = run("db", "info")
    assert outcome.code == 0
    assert "conv(c=3)" in outcome.out
    assert "matmul(rows=3)" in outcome.out
    assert "opencl:Odd [bold] device" in outcome.out


def test_info_of_an_empty_database(run: Run, tmp_path: Path) -> None:
    TuningDatabase(tmp_path / "tuning.db").close()
    assert run("db", "info").code == 0


def test_check(run: Run, tuned: Path) -> None:
    sound = run("db", "check")
    assert (sound.code, sound.out) == (0, "tuning.db: sound\n")
    assert run("db", "check", "--json").json == {"path": "tuning.db", "problems": []}
    tuned.write_bytes(tuned.read_bytes()[:20_000])
    damaged = run("db", "check")
    assert (damaged.code, damaged.err) == (1, "")
    assert "the file is damaged" in damaged.out


def test_export_and_import(run: Run, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_file = run("db", "export", "log.jsonl")
    to_stdout = run("db", "export", "-")
    assert (to_file.code, to_stdout.code) == (0, 0)
    text = Path("log.jsonl").read_text()
    assert to_stdout.out == text
    count = len(text.splitlines()) - 1
    assert to_file.out == f"{count} records written to log.jsonl\n"
    assert not Path("-").exists()
    added = run("db", "import", "log.jsonl", "--db", "other.db")
    assert added.out == f"{count} records added, 0 there before\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    again = run("db", "import", "-", "--db", "other.db", "--json")
    assert again.json == {"added": 0, "skipped": count}


def test_a_reader_that_goes_away_is_no_failure(tuned: Path) -> None:
    process = start("db", "export", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=20) == 0


# devices


USABLE = DeviceInfo(
    "opencl:0:0",
    "opencl",
    "A [red]fast[/red] device (some [platform])",
    "",
    Target.of("opencl", "fast", "x86", {"units": 4, "memory_bytes": 2 << 30}),
    "1.2",
)
UNUSABLE = DeviceInfo("cuda", "cuda", "NVIDIA GPUs", 'pip install "autotune-kernels[cuda]"')


def _listing(monkeypatch: pytest.MonkeyPatch, infos: Sequence[DeviceInfo]) -> None:
    monkeypatch.setattr(device_names, "list_devices", lambda all: list(infos))
    monkeypatch.setattr(peaks, "known", lambda name: None)
    monkeypatch.setattr(peaks, "probe", lambda name, again: Peaks(5e10, {"float32": 2e11}))


def test_devices(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _listing(monkeypatch, [USABLE, UNUSABLE])
    out = run("devices").out
    assert "A [red]fast[/red] device (some [platform])" in out
    assert 'pip install "autotune-kernels[cuda]"' in out
    assert "50.0 GB/s, read plus written" in out
    assert "2 GiB" in out
    assert "not told" in out
    assert "GB/s" not in run("devices", "--no-probe").out


def test_devices_for_programs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _listing(monkeypatch, [USABLE, UNUSABLE])
    usable, unusable = run("devices", "--json").json
    assert set(usable) == set(unusable)
    assert usable["peaks"] == {"copy_bytes_per_s": 5e10, "flops_per_s": {"float32": 2e11}}
    assert usable["target"]["limits"]["units"] == 4
    assert (unusable["usable"], unusable["target"], unusable["peaks"]) == (False, None, None)
    assert unusable["problem"] == 'pip install "autotune-kernels[cuda]"'


def test_peaks_that_are_known_are_measured_again_only_on_demand(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _listing(monkeypatch, [USABLE])
    monkeypatch.setattr(peaks, "known", lambda name: Peaks(1e10, {}))
    assert "10.0 GB/s" in run("devices").out
    assert "50.0 GB/s" in run("devices", "--refresh").out
    refused = run("devices", "--refresh", "--no-probe")
    assert refused.code == 2 and "choose one" in refused.err


def test_a_probe_that_fails_does_not_hide_the_devices(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(name: str, again: bool) -> Peaks:
        raise DeviceError("the device was lost")

    _listing(monkeypatch, [USABLE])
    monkeypatch.setattr(peaks, "probe", lost)
    outcome = run("devices")
    assert outcome.code == 0
    assert "not measured: the device was lost" in outcome.out
    assert run("devices", "--json").json[0]["peaks_problem"] == "the device was lost"


def test_no_usable_device_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _listing(monkeypatch, [UNUSABLE])
    assert 'For the CPU: pip install "autotune-kernels[cpu]"' in run("devices").out


def test_real_and_simulated_devices(run: Run) -> None:
    rows = {row["name"]: row for row in run("devices", "--all", "--no-probe", "--json").json}
    assert rows["sim:steady"]["usable"]
    assert any(name.startswith("cuda") for name in rows)


def test_other_layouts_and_types_reach_the_workload(run: Run) -> None:
    words = ("--batch", "2", "--dtype", "float16", "--layout", "tn", "--epilogue", "bias, gelu")
    answer = run("space", *STEADY, *words, "--json").json["workload"]["params"]
    assert answer["batch"] == 2
    assert (answer["dtype"], answer["accumulate"]) == ("float16", "float32")
    assert (answer["layout"], answer["epilogue"]) == ("tn", ["bias", "gelu"])
    title = run("space", *STEADY, *words).out.splitlines()[0]
    assert title == "matmul 16×16×16 float16 batch 2 +bias+gelu tn on sim:steady"


def _fail(path: Path, status: Status, error: str) -> None:
    with TuningDatabase(path) as store:
        known = next(store.records())
        schedule = Schedule.of("portable", 1, {"of": error})
        failed = Measurement.failed(status, error, environment={})
        store.add(
            TuningRecord(known.workload, known.target, schedule, failed, "2026-01-01T00:00:00.000")
        )
