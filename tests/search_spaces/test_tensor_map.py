from __future__ import annotations

from typing import Any

import pytest

from records.errors import InvalidInputError
from search_spaces.tensor_map import TensorMap


def described(**changes: Any) -> TensorMap:
    fields: dict[str, Any] = {"dtype": "bfloat16", "shape": (128, 256), "box": (64, 64)}
    return TensorMap("m", "a", **{**fields, **changes})


def test_strides_are_those_of_a_contiguous_tensor_unless_given() -> None:
    assert described(shape=(4, 128, 256), box=(1, 64, 64)).strides == (32768, 256, 1)
    assert described(strides=(264, 1)).strides == (264, 1)


def test_sizes_count_bytes() -> None:
    tensor = described(strides=(264, 1))
    assert tensor.box_bytes == 64 * 64 * 2
    assert tensor.extent_bytes == (127 * 264 + 256) * 2
    assert tensor.alignment_bytes == 16
    wide = described(shape=(2, 128, 256), box=(1, 8, 8), interleave_bytes=32, swizzle_bytes=32)
    assert wide.alignment_bytes == 32


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shape": (), "box": ()}, "0 dimensions"),
        ({"shape": (2,) * 6, "box": (2,) * 6}, "6 dimensions"),
        ({"box": (64,)}, "differ in rank"),
        ({"dtype": "int4"}, "as uint8"),
        ({"dtype": "float9"}, "float9"),
        ({"shape": (0, 256)}, "extent 0"),
        ({"shape": ((1 << 32) + 1, 256)}, "extent 4294967297"),
        ({"box": (257, 64)}, "box of 257"),
        ({"strides": (256, 2)}, "stride 2 of the last"),
        ({"shape": (128, 255)}, "stride of 510 bytes; need a multiple of 16"),
        ({"shape": (2, 1 << 32), "strides": (1 << 39, 1)}, "below 2\\^40"),
        ({"swizzle_bytes": 48}, "swizzle of 48 bytes; there are 0, 32, 64, 128"),
        ({"l2_promotion_bytes": 512}, "L2 promotion of 512"),
        ({"interleave_bytes": 8}, "interleave of 8"),
        ({"interleave_bytes": 16}, "interleaved with 2 dimensions"),
        (
            {"shape": (2, 128, 256), "box": (1, 8, 8), "interleave_bytes": 32},
            "an interleave of 32 needs 32",
        ),
        ({"box": (64, 4)}, "box rows of 8 bytes"),
        ({"swizzle_bytes": 64}, "box rows of 128 bytes; a swizzle spans 64"),
        ({"dtype": "int8", "fill": "nan"}, "which int8 does not have"),
        ({"dtype": "float8_e4m3", "fill": "nan"}, "cannot write for float8_e4m3"),
    ],
)
def test_a_broken_rule_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        described(**changes)
