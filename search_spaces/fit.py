"""Does a workload fit a target's memory at all? Asked before anything is allocated."""

from __future__ import annotations

from records.errors import InvalidInputError
from records.target import Target
from records.workload import Workload
from search_spaces import registry


def check_fits(workload: Workload, target: Target) -> None:
    """Raise `InvalidInputError` where an array, or all together, exceed the target's memory.

    A limit that the target does not tell is not checked.
    """
    arrays = registry.op(workload.op).arrays(workload)
    largest = max(arrays, key=lambda array: array.size_bytes)
    _check(f"array {largest.name!r} of {workload}", largest.size_bytes, target, "max_buffer_bytes")
    total_bytes = sum(array.size_bytes for array in arrays)
    _check(f"the arrays of {workload}", total_bytes, target, "memory_bytes")


_MEANINGS = {
    "max_buffer_bytes": "for a single buffer",
    "memory_bytes": "of memory in all",
}


def _check(what: str, needed_bytes: int, target: Target, limit: str) -> None:
    limit_bytes = target.limit(limit, None)
    if limit_bytes is not None and needed_bytes > limit_bytes:
        raise InvalidInputError(
            f"{what}: {needed_bytes} bytes ({_gib(needed_bytes)}) needed, but {target} has "
            f"{limit_bytes} bytes ({_gib(limit_bytes)}) {_MEANINGS[limit]}; "
            "choose smaller sizes, a narrower dtype or another device"
        )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
