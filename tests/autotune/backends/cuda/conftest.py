"""A device that is none; `autotune.testing.fake_cuda` says what it does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autotune.testing import fake_cuda_kernels
from autotune.testing.fake_cuda import FakeCuda


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """Installed, and knowing the kernels of the conformance kit; contexts end in balance."""
    device = FakeCuda()
    device.install(monkeypatch)
    fake_cuda_kernels.install(device)
    yield device
    assert device.depth == 0, "a context was pushed and not popped"
