"""Ctrl-C: once to end with what was found, twice to end at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from autotune.cli import EXIT_INTERRUPTED

_SHOW_CURSOR = "\x1b[?25h"  # a live view hides it


@contextmanager
def second_ends_at_once() -> Iterator[None]:
    """The first SIGINT inside raises `KeyboardInterrupt`, the second ends the process.

    What it leaves is sound: worker processes die with their parent, and a database transaction
    under way is rolled back. Nothing changes where SIGINT is ignored, as by `nohup`.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _first(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _second)
    raise KeyboardInterrupt


def _second(number: int, frame: FrameType | None) -> None:
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), f"{_SHOW_CURSOR}\n".encode())
    os._exit(EXIT_INTERRUPTED)
