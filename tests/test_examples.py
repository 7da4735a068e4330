"""The examples do what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from scripts import script

import autotune
from autotune.testing import devices
from autotune.testing.template import TemplateConformance
from records import Status, Target, Workload
from records.store import TuningDatabase
from search_spaces import registry
from search_spaces.template import Template

EXAMPLES = Path(__file__).parents[1] / "examples"
MISTAKES = {
    "hang": (Status.TIMEOUT, "took longer than 2 s"),
    "crash": (Status.CRASHED, "SIGSEGV"),
    "wrong": (Status.WRONG_RESULT, "elements are off"),
}


own_template = script(EXAMPLES / "own_template.py")


class TestOwnTemplate(TemplateConformance):
    @pytest.fixture
    def template(self) -> Template:
        rows: Template = own_template.Rows()
        return rows

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return [autotune.matmul(m=m, n=n, k=k) for m, n, k in ((64, 64, 64), (7, 24, 5), (1, 1, 1))]

    @pytest.fixture
    def target(self) -> Target:
        limits = {"kind": "cpu", "dtypes": ("float32",), "max_group": 64}
        return Target.of("opencl", "example", "x86-64", limits)


@pytest.mark.skipif(not devices.names("opencl"), reason="no OpenCL device")
def test_an_own_templates_mistakes_are_rows_and_its_good_schedules_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_TEMPLATES", list(registry._TEMPLATES))
    own_template.main()
    printed = capsys.readouterr().out
    workload = autotune.matmul(m=64, n=64, k=64)
    with TuningDatabase(tmp_path / "own_template.db") as database:
        [target] = database.targets()
        failed = {
            record.schedule["mistake"]: record.measurement
            for record in database.records(workload, target)
            if not record.measurement.is_ok
        }
        best = database.best(workload, target)
    assert failed.keys() == MISTAKES.keys()
    for mistake, (status, words) in MISTAKES.items():
        assert failed[mistake].status is status
        assert words in failed[mistake].error
        assert f"{mistake}: {status}" in printed
    assert (best.schedule.template, best.schedule["mistake"]) == ("rows", "none")
    assert str(best.schedule) in printed
