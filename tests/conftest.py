"""What every test may use."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# This directory is on the path, and `tests/search_spaces` must not pass for the package.
sys.path.insert(0, str(Path(__file__).parents[1]))

# Of jobs in the background shells have it ignored, and children inherit that; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="Rewrite kept texts, then read the difference."
    )


@pytest.fixture
def assert_golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`assert_golden(path, text)`: the text equals the kept file, or replaces it if asked to."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.write_text(text)
        assert path.exists(), f"no {path.name} kept yet: run with --update-golden"
        assert text == path.read_text(), f"{path.name} differs: see --update-golden"

    return check
