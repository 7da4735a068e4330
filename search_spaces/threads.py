"""Work on parts of large arrays, in threads: numpy lets go of the interpreter's lock meanwhile."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

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
    controller = _libraries(len(sys.modules))
    if controller is None:
        yield
        return
    with controller.limit(limits=1, user_api="blas"):
        yield


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController | None:
    """The BLAS libraries that this process has loaded, or `None` where nobody can tell.

    To look through all loaded libraries takes a millisecond or two. They come with modules, so
    the answer holds while `modules`, the number of those imported, stays the same.
    """
    if importlib.util.find_spec("threadpoolctl") is None:
        return None
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def slices(count: int, step: int) -> list[slice]:
    """`range(count)` in parts of `step`, the last one shorter."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
