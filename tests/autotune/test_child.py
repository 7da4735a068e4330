from __future__ import annotations

import time
from pathlib import Path

import pytest

from autotune import child
from records.errors import DeviceError

MODULE = """
import os, signal, time

def add(a, b):
    print("a driver's chatter")
    return {"sum": a + b}

def refuse():
    raise RuntimeError("no such device")

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def hang():
    time.sleep(60)

def leave():
    os._exit(0)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asked.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_the_answer_comes_back_whatever_else_is_printed() -> None:
    assert child.ask("asked:add", 2, 3, timeout_s=30) == {"sum": 5}


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("refuse", "no such device"),
        ("crash", "SIGSEGV"),
        ("leave", "exit status 0"),
    ],
)
def test_a_failure_is_a_device_error_with_its_reason(function: str, reason: str) -> None:
    with pytest.raises(DeviceError, match=reason):
        child.ask(f"asked:{function}", timeout_s=30)


def test_a_hang_is_killed() -> None:
    start_s = time.monotonic()
    with pytest.raises(DeviceError, match="within 0.5 s"):
        child.ask("asked:hang", timeout_s=0.5)
    assert time.monotonic() - start_s < 30
