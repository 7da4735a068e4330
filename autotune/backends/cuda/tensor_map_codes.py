"""What `cuTensorMapEncodeTiled` is given for a tensor map: numbers of `cuda.h`, order of axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.tensor_map import TensorMap

TENSOR_MAP_BYTES = 128
TENSOR_MAP_ALIGNMENT_BYTES = 64

_DATA_TYPES: Mapping[str, int] = {  # CUtensorMapDataType
    "uint8": 0,
    "int8": 0,
    "float8_e4m3": 0,
    "float8_e5m2": 0,
    "int32": 3,
    "float16": 6,
    "float32": 7,
    "tf32": 7,  # as float32: the kernel rounds, or the tensor core ignores the low bits
    "float64": 8,
    "bfloat16": 9,
}
_INTERLEAVES: Mapping[int, int] = {0: 0, 16: 1, 32: 2}  # CUtensorMapInterleave
_SWIZZLES: Mapping[int, int] = {0: 0, 32: 1, 64: 2, 128: 3}  # CUtensorMapSwizzle
_PROMOTIONS: Mapping[int, int] = {0: 0, 64: 1, 128: 2, 256: 3}  # CUtensorMapL2promotion
_FILLS: Mapping[str, int] = {"zero": 0, "nan": 1}  # CUtensorMapFloatOOBfill


@dataclass(frozen=True)
class TensorMapCodes:
    """The axes begin with the contiguous one; `strides_bytes` are those of the others.

    Every element of a box is taken: `elementStrides` are ones.
    """

    data_type: int
    shape: tuple[int, ...]
    strides_bytes: tuple[int, ...]
    box: tuple[int, ...]
    interleave: int
    swizzle: int
    l2_promotion: int
    fill: int

    @classmethod
    def of(cls, tensor: TensorMap) -> TensorMapCodes:
        return cls(
            _DATA_TYPES[tensor.dtype],
            tensor.shape[::-1],
            tuple(stride * tensor.element_bytes for stride in tensor.strides[-2::-1]),
            tensor.box[::-1],
            _INTERLEAVES[tensor.interleave_bytes],
            _SWIZZLES[tensor.swizzle_bytes],
            _PROMOTIONS[tensor.l2_promotion_bytes],
            _FILLS[tensor.fill],
        )

    @property
    def rank(self) -> int:
        return len(self.shape)
