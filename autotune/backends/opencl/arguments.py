"""Checks of what a user hands to a launcher that only OpenCL needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from autotune.backends.given import Given, checked_layout
from autotune.backends.opencl.driver import cl, cl_array, errors
from records.errors import InvalidInputError
from search_spaces.kernel import Array

_ALIGNMENT_BYTES = 64  # a kernel may cast a pointer to the widest vector of a CPU


def queue_of(given: Given) -> Any:
    """The queue of the first array that has one, or `None`."""
    for array in [*given.inputs.values(), *given.out.values()]:
        if getattr(array, "queue", None) is not None:
            return array.queue
    return None


def refuse_other_context(given: Given, queue: Any) -> None:
    for name, array in {**given.inputs, **given.out}.items():
        if array.context != queue.context:
            raise InvalidInputError(
                f"{name} belongs to another OpenCL context than the queue: "
                "create both from the same pyopencl.Context"
            )


def buffer_of(name: str, array: Any, device: Any) -> Any:
    """The memory of a device array, without a copy."""
    if not isinstance(array, cl_array.Array):
        return array
    if not array.offset:
        return array.base_data
    alignment = device.mem_base_addr_align // 8
    if array.offset % alignment:
        raise InvalidInputError(
            f"{name} begins {array.offset} bytes into its buffer, this device needs a multiple of "
            f"{alignment}: copy it first"
        )
    with errors(f"the part of a buffer that is {name}"):
        return array.base_data.get_sub_region(array.offset, array.nbytes, cl.mem_flags.READ_WRITE)


def is_aligned(array: Any) -> bool:
    return bool(array.ctypes.data % _ALIGNMENT_BYTES == 0)


def checked(array: Array, value: Any) -> Any:
    """Numpy or PyOpenCL arrays of the right shape, dtype and layout; buffers of the size."""
    if isinstance(value, cl.Buffer):
        needed = array.size_bytes
        if value.size != needed:
            raise InvalidInputError(
                f"{array.name}: need a buffer of {needed} bytes, got {value.size}"
            )
        return value
    if not isinstance(value, (np.ndarray, cl_array.Array)):
        raise InvalidInputError(
            f"{array.name}: need a numpy or pyopencl array, got {type(value).__name__}"
        )
    return checked_layout(array, value)
