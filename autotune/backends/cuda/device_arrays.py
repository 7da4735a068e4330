"""Arrays of other libraries on the device, taken where they lie."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from autotune.backends.given import checked_layout
from records.errors import InvalidInputError
from search_spaces import dtypes
from search_spaces.kernel import Array

ALIGNMENT_BYTES = 16  # kernels read vectors of up to that; a misaligned one kills the context
_DLPACK_DEVICES = (2, 13)  # kDLCUDA, kDLCUDAManaged of dlpack.h
_DLPACK_KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat"}
_DLPACK_NAMES = {10: "float8_e4m3fn", 12: "float8_e5m2"}


@dataclass(frozen=True)
class DeviceArray:
    """`owner` at `address`. `stream`: the handle of one that still writes it, where that is told.

    `kept` lives as long as this does: whatever keeps the memory from being used again.
    """

    owner: Any
    address: int
    shape: tuple[int, ...]
    dtype: str
    strides_bytes: tuple[int, ...] | None = None  # `None`: contiguous
    stream: int | None = None
    kept: Any = None

    @property
    def is_contiguous(self) -> bool:
        if self.strides_bytes is None or 0 in self.shape:
            return True
        size = _item_bytes(self.dtype)
        for extent, stride in zip(reversed(self.shape), reversed(self.strides_bytes), strict=True):
            if extent > 1 and stride != size:
                return False
            size *= extent
        return True


def checked(array: Array, value: Any, device_index: int) -> Any:
    """A numpy array as it is, one on this device as a `DeviceArray`; else `InvalidInputError`.

    Takes what has PyTorch's `data_ptr`, `__cuda_array_interface__` (CuPy, PyCUDA, Numba) or
    `__dlpack__`. Nothing is copied.
    """
    if isinstance(value, np.ndarray):
        return checked_layout(array, value)
    _refuse_elsewhere(array, value, device_index)
    found = _found(value)
    if found is None:
        raise InvalidInputError(
            f"{array.name}: need a numpy array or one on the GPU (PyTorch, CuPy, PyCUDA, any with "
            f"__cuda_array_interface__ or __dlpack__), got {type(value).__name__}"
        )
    if found.shape != array.storage_shape or not dtypes.accepts(array.dtype, found.dtype):
        raise InvalidInputError(
            f"{array.name}: need {array.dtype} of shape {array.storage_shape}, "
            f"got {found.dtype} of shape {found.shape}"
        )
    if not found.is_contiguous:
        raise InvalidInputError(
            f"{array.name}: need row-major contiguous memory, got strides of "
            f"{found.strides_bytes} bytes: copy it first"
        )
    if found.address % ALIGNMENT_BYTES:
        raise InvalidInputError(
            f"{array.name} begins at address {found.address:#x}, need a multiple of "
            f"{ALIGNMENT_BYTES} bytes: copy it first"
        )
    return found


def refuse_overlap(inputs: dict[str, DeviceArray], outputs: dict[str, DeviceArray]) -> None:
    for name, output in outputs.items():
        for other_name, other in inputs.items():
            starts_before = output.address < other.address + _size_bytes(other)
            if starts_before and other.address < output.address + _size_bytes(output):
                raise InvalidInputError(
                    f"output {name} overlaps input {other_name}: give it memory of its own"
                )


def _found(value: Any) -> DeviceArray | None:
    if hasattr(value, "data_ptr"):
        return _of_torch(value)
    if hasattr(value, "__cuda_array_interface__"):
        return _of_interface(value)
    return _of_dlpack(value) if hasattr(value, "__dlpack__") else None


def _refuse_elsewhere(array: Array, value: Any, device_index: int) -> None:
    tell = getattr(value, "__dlpack_device__", None)
    if tell is None:
        return
    kind, index = (int(number) for number in tell())
    if kind not in _DLPACK_DEVICES or index != device_index:
        raise InvalidInputError(
            f"{array.name} lies on device {index} of DLPack's kind {kind}, this kernel runs on "
            f"cuda:{device_index}: move it there"
        )


def _of_torch(value: Any) -> DeviceArray:
    """PyTorch's own interface tells types that `__cuda_array_interface__` has no names for."""
    dtype = str(value.dtype).rpartition(".")[2]
    item_bytes = value.element_size()
    strides_bytes = tuple(int(stride) * item_bytes for stride in value.stride())
    shape = tuple(map(int, value.shape))
    return DeviceArray(value, int(value.data_ptr()), shape, dtype, strides_bytes)


def _of_interface(value: Any) -> DeviceArray:
    """https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, up to version 3."""
    told = value.__cuda_array_interface__
    named = getattr(value, "dtype", None)
    dtype = named.name if named is not None else np.dtype(told["typestr"]).name
    strides = told.get("strides")
    return DeviceArray(
        value,
        int(told["data"][0] or 0),
        tuple(map(int, told["shape"])),
        dtype,
        tuple(map(int, strides)) if strides is not None else None,
        told.get("stream"),
    )


class _DLTensor(ctypes.Structure):
    """`DLTensor` of dlpack.h, with its device and type spelt out."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _of_dlpack(value: Any) -> DeviceArray:
    """Reads the unversioned capsule, whose first field is the tensor; it stays unconsumed."""
    capsule = value.__dlpack__(stream=1)  # the legacy default stream, which ours waits for
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype = ctypes.c_void_p
    pointer_of.argtypes = (ctypes.py_object, ctypes.c_char_p)
    tensor = _DLTensor.from_address(pointer_of(capsule, b"dltensor"))
    rank, item_bytes = tensor.ndim, tensor.bits // 8
    strides = tensor.strides[:rank] if tensor.strides else None
    kind = _DLPACK_KINDS.get(tensor.code, "unknown")
    return DeviceArray(
        value,
        (tensor.data or 0) + tensor.byte_offset,
        tuple(tensor.shape[:rank]),
        _DLPACK_NAMES.get(tensor.code, f"{kind}{tensor.bits}"),
        tuple(stride * item_bytes for stride in strides) if strides is not None else None,
        kept=capsule,
    )


def _item_bytes(dtype: str) -> int:
    for known in dtypes.DTYPES.values():
        if dtype in (known.name, known.storage.name, *known.names):
            return known.storage.itemsize
    raise InvalidInputError(f"no dtype {dtype!r}")


def _size_bytes(array: DeviceArray) -> int:
    return math.prod(array.shape) * _item_bytes(array.dtype)
