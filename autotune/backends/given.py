"""What a user hands to a launcher, by role and checked. Shared by the backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from records.errors import InvalidInputError
from search_spaces import dtypes
from search_spaces.kernel import Array


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


def sort(
    declared: Sequence[Array],
    values: Mapping[str, Any],
    out: Mapping[str, Any],
    checked: Callable[[Array, Any], Any],
) -> Given:
    """Arguments by role. Raises `InvalidInputError` for a wrong name, shape, type or layout.

    `checked` gives what stands for an array from then on, or refuses it.
    """
    by_role = {
        role: tuple(array for array in declared if array.role == role)
        for role in ("input", "scalar", "output")
    }
    _check_names("argument", values, [*by_role["input"], *by_role["scalar"]], all_needed=True)
    _check_names("output", out, by_role["output"], all_needed=False)
    return Given(
        {array.name: checked(array, values[array.name]) for array in by_role["input"]},
        {array.name: _scalar(array, values[array.name]) for array in by_role["scalar"]},
        {
            array.name: checked(array, out[array.name])
            for array in by_role["output"]
            if array.name in out
        },
        by_role["output"],
    )


def on_host(given: Given, device_arrays: str) -> bool:
    """Whether the arrays are numpy's. Raises `InvalidInputError` where only some are."""
    arrays = {**given.inputs, **given.out}
    host = [name for name, array in arrays.items() if isinstance(array, np.ndarray)]
    if host and len(host) < len(arrays):
        others = sorted(arrays.keys() - set(host))
        raise InvalidInputError(
            f"{', '.join(host)} on the host but {', '.join(others)} on the device: "
            f"give all as numpy arrays or all as {device_arrays}"
        )
    return bool(host) or not arrays


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


def checked_layout(array: Array, value: Any) -> Any:
    """A numpy-like array as it is, if it has the shape, dtype and layout of `array`."""
    shape = array.storage_shape
    if value.shape != shape or not dtypes.accepts(array.dtype, str(value.dtype)):
        raise InvalidInputError(
            f"{array.name}: need {array.dtype} of shape {shape}, "
            f"got {value.dtype} of shape {value.shape}"
        )
    if not value.flags.c_contiguous:
        raise InvalidInputError(
            f"{array.name}: need row-major contiguous memory: numpy.ascontiguousarray makes it"
        )
    return value


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
    """A numpy scalar of the array's storage: numbers are rounded to floats, never to integers."""
    try:
        number = np.asarray(value).item()
        if isinstance(number, (int, float)):
            if not dtypes.dtype(array.dtype).is_integer:
                return dtypes.encode(array.dtype, number)[()]
            if number == int(number):
                return array.storage.type(number)
    except (ValueError, OverflowError):
        pass  # an array of several, or more than an integer of this size holds
    raise InvalidInputError(f"scalar {array.name}: need one {array.dtype}, got {value!r}")
