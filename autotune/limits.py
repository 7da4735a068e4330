"""What a device cannot launch, known without compiling."""

from __future__ import annotations

import math

from records.target import Target
from search_spaces.kernel import KernelSource, Launch


def breaks_limits(source: KernelSource, target: Target) -> str:
    """`""`, or which limit of the target a kernel breaks; limits that it does not tell hold."""
    for launch in source.launches:
        reason = _launch_breaks(launch, target)
        if reason:
            return f"{launch.kernel}: {reason}"
    limit_bytes = target.limit("max_buffer_bytes")
    for name, size_bytes in _buffers(source):
        if limit_bytes and size_bytes > limit_bytes:
            return (
                f"{name}: needs {size_bytes} bytes; the device's largest buffer has {limit_bytes}"
            )
    return ""


def _launch_breaks(launch: Launch, target: Target) -> str:
    threads, max_threads = math.prod(launch.group_size), target.limit("max_group")
    if max_threads and threads > max_threads:
        return f"a work-group of {threads} work-items; the device takes at most {max_threads}"
    shared_bytes, max_bytes = launch.shared_bytes, target.limit("shared_bytes")
    if max_bytes and shared_bytes > max_bytes:
        return f"{shared_bytes} bytes of local memory; a work-group has at most {max_bytes}"
    return ""


def _buffers(source: KernelSource) -> list[tuple[str, int]]:
    arrays = [(array.name, array.size_bytes) for array in source.arrays]
    return arrays + [(scratch.name, scratch.bytes) for scratch in source.scratch]
