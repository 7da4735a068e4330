"""The parameters of a matmul with every default filled in, and the shapes that follow."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from records.workload import Workload

LAYOUTS = ("nn", "nt", "tn", "tt")
ACCUMULATORS = {  # dtype of A -> dtypes that may accumulate the products, the default first
    "float16": ("float32", "float16"),
    "bfloat16": ("float32",),
    "float32": ("float32",),
    "tf32": ("float32",),
    "float64": ("float64",),
    "float8_e4m3": ("float32",),
    "float8_e5m2": ("float32",),
    "int8": ("int32",),
}
OUT_DTYPES = {  # dtype of A -> dtypes of C, the default first
    "float16": ("float16", "float32"),
    "bfloat16": ("bfloat16", "float32"),
    "float32": ("float32",),
    "tf32": ("float32",),
    "float64": ("float64",),
    "float8_e4m3": ("bfloat16", "float16", "float32", "float8_e4m3", "float8_e5m2"),
    "float8_e5m2": ("bfloat16", "float16", "float32", "float8_e4m3", "float8_e5m2"),
    "int8": ("int32", "bfloat16", "float16", "float32"),
}
# Scalars and scales of the epilogue, and its arithmetic, by the dtype of A.
EPILOGUE_DTYPES = {dtype: "float64" if dtype == "float64" else "float32" for dtype in ACCUMULATORS}
SCALES = ("none", "tensor", "row_column")
SCALED_DTYPES = ("float8_e4m3", "float8_e5m2", "int8")
QUANTISED_DTYPES = ("int8", "int4")  # of B alone
QUANTISABLE_DTYPES = ("float16", "bfloat16")  # of A beside a quantised B


@dataclass(frozen=True)
class Parameters:
    """What `search_spaces.matmul.matmul` documents, by the same names.

    `out_dtype` and `b_dtype` are always filled in; `groups` is `()` for a product of one size;
    `group_size` is 0 where B is not quantised.
    """

    m: int
    n: int
    k: int
    batch: int
    dtype: str
    accumulate: str
    layout: str
    epilogue: tuple[str, ...]
    out_dtype: str
    b_dtype: str
    scale: str = "none"
    groups: tuple[int, ...] = ()
    group_size: int = 0
    zero_point: bool = False

    @staticmethod
    def of(workload: Workload) -> Parameters:
        return _of(workload)

    def canonical(self) -> dict[str, Any]:
        """The parameters of the workload: the newer ones only where they are not the default,
        so that the workloads of old records keep their keys."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        defaults |= {"out_dtype": OUT_DTYPES[self.dtype][0], "b_dtype": self.dtype}
        return {name: value for name, value in named.items() if value != defaults[name]}

    @property
    def quantised(self) -> bool:
        """Whether B is stored as integers that scales, one a group of k, make numbers again."""
        return self.b_dtype != self.dtype

    @property
    def products(self) -> int:
        """How many matrices B holds: those of the batch, or one for each group of rows."""
        return len(self.groups) or self.batch

    @property
    def epilogue_dtype(self) -> str:
        """Of the epilogue's arithmetic, its scalars and every scale but a quantised B's."""
        return EPILOGUE_DTYPES[self.dtype]

    @property
    def operand_dtype(self) -> str:
        """Of the other arrays of the epilogue: that of C, or bfloat16 where that is float8."""
        return "bfloat16" if self.out_dtype.startswith("float8") else self.out_dtype

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The axes before those of A and C."""
        return (self.batch,) if self.batch > 1 else ()

    @property
    def products_shape(self) -> tuple[int, ...]:
        """The axes before those of B."""
        return (len(self.groups),) if self.groups else self.batch_shape

    @property
    def a_shape(self) -> tuple[int, ...]:
        rows = (self.k, self.m) if self.layout[0] == "t" else (self.m, self.k)
        return self.batch_shape + rows

    @property
    def b_shape(self) -> tuple[int, ...]:
        rows = (self.n, self.k) if self.layout[1] == "t" else (self.k, self.n)
        return self.products_shape + rows

    @property
    def c_shape(self) -> tuple[int, ...]:
        return (*self.batch_shape, self.m, self.n)

    @property
    def b_scale_shape(self) -> tuple[int, ...]:
        """Of the scales, and zero points, of a quantised B."""
        return (*self.products_shape, self.k // self.group_size, self.n)


@lru_cache(maxsize=256)
def _of(workload: Workload) -> Parameters:
    dtype = workload["dtype"]
    defaults: dict[str, Any] = {"out_dtype": OUT_DTYPES[dtype][0], "b_dtype": dtype}
    return Parameters(**{**defaults, **workload.values})


def stored(dtype: str) -> str:
    """The dtype of an array of a matmul: tf32 is a way to multiply float32."""
    return "float32" if dtype == "tf32" else dtype
