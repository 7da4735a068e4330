"""Work on parts of large arrays, in threads: numpy lets go of the interpreter's lock meanwhile."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def in_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """`work` of each part, in their order; the first error of them is raised.

    The threads end with the call: none is left that might take a core from a measurement.
    """
    threads = min(cores(), len(parts))
    if threads <= 1:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads, thread_name_prefix="autotune-arrays") as pool:
        return list(pool.map(work, parts))


@contextlib.contextmanager
def single_threaded_products() -> Iterator[None]:
    """Inside, a product of matrices takes one core; for `in_threads` around many small products.

    A BLAS lets only one of several threads have its own threads, and the others wait.
    """
    if importlib.util.find_spec("threadpoolctl") is None:
        yield
        return
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


def slices(count: int, step: int) -> list[slice]:
    """`range(count)` in parts of `step`, the last one shorter."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
