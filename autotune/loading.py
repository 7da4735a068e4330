"""`autotune.load`: a winner of the database as a function."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from autotune.backends.base import Backend, Launcher
from autotune.codegen.winners import winner
from autotune.compile_cache import CompileCache
from autotune.tuned_kernel import TunedKernel
from records.errors import CompileError, DeviceError
from records.store import TuningDatabase
from records.workload import Workload
from search_spaces.kernel import KernelSource


def load(
    workload: Workload,
    *,
    device: str | None = None,
    database: str | os.PathLike[str] = "tuning.db",
) -> TunedKernel:
    """The fastest kernel that `database` has for `workload` on `device`, compiled and callable.

    `device` is named as on the command line; the default is the fastest usable one. Compiled
    kernels are kept between runs (`autotune.compile_cache`).

    Raises `NotTunedError` where there is no winner, `InvalidInputError` where the templates of
    its records are gone or have changed, `CompileError` and `DeviceError` as the device does.
    """
    from autotune.device_names import open_backend, resolve

    info = resolve(device)
    assert info.target is not None, "resolve gives usable devices"
    with TuningDatabase(Path(database), read_only=True) as store:
        won = winner(store, workload, info.target)
    backend = open_backend(info.name)
    try:
        launcher = _launcher(backend, won.source, CompileCache())
        return TunedKernel(won.record, won.source, launcher, backend)
    except BaseException:
        with suppress(Exception):
            backend.close()
        raise


def _launcher(backend: Backend, source: KernelSource, cache: CompileCache) -> Launcher:
    """A driver may refuse a kept binary that its version should take: then compile afresh."""
    binary = cache.binary(backend, source)
    try:
        return backend.launcher(source, binary)
    except CompileError:
        raise
    except DeviceError:
        return backend.launcher(source, cache.binary(backend, source, fresh=True))
