"""What the tests of the command line type, and what they get."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from autotune.cli import main

ROOT = Path(__file__).parents[3]
SIZES = ("-m", "16", "-n", "16", "-k", "16")
STEADY = ("matmul", *SIZES, "--device", "sim:steady")
TRIALS = 4

_WITH_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
_MAIN = "from autotune.cli import main; main()"


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and its text on stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run: TypeAlias = Callable[..., Outcome]


def exit_code(*words: str) -> int:
    """Of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def start(*words: str, **streams: Any) -> subprocess.Popen[str]:
    """A command in a process of its own, to which Ctrl-C means something."""
    return subprocess.Popen(
        [sys.executable, "-c", _WITH_CTRL_C + _MAIN, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"},
        text=True,
        **streams,
    )


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, for this process alone."""
    process.send_signal(signal.SIGINT)
