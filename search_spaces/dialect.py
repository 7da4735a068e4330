"""What differs between kernel languages, as data: a prelude of macros and a few facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources


@dataclass(frozen=True)
class Dialect:
    """A kernel language. `prelude_file` defines the neutral macros that portable kernels use."""

    name: str
    prelude_file: str
    types: tuple[tuple[str, str], ...]  # our dtype names -> the language's scalar type
    stored_types: tuple[tuple[str, str], ...]  # -> the type of an element in memory, where another

    @cached_property
    def prelude(self) -> str:
        return resources.files("search_spaces").joinpath(self.prelude_file).read_text()

    def scalar(self, dtype: str) -> str:
        """The type that computes in `dtype`."""
        return dict(self.types)[dtype]

    def stored(self, dtype: str) -> str:
        """The type of an element of that dtype in memory: float16 is kept as its bits."""
        return dict(self.stored_types).get(dtype) or self.scalar(dtype)


OPENCL = Dialect(
    "opencl",
    "dialects/opencl.h",
    (("float16", "half"), ("float32", "float"), ("float64", "double"), ("int32", "int")),
    (("float16", "ushort"),),
)
CUDA = Dialect(
    "cuda",
    "dialects/cuda.h",
    (("float16", "half"), ("float32", "float"), ("float64", "double"), ("int32", "int")),
    (("float16", "ushort"),),
)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (OPENCL, CUDA)}
