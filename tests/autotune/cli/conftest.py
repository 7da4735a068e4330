"""The command line in this process, and a database to ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import STEADY, TRIALS, Outcome, Run, exit_code


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("best", "matmul", …)`: a command, in a directory of its own."""

    def command(*words: str) -> Outcome:
        capsys.readouterr()
        code = exit_code(*words)
        return Outcome(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def tuned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "tuning.db"
    words = ("tune", *STEADY, "--trials", str(TRIALS), "--model", "none", "--db", str(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path.parent))
        assert exit_code(*words) == 0
    return path


@pytest.fixture
def tuned(tuned_once: Path, tmp_path: Path) -> Path:
    """A copy of a database in which `STEADY` was tuned with `TRIALS` trials."""
    path = tmp_path / "tuning.db"
    path.write_bytes(tuned_once.read_bytes())
    return path
