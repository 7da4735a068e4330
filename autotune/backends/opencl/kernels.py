"""The launches of a source, bound to a built program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autotune.backends.opencl.driver import cl, errors
from records.canonical import Value
from records.errors import DeviceError
from search_spaces.kernel import KernelSource, Launch


class Kernels:
    """One `cl.Kernel` a launch, so that each keeps its own arguments between runs."""

    def __init__(self, program: Any, device: Any, source: KernelSource) -> None:
        self._launches = source.launches
        self._device = device
        self._kernels = [_kernel(program, launch) for launch in source.launches]
        for kernel, launch in zip(self._kernels, self._launches, strict=True):
            self._check(kernel, launch)

    def bind(self, values: Mapping[str, Any]) -> None:
        """Give every launch its arguments: buffers, and scalars as numpy scalars."""
        for kernel, launch in zip(self._kernels, self._launches, strict=True):
            with errors(f"arguments of kernel {launch.kernel}"):
                kernel.set_args(*(values[name] for name in launch.arguments))

    def enqueue(self, queue: Any, wait_for: Sequence[Any] | None = None) -> list[Any]:
        """All launches, each after the one before; their events in order."""
        events: list[Any] = []
        for kernel, launch in zip(self._kernels, self._launches, strict=True):
            size = tuple(
                groups * items
                for groups, items in zip(launch.groups, launch.group_size, strict=True)
            )
            with errors(_described(launch)):
                event = cl.enqueue_nd_range_kernel(
                    queue, kernel, size, launch.group_size, wait_for=events[-1:] or wait_for
                )
            events.append(event)
        return events

    def refuse_failed(self, events: Sequence[Any]) -> None:
        """Raise `DeviceError` for a launch that was accepted and failed while it ran."""
        for event, launch in zip(events, self._launches, strict=True):
            status = int(event.command_execution_status)
            if status < 0:
                name = cl.status_code.to_string(status, "error %d")
                raise DeviceError(f"{_described(launch)}: {name}")

    @property
    def details(self) -> dict[str, Value]:
        """Local and private bytes of the kernel that uses most, where the driver tells."""
        info = cl.kernel_work_group_info
        details = {}
        for name, parameter in (
            ("local_bytes", info.LOCAL_MEM_SIZE),
            ("private_bytes", info.PRIVATE_MEM_SIZE),
        ):
            details[name] = max(self._info(kernel, parameter) for kernel in self._kernels)
        return {name: value for name, value in details.items() if value}

    def _check(self, kernel: Any, launch: Launch) -> None:
        """What every driver must refuse, but some (PoCL) answer by aborting the process."""
        if kernel.num_args != len(launch.arguments):
            raise DeviceError(
                f"kernel {launch.kernel} takes {kernel.num_args} arguments, "
                f"its launch gives {len(launch.arguments)}"
            )
        items = int(np.prod(launch.group_size))
        limit = self._info(kernel, cl.kernel_work_group_info.WORK_GROUP_SIZE)
        if limit and items > limit:
            raise DeviceError(
                f"{_described(launch)}: INVALID_WORK_GROUP_SIZE: the group has {items} "
                f"work-items, this kernel runs with at most {limit}"
            )
        local_bytes = self._info(kernel, cl.kernel_work_group_info.LOCAL_MEM_SIZE)
        if local_bytes > self._device.local_mem_size:
            raise DeviceError(
                f"{_described(launch)}: OUT_OF_RESOURCES: a group uses {local_bytes} bytes of "
                f"local memory, the device has {self._device.local_mem_size}"
            )

    def _info(self, kernel: Any, parameter: Any) -> int:
        try:
            return int(kernel.get_work_group_info(parameter, self._device))
        except cl.Error:
            return 0


def _kernel(program: Any, launch: Launch) -> Any:
    with errors(f"kernel {launch.kernel}"):
        return cl.Kernel(program, launch.kernel)


def _described(launch: Launch) -> str:
    groups = "x".join(map(str, launch.groups))
    group_size = "x".join(map(str, launch.group_size))
    return f"launch of {launch.kernel}, {groups} groups of {group_size} work-items"
