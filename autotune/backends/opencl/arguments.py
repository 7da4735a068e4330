"""Checks of what a user hands to a launcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autotune.backends.opencl.driver import cl, cl_array, errors
from records.errors import InvalidInputError
from search_spaces.kernel import Array

_ALIGNMENT_BYTES = 64  # a kernel may cast a pointer to the widest vector of a CPU


@dataclass(frozen=True)
class Given:
    """Checked arguments: `inputs` and `out` all on the host or all on the device."""

    inputs: dict[str, Any]
    scalars: dict[str, Any]
    out: dict[str, Any]
    outputs: tuple[Array, ...]

    def outputs_or(self, make: Callable[[Array], Any]) -> dict[str, Any]:
        """Every output, made where the user gave none."""
        return {
            array.name: self.out[array.name] if array.name in self.out else make(array)
            for array in self.outputs
        }


def sort(declared: Sequence[Array], values: Mapping[str, Any], out: Mapping[str, Any]) -> Given:
    """Arguments by role. Raises `InvalidInputError` for a wrong name, shape, type or layout."""
    by_role = {
        role: tuple(array for array in declared if array.role == role)
        for role in ("input", "scalar", "output")
    }
    _check_names("argument", values, [*by_role["input"], *by_role["scalar"]], all_needed=True)
    _check_names("output", out, by_role["output"], all_needed=False)
    return Given(
        {array.name: _checked(array, values[array.name]) for array in by_role["input"]},
        {array.name: _scalar(array, values[array.name]) for array in by_role["scalar"]},
        {
            array.name: _checked(array, out[array.name])
            for array in by_role["output"]
            if array.name in out
        },
        by_role["output"],
    )


def on_host(given: Given) -> bool:
    """Whether the arrays are numpy's. Raises `InvalidInputError` where only some are."""
    arrays = {**given.inputs, **given.out}
    host = [name for name, array in arrays.items() if isinstance(array, np.ndarray)]
    if host and len(host) < len(arrays):
        others = sorted(arrays.keys() - set(host))
        raise InvalidInputError(
            f"{', '.join(host)} on the host but {', '.join(others)} on the device: "
            "give all as numpy arrays or all as pyopencl arrays"
        )
    return bool(host) or not arrays


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


def check_writeable(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Host outputs must have memory that is theirs alone, and not read-only."""
    for name, array in outputs.items():
        if not array.flags.writeable:
            raise InvalidInputError(f"output {name} is read-only: give it writeable memory")
        for other_name, other in inputs.items():
            if np.may_share_memory(array, other):
                raise InvalidInputError(
                    f"output {name} overlaps input {other_name}: give it memory of its own"
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


def _check_names(
    what: str, given: Mapping[str, Any], declared: Sequence[Array], *, all_needed: bool
) -> None:
    names = [array.name for array in declared]
    unknown = sorted(given.keys() - set(names))
    missing = [name for name in names if name not in given] if all_needed else []
    if unknown or missing:
        problem = f"unknown {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
        raise InvalidInputError(f"{what}s: {problem}; this kernel has {', '.join(names)}")


def _scalar(array: Array, value: Any) -> Any:
    dtype = np.dtype(array.dtype)
    try:
        number = np.asarray(value).item()
        if isinstance(number, (int, float)) and (dtype.kind == "f" or number == int(number)):
            return dtype.type(number)
    except (ValueError, OverflowError):
        pass  # an array of several, or more than an integer of this size holds
    raise InvalidInputError(f"scalar {array.name}: need one {array.dtype}, got {value!r}")


def _checked(array: Array, value: Any) -> Any:
    if isinstance(value, cl.Buffer):
        needed = int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize
        if value.size != needed:
            raise InvalidInputError(
                f"{array.name}: need a buffer of {needed} bytes, got {value.size}"
            )
        return value
    if not isinstance(value, (np.ndarray, cl_array.Array)):
        raise InvalidInputError(
            f"{array.name}: need a numpy or pyopencl array, got {type(value).__name__}"
        )
    if value.shape != array.shape or value.dtype != np.dtype(array.dtype):
        raise InvalidInputError(
            f"{array.name}: need {array.dtype} of shape {array.shape}, "
            f"got {value.dtype} of shape {value.shape}"
        )
    if not value.flags.c_contiguous:
        raise InvalidInputError(
            f"{array.name}: need row-major contiguous memory: numpy.ascontiguousarray makes it"
        )
    return value
