"""Find the fastest kernel for a computation on a device, and keep it.

    import autotune

    workload = autotune.matmul(m=1024, n=1024, k=1024)
    autotune.tune(workload, database="tuning.db", time_limit_s=180)
    kernel = autotune.load(workload, database="tuning.db")
    c = kernel(a, b)

Importing needs no device, and loads no driver, cost model or database until one is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.api import devices as devices
    from autotune.api import tune as tune
    from autotune.benchmark import bench as bench
    from autotune.codegen import build as build
    from autotune.loading import load as load
    from records.errors import AutotuneError as AutotuneError
    from records.store import TuningDatabase as TuningDatabase
    from search_spaces.attention.workload import attention as attention
    from search_spaces.matmul.workload import matmul as matmul
    from search_spaces.registry import register_template as register_template

_WHERE = {
    "AutotuneError": "records.errors",
    "TuningDatabase": "records.store",
    "attention": "search_spaces.attention.workload",
    "bench": "autotune.benchmark",
    "build": "autotune.codegen",
    "devices": "autotune.api",
    "load": "autotune.loading",
    "matmul": "search_spaces.matmul.workload",
    "register_template": "search_spaces.registry",
    "tune": "autotune.api",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
