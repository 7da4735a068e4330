"""What a caller hands to a tuned kernel, checked against what the workload takes."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from records.errors import InvalidInputError
from search_spaces import dtypes
from search_spaces.kernel import Array

_DLPACK_CPU = 1  # kDLCPU of dlpack.h


@dataclass(frozen=True)
class Call:
    """Arguments for a `Launcher`.

    `out` are the arrays to write into; `late` are host arrays of the caller's that cannot be
    written directly (not contiguous, or overlapping an input) and are filled afterwards. `own`
    are the caller's arrays as they came, of which those two may be views of another dtype.
    """

    arrays: Mapping[str, Any]
    out: Mapping[str, Any]
    late: Mapping[str, npt.NDArray[Any]]
    own: Mapping[str, Any]

    def delivered(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """The results, with the caller's own arrays in their places."""
        for name, array in self.late.items():
            np.copyto(array, results[name])
        return {**results, **self.own}


def by_name(
    parameters: Sequence[Array], positional: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Every parameter's argument, or `InvalidInputError` naming what is missing or too much."""
    names = [parameter.name for parameter in parameters]
    takes = f"this kernel takes ({', '.join(names)})"
    if len(positional) > len(names):
        raise InvalidInputError(f"{takes}, got {len(positional)} positional arguments")
    given = dict(zip(names, positional, strict=False))
    if twice := sorted(given.keys() & named.keys()):
        raise InvalidInputError(f"{takes}, got {', '.join(twice)} by position and by name")
    if unknown := sorted(named.keys() - set(names)):
        raise InvalidInputError(f"{takes}, got {', '.join(unknown)} too")
    given.update(named)
    if missing := [name for name in names if name not in given]:
        raise InvalidInputError(f"{takes}, {', '.join(missing)} missing")
    return given


def outputs_by_name(outputs: Sequence[Array], out: Any) -> dict[str, Any]:
    """`out` as a mapping: a bare array stands for the only output."""
    if out is None:
        return {}
    names = [output.name for output in outputs]
    if not isinstance(out, Mapping):
        if len(names) != 1:
            raise InvalidInputError(
                f"there are {len(names)} outputs: pass out as a mapping of {', '.join(names)}"
            )
        return {names[0]: out}
    if unknown := sorted(out.keys() - set(names)):
        raise InvalidInputError(f"out may name {', '.join(names)}, got {', '.join(unknown)} too")
    return dict(out)


def checked(
    parameters: Sequence[Array],
    outputs: Sequence[Array],
    given: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> Call:
    """Arguments in the form that a launcher takes."""
    arrays = {
        parameter.name: _scalar(parameter, given[parameter.name])
        if parameter.role == "scalar"
        else _array(parameter, given[parameter.name])
        for parameter in parameters
    }
    for output in outputs:
        if output.name in wanted:
            _check_fit(output, wanted[output.name])
    inputs = [arrays[each.name] for each in parameters if each.role == "input"]
    _check_one_side([*inputs, *wanted.values()])
    views = {each.name: _view(each, wanted[each.name]) for each in outputs if each.name in wanted}
    late = {name: each for name, each in views.items() if not _is_direct(name, each, inputs)}
    direct = {name: each for name, each in views.items() if name not in late}
    return Call(arrays, direct, late, wanted)


def _scalar(parameter: Array, value: Any) -> Any:
    is_number = isinstance(value, (numbers.Real, np.number))
    if isinstance(value, np.ndarray) and value.shape == ():
        value, is_number = value[()], np.issubdtype(value.dtype, np.number)
    if not is_number or isinstance(value, np.complexfloating):
        raise InvalidInputError(
            f"{parameter.name} is a scalar: need a number, got {type(value).__name__}"
        )
    dtype = parameter.storage
    if np.issubdtype(dtype, np.integer) and int(value) != value:
        raise InvalidInputError(f"{parameter.name}: need a whole number, got {value}")
    try:
        with np.errstate(over="raise"):
            return np.asarray(value).astype(dtype)[()]
    except (FloatingPointError, OverflowError):
        raise InvalidInputError(
            f"{parameter.name}: {value} is beyond the range of {parameter.dtype}"
        ) from None


def _array(parameter: Array, value: Any) -> Any:
    """A host array as contiguous numpy, copied only where it must be; a device array as it is."""
    device = getattr(value, "__dlpack_device__", None)
    if not _is_host(value) and device is not None and int(device()[0]) == _DLPACK_CPU:
        try:
            value = np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError) as error:
            raise InvalidInputError(
                f"{parameter.name}: need {_described(parameter)}, and numpy cannot read this "
                f"{type(value).__name__}: {error}"
            ) from None
    _check_fit(parameter, value)
    stored = _view(parameter, value)
    return np.require(stored, requirements=("C", "A")) if _is_host(stored) else stored


def _view(array: Array, value: Any) -> Any:
    """A host array with numpy's own type for that dtype, where ml_dtypes' came."""
    return dtypes.as_storage(array.dtype, value) if _is_host(value) else value


def _check_fit(array: Array, value: Any) -> None:
    """Shape and dtype; a bare device buffer has neither, and its backend checks its size."""
    if value is None or isinstance(value, (Sequence, numbers.Number)):
        raise InvalidInputError(
            f"{array.name}: need an array of {_described(array)}, got {type(value).__name__}; "
            "pass numpy or device arrays"
        )
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return
    shape, dtype = tuple(value.shape), _dtype_name(value)
    expected = array.storage_shape
    if shape != expected or not dtypes.accepts(array.dtype, dtype):
        hint = "" if shape != expected else f"; convert it to {_type_text(array)}"
        got = f"{dtype} {_shape_text(shape)}"
        raise InvalidInputError(f"{array.name}: need {_described(array)}, got {got}{hint}")


def _check_one_side(arrays: Sequence[Any]) -> None:
    on_host = {_is_host(array) for array in arrays}
    if len(on_host) > 1:
        raise InvalidInputError(
            "need every array on the host or every array on the device, got both; "
            "copy them to one side"
        )


def _is_direct(name: str, array: Any, inputs: Sequence[Any]) -> bool:
    """Whether a kernel may write into `array` itself, which it does while it reads the inputs."""
    if not _is_host(array):
        if any(array is each for each in inputs):
            raise InvalidInputError(f"out {name} is an input too; pass another array")
        return True
    if not array.flags.writeable:
        raise InvalidInputError(f"out {name} is read-only; pass a writeable array")
    if not (array.flags.c_contiguous and array.flags.aligned):
        return False
    return not any(np.may_share_memory(array, each) for each in inputs)


def _is_host(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _dtype_name(value: Any) -> str:
    """`"float32"`, also of a `torch.float32`; a byte order that is not the host's is said."""
    dtype = value.dtype
    if isinstance(dtype, np.dtype) and not dtype.isnative:
        return str(dtype)
    return str(getattr(dtype, "name", dtype)).rpartition(".")[2]


def _described(array: Array) -> str:
    return f"{_type_text(array)} {_shape_text(array.storage_shape)}"


def _type_text(array: Array) -> str:
    """The dtype, and what numpy arrays of it are where that differs."""
    stored = array.storage.name
    return array.dtype if stored == array.dtype else f"{array.dtype} (as {stored})"


def _shape_text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "()"
