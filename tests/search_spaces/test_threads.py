"""Work on parts of arrays, in threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from search_spaces import threads
from search_spaces.threads import in_threads, slices


@pytest.mark.parametrize("cores", [1, 3])
def test_results_come_in_order_and_no_thread_stays(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: cores)
    before = threading.active_count()
    assert in_threads(lambda part: part * part, range(20)) == [part**2 for part in range(20)]
    assert in_threads(lambda part: part, []) == []
    assert threading.active_count() == before


@pytest.mark.parametrize("cores", [1, 3])
def test_the_first_error_is_raised(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: cores)
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda part: 1 // part, [2, 1, 0])


def test_parts_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    meeting = threading.Barrier(2, timeout=30)
    assert sorted(in_threads(lambda part: meeting.wait(), [0, 1])) == [0, 1]


def test_slices_cover_everything_once() -> None:
    assert slices(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert slices(0, 3) == []
    assert threads.cores() >= 1


LIBRARIES_LOADED_LATER = """
import numpy
from threadpoolctl import threadpool_info
from search_spaces.threads import single_threaded_products

def threads():
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

with single_threaded_products():
    pass
import scipy.linalg
before = threads()
with single_threaded_products():
    print(len(before) > 0, set(threads()), end=" ")
print(threads() == before)
"""


def test_products_take_one_thread_in_libraries_loaded_later_too() -> None:
    pytest.importorskip("threadpoolctl")
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    told = subprocess.run(
        [sys.executable, "-c", LIBRARIES_LOADED_LATER],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert told.stdout.split() == ["True", "{1}", "True"]
