"""Bad input and missing things: one clear line on stderr, exit code 2, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import SIZES, STEADY, Run

WRONG = {
    "zero size": (("-m", "0"), "whole number from 1"),
    "negative size": (("-m", "-5"), "whole number from 1"),
    "no number": (("-m", "x"), "not a valid integer"),
    "huge size": (("-m", "10000000", "-n", "10000000"), "cut the product"),
    "beyond memory": (("-m", "100000", "-n", "100000"), "choose smaller sizes"),
    "dtype": (("--dtype", "float33"), "float32"),
    "accumulate": (("--dtype", "float64", "--accumulate", "float16"), "accumulate"),
    "layout": (("--layout", "xx"), "'nt'"),
    "epilogue": (("--epilogue", "bias,foo"), "gelu_tanh"),
    "strategy": (("--strategy", "foo"), "'evolutionary'"),
    "model": (("--model", "foo"), "'random-forest', 'none'"),
    "simulated device": (("--device", "sim:foo"), "there are"),
    "backend": (("--device", "foo"), "there are"),
    "trials": (("--trials", "0"), "x>=1"),
    "seed": (("--seed", "-1"), "x>=0"),
    "no duration": (("--time-limit", "banana"), "write 90s, 3m or 1h"),
    "no time": (("--time-limit", "0"), "write 90s, 3m or 1h"),
    "directory as database": (("--db", "."), "this is a directory"),
    "no directory": (("--db", "nowhere/a.db"), "mkdir -p nowhere"),
    "option": (("--trails", "3"), "--trials"),
}


@pytest.mark.parametrize("words, says", WRONG.values(), ids=WRONG)
def test_tune_refuses(run: Run, words: tuple[str, ...], says: str) -> None:
    outcome = run("tune", *STEADY, "--trials", "1", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("autotune: ")


COMMANDS = {
    "command": (("foo",), "no command 'foo'; there are: bench, best"),
    "op": (("tune", "foo"), "no op 'foo'; there are: attention, matmul"),
    "db command": (("db", "foo"), "no command 'foo'; there are: check, export"),
    "missing size": (("tune", "matmul", "-m", "3"), "see: autotune tune matmul --help"),
    "missing output": (("build",), "--output"),
    "knobs": (("space", *STEADY, "--why", "block_m"), "write knob=value"),
    "knob": (("space", *STEADY, "--why", "foo=1"), "portable: block_m"),
    "template": (("space", *STEADY, "--template", "foo"), "there are: cpu, portable"),
    "space beyond memory": (
        ("space", *STEADY, "-m", "100000", "-n", "100000"),
        "choose smaller sizes",
    ),
    "no file to import": (("db", "import", "nothing.jsonl"), "nothing.jsonl"),
}


@pytest.mark.parametrize("words, says", COMMANDS.values(), ids=COMMANDS)
def test_other_commands_refuse(run: Run, words: tuple[str, ...], says: str) -> None:
    outcome = run(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("best", *STEADY),
        ("bench", *STEADY),
        ("build", "--device", "sim:steady", "-o", "out"),
        ("db", "info"),
        ("db", "check"),
        ("db", "export", "-"),
    ],
    ids=" ".join,
)
def test_a_database_that_is_not_there(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "tuning.db: no such file; `autotune tune` makes one" in outcome.err
    assert not (tmp_path / "tuning.db").exists()


@pytest.mark.parametrize("words", [("tune", *STEADY), ("best", *STEADY), ("db", "info")])
def test_a_file_that_is_no_database(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "tuning.db").write_bytes(b"certainly no database, but some text " * 9)
    outcome = run(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "not an SQLite database; name another file" in outcome.err


def test_best_of_what_was_never_tuned_says_how_to_tune_it(run: Run, tuned: Path) -> None:
    outcome = run("best", *STEADY, "-m", "48")
    assert outcome.code == 2
    assert "never tuned" in outcome.err
    assert "-m 48" in outcome.err.splitlines()[-1]
    assert "--device sim:steady" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize("words", [(), ("tune",), ("db",)])
def test_a_group_alone_shows_its_help(run: Run, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert "Usage: autotune" in outcome.out + outcome.err
    assert "Commands:" in outcome.out + outcome.err


def test_a_device_that_cannot_be_used_says_why(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from autotune.backends import cuda
    from autotune.backends.base import DeviceInfo

    reason = 'no driver [none]: pip install "autotune-kernels[cuda]"'
    monkeypatch.setattr(cuda, "list_devices", lambda: [DeviceInfo("cuda:0", "cuda", "X", reason)])
    outcome = run("tune", "matmul", *SIZES, "--device", "cuda:0")
    assert (outcome.code, outcome.err) == (
        2,
        f"autotune: cuda:0 cannot be used: cuda:0: {reason}\n",
    )
