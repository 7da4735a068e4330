"""The matrices of a matmul as float64 panels, from whatever they are stored as."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search_spaces import dtypes
from search_spaces.matmul.parameters import Parameters, stored
from search_spaces.matmul.steps import STEPS, Operands, Values
from search_spaces.threads import slices

_PANEL_ELEMENTS = 2**22  # of a float64 panel of A or B: 32 MiB


@dataclass(frozen=True)
class Matrix:
    """A, or B transposed: `count` rows that run along k.

    `along_k` tells whether the rows of what is `stored`, of `dtype`, do so too. `scale` and
    `zero`, of k / `group_size` × `count`, make a quantised matrix numbers again.
    """

    stored: Values
    dtype: str
    along_k: bool
    scale: Values | None = None
    zero: Values | None = None

    @property
    def count(self) -> int:
        return int(self.stored.shape[0 if self.along_k else 1])

    def parts(self, k: int) -> list[slice]:
        """Of the rows, each of as many as a panel should have."""
        return slices(self.count, max(1, _PANEL_ELEMENTS // k))

    def panels(self, k: int) -> Iterator[tuple[slice, Values]]:
        """Rows, and their elements in float64, a few at a time."""
        for rows in self.parts(k):
            yield rows, self.panel(rows)

    def panel(self, rows: slice) -> Values:
        """The elements of those rows in float64."""
        taken = self.stored[rows] if self.along_k else self.stored[:, rows].T
        values = dtypes.decode(self.dtype, taken).astype(np.float64, copy=False)
        if self.scale is None:
            return values
        per_group = values.reshape(len(values), len(self.scale), -1)
        if self.zero is not None:
            per_group = per_group - self.zero[:, rows].T[..., None]
        return np.asarray(per_group * self.scale[:, rows].T[..., None]).reshape(values.shape)


@dataclass(frozen=True)
class Product:
    """One of the products: its `rows` among those of the whole batch, A, B and what scales it.

    `scale` broadcasts to the product's m × n; `None` where nothing scales the sums.
    """

    rows: slice
    a: Matrix
    b: Matrix
    scale: Values | None


def products(given: Parameters, inputs: Operands) -> Iterator[Product]:
    """Every product that has rows."""
    start = 0
    for index, rows in enumerate(given.groups or (given.m,) * given.batch):
        if rows:
            taken = slice(start, start + rows)
            a, b = _a(given, inputs, index, taken), _b(given, inputs, index)
            yield Product(taken, a, b, _scale(given, inputs, index, taken))
        start += rows


def _a(given: Parameters, inputs: Operands, index: int, rows: slice) -> Matrix:
    along_k = given.layout[0] == "n"
    a = inputs["a"]
    if given.batch > 1:
        a = a[index]
    elif given.groups:
        a = a[rows] if along_k else a[:, rows]
    return Matrix(a, stored(given.dtype), along_k)


def _b(given: Parameters, inputs: Operands, index: int) -> Matrix:
    several = bool(given.products_shape)
    b = inputs["b"][index] if several else inputs["b"]
    along_k = given.layout[1] == "t"
    if not given.quantised:
        return Matrix(b, stored(given.dtype), along_k)
    names = ("b_scale", "b_zero") if given.zero_point else ("b_scale",)
    found = (inputs[name][index] if several else inputs[name] for name in names)
    return Matrix(b, given.b_dtype, along_k, *(dtypes.decode(given.dtype, each) for each in found))


def _scale(given: Parameters, inputs: Operands, index: int, rows: slice) -> Values | None:
    if given.scale == "none":
        return None
    a_scale, b_scale = (inputs[name].astype(np.float64) for name in ("a_scale", "b_scale"))
    if given.scale == "tensor":
        return np.asarray(a_scale * b_scale)
    columns = b_scale.reshape(-1, given.n)[index]
    return np.asarray(a_scale.reshape(-1)[rows, None] * columns)


def epilogue_operands(given: Parameters, inputs: Operands) -> Operands:
    """Operands of the epilogue as numbers: those that are stored as bits are decoded."""
    steps = [STEPS[name] for name in given.epilogue]
    names = {name for step in steps for name in (*step.matrices, *step.vectors)}
    if dtypes.storage(given.operand_dtype).kind == "f":
        return inputs
    decoded = {name: dtypes.decode(given.operand_dtype, inputs[name]) for name in names}
    return {**inputs, **decoded}
