"""What differs between kernel languages, as data: a prelude of macros and a few facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources


@dataclass(frozen=True)
class Dialect:
    """A kernel language. `prelude_file` defines the neutral macros that portable kernels use.

    `formats_file`, where there is one, holds conversions of the formats that are kept as bits,
    `bfloat16_to_float` and others; its text stands after the prelude and may stand twice.
    """

    name: str
    prelude_file: str
    types: tuple[tuple[str, str], ...]  # our dtype names -> the language's scalar type
    stored_types: tuple[tuple[str, str], ...]  # -> the type of an element in memory, where another
    formats_file: str = ""

    @cached_property
    def prelude(self) -> str:
        return _text(self.prelude_file)

    @cached_property
    def formats(self) -> str:
        return _text(self.formats_file) if self.formats_file else ""

    def scalar(self, dtype: str) -> str:
        """The type that computes in `dtype`."""
        return dict(self.types)[dtype]

    def stored(self, dtype: str) -> str:
        """The type of an element of that dtype in memory: float16 is kept as its bits.

        Two elements of int4 share one.
        """
        return dict(self.stored_types).get(dtype) or self.scalar(dtype)


def _text(file: str) -> str:
    return resources.files("search_spaces").joinpath(file).read_text()


OPENCL = Dialect(
    "opencl",
    "dialects/opencl.h",
    (("float16", "half"), ("float32", "float"), ("float64", "double"), ("int32", "int")),
    (
        ("float16", "ushort"),
        ("bfloat16", "ushort"),
        ("float8_e4m3", "uchar"),
        ("float8_e5m2", "uchar"),
    ),
    "dialects/opencl_formats.h",
)
CUDA = Dialect(
    "cuda",
    "dialects/cuda.h",
    (("float16", "half"), ("float32", "float"), ("float64", "double"), ("int32", "int")),
    (
        ("float16", "ushort"),
        ("bfloat16", "ushort"),
        ("tf32", "float"),
        ("float8_e4m3", "unsigned char"),
        ("float8_e5m2", "unsigned char"),
        ("int8", "signed char"),
        ("int4", "unsigned char"),
    ),
    "dialects/cuda_formats.h",
)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (OPENCL, CUDA)}
