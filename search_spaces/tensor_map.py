"""Descriptors for the tensor memory accelerator (TMA) of NVIDIA GPUs since compute capability 9.0.

A kernel copies whole boxes of a tensor between global and shared memory through one; what lies
outside the tensor reads as zero and is not written. Rules and their limits are those that the
CUDA driver API states for `cuTensorMapEncodeTiled`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from records.errors import InvalidInputError
from search_spaces import dtypes

ALIGNMENT_BYTES = 16  # of the tensor's address and strides
INTERLEAVED_ALIGNMENT_BYTES = 32  # the same, with an interleave of 32 bytes
SWIZZLES_BYTES = (0, 32, 64, 128)
PROMOTIONS_BYTES = (0, 64, 128, 256)
INTERLEAVES_BYTES = (0, 16, 32)

_MAX_RANK = 5
_MAX_BOX = 256
_MAX_EXTENT = 1 << 32
_MAX_STRIDE_BYTES = 1 << 40


@dataclass(frozen=True)
class TensorMap:
    """How a kernel sees one array or scratch buffer through the TMA.

    A launch that names it in its arguments passes `const CUtensorMap *`: a pointer to 128 bytes
    in device memory, aligned to 64.

    `array` names an array of the source or a scratch buffer. `shape`, `strides` and `box` count
    elements and are row-major like an `Array`'s: the last dimension is the contiguous one
    (stride 1), which the coordinates of an instruction name first. `strides` may be left out for
    a contiguous tensor. `box` is what one copy moves.

    `swizzle_bytes` (0, 32, 64, 128): width of the pattern that keeps rows of the box apart in the
    banks of shared memory. `l2_promotion_bytes` (0, 64, 128, 256): least read from DRAM into L2.
    `interleave_bytes` (0, 16, 32): layouts of channels in blocks (NC/8HWC8, NC/16HWC16). `fill`:
    what lies outside a tensor of a floating type reads as.

    Raises `InvalidInputError` with the rule that is broken.
    """

    name: str
    array: str
    dtype: str
    shape: tuple[int, ...]
    box: tuple[int, ...]
    strides: tuple[int, ...] = ()
    swizzle_bytes: int = 0
    l2_promotion_bytes: int = 128
    interleave_bytes: int = 0
    fill: Literal["zero", "nan"] = "zero"

    def __post_init__(self) -> None:
        if not self.strides:
            contiguous = (math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))
            object.__setattr__(self, "strides", tuple(contiguous))
        for problem in _problems(self):
            raise InvalidInputError(f"tensor map {self.name} of {self.array}: {problem}")

    @property
    def element_bytes(self) -> int:
        return dtypes.storage(self.dtype).itemsize

    @property
    def box_bytes(self) -> int:
        """What one copy adds to the transaction count of its barrier."""
        return math.prod(self.box) * self.element_bytes

    @property
    def alignment_bytes(self) -> int:
        """Of the first element's address, and of every stride but the last."""
        is_wide = self.interleave_bytes == INTERLEAVED_ALIGNMENT_BYTES
        return INTERLEAVED_ALIGNMENT_BYTES if is_wide else ALIGNMENT_BYTES

    @property
    def extent_bytes(self) -> int:
        """From the first element to the end of the last one: what the buffer must hold."""
        pairs = zip(self.shape, self.strides, strict=True)
        last = sum((extent - 1) * stride for extent, stride in pairs)
        return (last + 1) * self.element_bytes


def _problems(tensor: TensorMap) -> Iterator[str]:
    """Every rule that is broken, with its reason; the first ones make sense of the later."""
    rank = len(tensor.shape)
    if not 1 <= rank <= _MAX_RANK:
        yield f"{rank} dimensions; the TMA walks 1 to {_MAX_RANK}"
    elif not len(tensor.box) == len(tensor.strides) == rank:
        yield f"shape {tensor.shape}, box {tensor.box}, strides {tensor.strides} differ in rank"
    elif dtypes.dtype(tensor.dtype).packed > 1:
        yield f"{tensor.dtype} packs elements; describe its bytes as uint8"
    else:
        yield from _broken_sizes(tensor)
        yield from _broken_options(tensor)


def _broken_sizes(tensor: TensorMap) -> Iterator[str]:
    for extent in tensor.shape:
        if not 1 <= extent <= _MAX_EXTENT:
            yield f"extent {extent}; the hardware counts 1 to 2^32 elements"
    for extent in tensor.box:
        if not 1 <= extent <= _MAX_BOX:
            yield f"a box of {extent} along one dimension; the hardware counts 1 to {_MAX_BOX}"
    if tensor.strides[-1] != 1:
        yield f"stride {tensor.strides[-1]} of the last dimension; the TMA needs contiguous rows"
    for stride in tensor.strides[:-1]:
        stride_bytes = stride * tensor.element_bytes
        if stride_bytes % tensor.alignment_bytes or not 0 < stride_bytes < _MAX_STRIDE_BYTES:
            yield (
                f"a stride of {stride_bytes} bytes; need a multiple of "
                f"{tensor.alignment_bytes} below 2^40, as addresses drop their low bits: pad rows"
            )


def _broken_options(tensor: TensorMap) -> Iterator[str]:
    for what, value, allowed in (
        ("swizzle", tensor.swizzle_bytes, SWIZZLES_BYTES),
        ("L2 promotion", tensor.l2_promotion_bytes, PROMOTIONS_BYTES),
        ("interleave", tensor.interleave_bytes, INTERLEAVES_BYTES),
    ):
        if value not in allowed:
            yield f"{what} of {value} bytes; there are {', '.join(map(str, allowed))}"
    row_bytes = tensor.box[-1] * tensor.element_bytes
    if tensor.interleave_bytes:
        if len(tensor.shape) < 3:
            yield f"interleaved with {len(tensor.shape)} dimensions; need 3 or more"
        if tensor.interleave_bytes == 32 and tensor.swizzle_bytes != 32:
            yield f"swizzle of {tensor.swizzle_bytes} bytes; an interleave of 32 needs 32"
    elif row_bytes % ALIGNMENT_BYTES:
        yield f"box rows of {row_bytes} bytes; shared memory takes multiples of {ALIGNMENT_BYTES}"
    elif tensor.swizzle_bytes and row_bytes > tensor.swizzle_bytes:
        yield f"box rows of {row_bytes} bytes; a swizzle spans {tensor.swizzle_bytes}"
    if tensor.fill == "nan" and dtypes.dtype(tensor.dtype).is_integer:
        yield f"fill with NaN, which {tensor.dtype} does not have"
    if tensor.fill == "nan" and tensor.element_bytes == 1:
        yield f"fill with NaN, which the TMA cannot write for {tensor.dtype}"
