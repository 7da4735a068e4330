"""Inputs that are copied to the device once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune.backends.cuda import uploads as uploads_module
from autotune.backends.cuda.driver import Session
from autotune.backends.cuda.memory import CudaMemory
from autotune.backends.cuda.uploads import Uploads
from autotune.testing.fake_cuda import FakeCuda

Array = npt.NDArray[Any]
LARGE = 1 << 21  # bytes


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """The arrays that count as inputs of a problem."""
    arrays: list[Array] = []
    known = lambda array: any(array is each for each in arrays)  # noqa: E731
    monkeypatch.setattr(uploads_module, "is_kept_input", known)
    return arrays


@pytest.fixture
def session(fake: FakeCuda) -> Session:
    return Session(0)


@pytest.fixture
def uploads(session: Session) -> Uploads:
    return Uploads(session)


def array(fill: int, size: int = LARGE) -> Array:
    return np.full(size, fill, np.uint8)


def written(fake: FakeCuda, session: Session, uploads: Uploads, data: Array) -> int:
    """Bytes that went from the host for one more copy on the device, which must be right."""
    before = fake.uploaded_bytes
    memory = CudaMemory(session, data.nbytes + 512, uploaded=uploads)
    memory.write(256, data)
    copied = np.empty_like(data)
    memory.read(256, copied)
    assert np.array_equal(copied, data)
    memory.release()
    return fake.uploaded_bytes - before


def test_an_input_of_a_problem_comes_from_the_host_once(
    fake: FakeCuda, session: Session, uploads: Uploads, constant: list[Array]
) -> None:
    constant += [array(1), array(2)]
    moved = [written(fake, session, uploads, each) for each in constant * 3]
    assert moved == [LARGE, LARGE, 0, 0, 0, 0]


def test_other_arrays_and_small_ones_always_do(
    fake: FakeCuda, session: Session, uploads: Uploads, constant: list[Array]
) -> None:
    constant.append(array(1, size=100))
    for data in (array(1), constant[0]):
        assert [written(fake, session, uploads, data) for _ in range(2)] == [data.nbytes] * 2


def test_a_copy_cannot_spoil_the_next_one(
    fake: FakeCuda, session: Session, uploads: Uploads, constant: list[Array]
) -> None:
    constant.append(array(1))
    memory = CudaMemory(session, LARGE, uploaded=uploads)
    memory.write(0, constant[0])
    memory.fill(0, LARGE, 0xFF)
    assert written(fake, session, uploads, constant[0]) == 0


def test_at_most_an_eighth_of_the_memory_is_taken(
    fake: FakeCuda, session: Session, constant: list[Array]
) -> None:
    fake.free_bytes = 16 * LARGE
    uploads = Uploads(session)  # room for two
    constant += [array(1), array(2), array(3)]
    for each in constant:
        written(fake, session, uploads, each)
    assert len(fake.allocations) == 2
    assert [written(fake, session, uploads, each) for each in constant] == [LARGE] * 3
    assert written(fake, session, uploads, constant[2]) == 0
    constant.append(array(4, size=3 * LARGE))
    assert written(fake, session, uploads, constant[3]) == 3 * LARGE
    assert written(fake, session, uploads, constant[2]) == 0


def test_what_is_gone_from_the_host_makes_room_and_is_never_mistaken(
    fake: FakeCuda, session: Session, uploads: Uploads, constant: list[Array]
) -> None:
    constant.append(array(1))
    written(fake, session, uploads, constant[0])
    for fill in range(2, 6):  # arrays that may get the identity of the one before
        constant.clear()
        constant.append(array(fill))
        written(fake, session, uploads, constant[0])
    assert len(fake.allocations) <= 2


def test_where_the_device_has_no_memory_the_host_copies(
    fake: FakeCuda, session: Session, uploads: Uploads, constant: list[Array]
) -> None:
    constant.append(array(1))
    memory = CudaMemory(session, LARGE, uploaded=uploads)
    fake.free_bytes = 0
    memory.write(0, constant[0])
    copied = np.empty(LARGE, np.uint8)
    memory.read(0, copied)
    assert np.array_equal(copied, constant[0])


def test_closing_frees_them(
    fake: FakeCuda, session: Session, uploads: Uploads, constant: list[Array]
) -> None:
    constant.append(array(1))
    written(fake, session, uploads, constant[0])
    session.close()
    assert not fake.allocations
