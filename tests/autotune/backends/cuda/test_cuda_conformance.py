"""The conformance kit on a fake device with real binaries, and on real devices where they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from autotune import backends
from autotune.backends.base import Backend
from autotune.testing import devices
from autotune.testing.backend import BackendConformance
from autotune.testing.fake_cuda import FakeCuda

pytest.importorskip("cuda.bindings.nvrtc")


class TestFake(BackendConformance):
    @pytest.fixture
    def open_backend(self, fake: FakeCuda) -> Callable[[], Backend]:
        return lambda: backends.load("cuda").open("cuda:0")

    def test_closing_frees_all_memory_and_the_context(
        self, fake: FakeCuda, backend: Backend
    ) -> None:
        self.test_launches_run_in_order_over_shared_scratch(backend, np.ones(997, np.float32))
        self.test_a_launcher_takes_numpy_and_gives_new_numpy(backend, np.ones(997, np.float32))
        backend.close()
        assert not fake.allocations
        assert fake.contexts == 0 and not fake.library.stack


class TestReal(BackendConformance):
    @pytest.fixture(params=devices.names("cuda"))
    def open_backend(self, request: pytest.FixtureRequest) -> Callable[[], Backend]:
        return lambda: backends.load("cuda").open(request.param)
