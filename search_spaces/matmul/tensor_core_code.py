"""What the texts and launches of the templates for CUDA's tensor cores have in common."""

from __future__ import annotations

from functools import cache
from importlib import resources

from search_spaces import dtypes
from search_spaces.kernel import Launch
from search_spaces.matmul.epilogue import EpilogueCode
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.portable_space import GROUPS_AXIS
from search_spaces.matmul.row_groups import row_group_defines
from search_spaces.rounding import ceil_divide

REDUCE_THREADS = 128
RESTORED_TOGETHER = 8  # neighbours in k of a quantised B, that a scale must hold for
_MAX_EXTENT = 2**31 - 2**16  # rows are counted in 32 bits, to the end of the last tile


@cache
def kernel_text(name: str) -> str:
    return resources.files("search_spaces").joinpath(name).read_text()


def rejected_group_size(given: Parameters) -> str:
    """For templates that restore a quantised B a few neighbours in k at a time."""
    if given.group_size % RESTORED_TOGETHER and given.group_size != given.k:
        return (
            f"it restores {RESTORED_TOGETHER} neighbours in k with one scale; a group of "
            f"{given.group_size} is no multiple of that; choose a group_size that is, or k"
        )
    return ""


def rejected_sizes(given: Parameters) -> str:
    if given.batch > GROUPS_AXIS:
        return (
            f"a batch of {given.batch} exceeds the third axis of a grid ({GROUPS_AXIS}); "
            "cut the batch into smaller ones"
        )
    largest = max(given.m, given.n, given.k)
    if largest > _MAX_EXTENT:
        return (
            f"an extent of {largest} exceeds 32-bit coordinates ({_MAX_EXTENT}); "
            "cut the product into smaller ones"
        )
    return ""


def reduce_launch(given: Parameters, finish: tuple[str, ...]) -> Launch:
    """Of split_k.h, where a thread adds four neighbours in a row if rows are made of such."""
    blocks = ceil_divide(given.m * given.n, REDUCE_THREADS * (4 if given.n % 4 == 0 else 1))
    return Launch("reduce", (blocks, 1, given.batch), (REDUCE_THREADS, 1, 1), ("partial", *finish))


def row_group_code(given: Parameters, tile_rows: int, epilogue: EpilogueCode) -> str:
    """The tables of groups of rows; and how an epilogue that asks for one finds it, above both."""
    asked = given.groups and "EPILOGUE_GROUP" in epilogue.text
    how = "#define EPILOGUE_GROUP(row) (product)\n" if asked else ""
    return row_group_defines(given.groups, tile_rows) + how


def quantised_defines(given: Parameters) -> dict[str, int]:
    """What `quantised.h` needs, but for sizes."""
    return {
        "QUANTISED": 1,
        "B_BITS": dtypes.dtype(given.b_dtype).bits,
        "ZERO_POINT": int(given.zero_point),
        "GROUP_SIZE_K": given.group_size,
        "IS_BFLOAT": int(given.dtype == "bfloat16"),
    }


def operand_arguments(given: Parameters) -> tuple[str, ...]:
    """A, B, and the scales and zeros of a quantised B."""
    there = (("b_scale", given.quantised), ("b_zero", given.zero_point))
    return ("a", "b", *(name for name, given_ in there if given_))
