"""Arrays that results are copied into."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from autotune.backends.cuda.driver import Session
from autotune.backends.cuda.host_arrays import HostArrays
from autotune.testing.fake_cuda import FakeCuda

LARGE = (1 << 10, 1 << 10)
FLOAT = np.dtype(np.float32)


@pytest.fixture
def session(fake: FakeCuda) -> Session:
    return Session(0)


@pytest.fixture
def arrays(session: Session) -> HostArrays:
    return HostArrays(session)


def address(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> int:
    return int(array.ctypes.data)


def locked(fake: FakeCuda) -> list[tuple[int, int]]:
    """Address and size of what is locked now."""
    sizes: dict[int, int] = {}
    for name, arguments in fake.library.calls:
        if name == "cuMemHostRegister_v2":
            sizes[arguments[0].value] = arguments[1].value
        elif name == "cuMemHostUnregister":
            del sizes[arguments[0].value]
    return list(sizes.items())


def test_an_array_is_locked_and_can_be_written(fake: FakeCuda, arrays: HostArrays) -> None:
    array = arrays.empty(LARGE, FLOAT)
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (LARGE, FLOAT, True)
    array[:] = 3.0
    assert float(array.sum()) == 3.0 * array.size
    assert locked(fake) == [(address(array), array.nbytes)]


def test_memory_is_lent_again_only_when_no_view_of_it_is_left(arrays: HostArrays) -> None:
    first = arrays.empty(LARGE, FLOAT)
    first[:] = 1.0
    place, view = address(first), first.reshape(-1).view(np.uint32)[5:]
    del first
    gc.collect()
    second = arrays.empty(LARGE, FLOAT)
    second[:] = 2.0
    assert address(second) != place
    assert set(view.tolist()) == {0x3F800000}
    del view
    gc.collect()
    assert address(arrays.empty(LARGE, FLOAT)) == place


def test_smaller_arrays_take_what_is_there_and_larger_ones_replace_it(
    fake: FakeCuda, arrays: HostArrays
) -> None:
    place = address(arrays.empty(LARGE, FLOAT))
    assert address(arrays.empty((1 << 9, 1 << 10), FLOAT)) == place
    larger = arrays.empty((1 << 11, 1 << 10), FLOAT)
    assert locked(fake) == [(address(larger), larger.nbytes)]


def test_small_arrays_are_ordinary(fake: FakeCuda, arrays: HostArrays) -> None:
    assert arrays.empty((3, 4), FLOAT).shape == (3, 4)
    assert locked(fake) == []


def test_what_the_system_does_not_lock_serves_as_well(fake: FakeCuda, arrays: HostArrays) -> None:
    fake.library.failing["cuMemHostRegister_v2"] = 304
    array = arrays.empty(LARGE, FLOAT)
    array[:] = 1.0
    place = address(array)
    del array
    gc.collect()
    assert address(arrays.empty(LARGE, FLOAT)) == place


def test_closing_unlocks_everything_and_leaves_what_is_lent(
    fake: FakeCuda, session: Session, arrays: HostArrays
) -> None:
    kept = arrays.empty(LARGE, FLOAT)
    kept[:] = 5.0
    del_me = arrays.empty(LARGE, FLOAT)
    del del_me
    session.close()
    assert locked(fake) == []
    assert float(kept.max()) == 5.0
    del kept
    gc.collect()
    arrays.release()
    assert locked(fake) == []
