from __future__ import annotations

from collections.abc import Callable

import pytest

from autotune import backends
from autotune.backends.base import Backend
from autotune.testing import devices
from autotune.testing.backend import BackendConformance


class TestOpenCL(BackendConformance):
    @pytest.fixture(params=devices.names("opencl"))
    def open_backend(self, request: pytest.FixtureRequest) -> Callable[[], Backend]:
        return lambda: backends.load("opencl").open(request.param)
