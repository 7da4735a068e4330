"""The steps of an epilogue as mathematics: operands, values in float64, error growth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Operands = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Step:
    """One step of an epilogue.

    `scalars`, `matrices` (m × n), `vectors` (n) and `scales` (m or n, in the precision of the
    arithmetic) name its operands; a step that has any may stand `once`. `apply(x, operands)`
    gives its value in float64. For |x| known to be at most `size`, a step moves an error in x by
    at most the factor `slope(operands)` and leaves a value of at most
    `slope · size + addend(operands)`; its own rounding is at most `ulps · u · (that bound)`, u
    being the unit roundoff of the arithmetic. All broadcast to m × n.
    """

    apply: Callable[[Values, Operands], Values]
    ulps: float
    scalars: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    slope: Callable[[Operands], Any] = lambda operands: 1.0
    addend: Callable[[Operands], Any] = lambda operands: 0.0

    @property
    def once(self) -> bool:
        return bool(self.scalars or self.matrices or self.vectors or self.scales)


_ERF_STEP = 1 / 256
_ERF_NODES = np.arange(0, 6 + _ERF_STEP, _ERF_STEP)  # 1 - erf(6) is below half an ulp of 1
_ERF_VALUES = np.array([math.erf(node) for node in _ERF_NODES])


def _erf(x: Values) -> Values:
    """Error function in float64, within 2 ulp of 1.

    Taylor's series around the nearest node of a table, to the fifth power; the derivatives are
    Hermite polynomials times a Gaussian (Abramowitz and Stegun, 7.1.19). The sixth term is below
    10^-17, as no x is further than 1/512 from its node.
    """
    size = np.minimum(np.abs(x), 6.0)
    nearest = np.rint(size / _ERF_STEP).astype(np.intp)
    t, d = _ERF_NODES[nearest], size - _ERF_NODES[nearest]
    series = 1 - d * t + d**2 * (2 * t**2 - 1) / 3 - d**3 * t * (2 * t**2 - 3) / 6
    series += d**4 * (4 * t**4 - 12 * t**2 + 3) / 30
    slope = 2 / math.sqrt(math.pi) * np.exp(-(t**2))
    return np.asarray(np.copysign(_ERF_VALUES[nearest] + d * slope * series, x))


def _gelu(x: Values, operands: Operands) -> Values:
    """x Φ(x), Hendrycks and Gimpel, arXiv:1606.08415."""
    return 0.5 * x * (1.0 + _erf(x * math.sqrt(0.5)))


def _gelu_tanh(x: Values, operands: Operands) -> Values:
    """The tanh approximation of the same paper."""
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + np.tanh(inner))


def _silu(x: Values, operands: Operands) -> Values:
    """x σ(x), with σ written by tanh so that nothing overflows."""
    return 0.5 * x * (1.0 + np.tanh(0.5 * x))


# OpenCL C 3.0, table of relative errors: erf 16 ulp, exp 3, tanh 5, division 2.5; an ulp is two
# unit roundoffs. CUDA's are smaller. Largest slopes: GELU 1.129, its approximation 1.129, SiLU
# 1.0998.
STEPS: Mapping[str, Step] = {
    "alpha": Step(
        lambda x, given: x * float(given["alpha"]),
        ulps=2.0,
        scalars=("alpha",),
        slope=lambda given: abs(float(given["alpha"])),
    ),
    "beta": Step(
        lambda x, given: x + float(given["beta"]) * given["c_in"].astype(np.float64),
        ulps=3.0,
        scalars=("beta",),
        matrices=("c_in",),
        addend=lambda given: abs(float(given["beta"])) * np.abs(given["c_in"]).astype(np.float64),
    ),
    "bias": Step(
        lambda x, given: x + given["bias"].astype(np.float64),
        ulps=1.0,
        vectors=("bias",),
        addend=lambda given: np.abs(given["bias"]).astype(np.float64),
    ),
    "residual": Step(
        lambda x, given: x + given["residual"].astype(np.float64),
        ulps=1.0,
        matrices=("residual",),
        addend=lambda given: np.abs(given["residual"]).astype(np.float64),
    ),
    "row_scale": Step(
        lambda x, given: x * given["row_scale"].astype(np.float64)[:, None],
        ulps=1.0,
        scales=("row_scale",),
        slope=lambda given: np.abs(given["row_scale"].astype(np.float64))[:, None],
    ),
    "column_scale": Step(
        lambda x, given: x * given["column_scale"].astype(np.float64),
        ulps=1.0,
        scales=("column_scale",),
        slope=lambda given: np.abs(given["column_scale"].astype(np.float64)),
    ),
    "relu": Step(lambda x, given: np.maximum(x, 0.0), ulps=0.0),
    "gelu": Step(_gelu, ulps=40.0, slope=lambda given: 1.13),
    "gelu_tanh": Step(_gelu_tanh, ulps=40.0, slope=lambda given: 1.13),
    "silu": Step(_silu, ulps=40.0, slope=lambda given: 1.1),
}
