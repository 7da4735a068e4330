"""How far a right attention kernel may be from the reference.

Errors of scores, of exponentials and of weights rounded to 16 bits are independent from key to
key, so they move an output by a few times the root of the sum of their squares, as in
`search_spaces.matmul.tolerance`, whose constants these are; no more than a small part of what one
key contributes among thousands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention.operands import Inputs, Operands, Part, Values, parts
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.softmax import Block, Softmax, weighted
from search_spaces.threads import in_threads, single_threaded_products

_UNIT = dtypes.unit_roundoff("float32")
_SUM_ROUNDOFFS = 12.0  # of float32 sums, in |q| |k|: see `search_spaces.matmul.tolerance`
_SCORE_ROUNDOFFS = 4.0  # scale, cap, bias and difference to the largest, in what they give
_EXP_ROUNDOFFS = 8.0  # `ex2.approx` of PTX errs by 2 units in the last place, 4 roundoffs

# Kernels of 16 bits may have cheaper functions, hidden by the rounding of their weights: 2^-11 is
# `tanh.approx` of PTX; a cubic instead of `ex2.approx` errs by 8.8e-5 (FlashAttention-4).
_TANH_SHORT = 2.0**-11
_EXP_SHORT = 2.0**-13

# Weights become 16-bit numbers before they multiply V. Six standard deviations of a rounding,
# which are 0.4 roundoffs each, make 2.4; the same in float16 for those below its normal numbers.
_WEIGHT_ROUNDOFFS = 3.0

# Sums of positive numbers one after another: rounding grows with the root of their count; tensor
# cores cut off, a roundoff or two for each 16 keys, always downwards.
_TOTAL_ROUNDOFFS = 2.0
_KEYS_AN_INSTRUCTION = 16


def tolerance(workload: Workload, inputs: Inputs, reference: Inputs) -> dict[str, Values]:
    """Largest error allowed for each element of `out`, and of `lse` where asked.

    Rows that see no key must be 0 but for the smallest normal number of the type, and minus
    infinity in `lse`.
    """
    given = Parameters.of(workload)
    out, lse = np.empty(given.out_shape), np.empty(given.lse_shape)

    def fill(part: Part) -> None:
        operands = Operands(part, inputs, np.float32)
        rows = part.rows(reference["out"])
        for queries in part.query_blocks():
            sums = _Sums(operands, queries)
            part.rows(out)[:, queries] = sums.out_error(rows[:, queries])
            part.logarithms(lse)[:, queries] = sums.logarithm_error()

    with single_threaded_products():
        in_threads(fill, parts(given, inputs))
    stored = dtypes.dtype(given.dtype)
    out *= 1 + stored.unit_roundoff
    out += np.abs(reference["out"]) * stored.unit_roundoff + stored.smallest
    return {"out": out, "lse": lse} if given.lse else {"out": out}


@dataclass(frozen=True)
class _Norms:
    """Euclidean norms: of queries, of keys, of each column of V."""

    queries: Values
    keys: Values
    values: Values


class _Sums:
    """Errors of a block of queries, heads x queries (x v_dim), summed over the keys."""

    def __init__(self, operands: Operands, queries: slice) -> None:
        self._operands = operands
        self._given = operands.part.given
        self._is_short = self._given.dtype != "float32"
        self._softmax = Softmax(operands, queries)
        self._norms = _Norms(
            np.linalg.norm(operands.queries[:, queries], axis=-1),
            np.linalg.norm(operands.keys, axis=-1),
            np.linalg.norm(operands.values, axis=0),
        )
        shape = self._norms.queries.shape
        self._noise = np.zeros((*shape, self._given.v_dim), np.float32)  # squared, times v²
        self._row_noise = np.zeros(shape, np.float32)  # squared
        self._squares = np.zeros(shape, np.float32)  # of the weights
        self._shift = np.zeros(shape, np.float32)  # of the logarithm
        for block in self._softmax.blocks():
            self._add(block)

    def _add(self, block: Block) -> None:
        error = self._score_error(block)
        square = block.weights**2
        noise = square * (error**2 + self._weight_unit**2)
        self._shift = self._shift * block.rescaling + (block.weights * error).sum(axis=-1)
        rescaling = block.rescaling**2
        self._squares = self._squares * rescaling + square.sum(axis=-1)
        self._row_noise = self._row_noise * rescaling + noise.sum(axis=-1)
        self._noise *= rescaling[..., None]
        self._noise += weighted(noise, self._operands.values[block.keys] ** 2)

    def _score_error(self, block: Block) -> Values:
        """Of each score, which is the relative error of its exponential, and that one's own."""
        keys = self._norms.keys[block.keys] * (_SUM_ROUNDOFFS * _UNIT * self._operands.scale)
        error = np.multiply.outer(self._norms.queries, keys)
        sizes = np.abs(block.scores, where=block.weights > 0, out=np.zeros_like(block.scores))
        error += sizes * self._score_unit
        error += _EXP_SHORT if self._is_short else _EXP_ROUNDOFFS * _UNIT
        if self._given.softcap:
            error += _SCORE_ROUNDOFFS * _UNIT * self._given.softcap  # of tanh by exponentials
        return error

    @property
    def _score_unit(self) -> float:
        has_short_tanh = self._is_short and self._given.softcap
        return _SCORE_ROUNDOFFS * _UNIT + (_TANH_SHORT if has_short_tanh else 0.0)

    @property
    def _weight_unit(self) -> float:
        unit = dtypes.unit_roundoff(self._given.dtype) if self._is_short else 0.0
        return _WEIGHT_ROUNDOFFS * unit

    def _total_error(self) -> float:
        """Of a sum of positive numbers, relative."""
        keys = self._operands.part.sequence.kv_len
        roundoffs = _SUM_ROUNDOFFS + _TOTAL_ROUNDOFFS * float(np.sqrt(keys))
        if self._is_short:
            roundoffs += keys / _KEYS_AN_INSTRUCTION
        return roundoffs * _UNIT

    def out_error(self, reference: Values) -> Values:
        """Before the result is rounded to the stored type."""
        divisor = self._softmax.divisor
        error = np.sqrt(self._noise).astype(np.float64)
        by_row = np.sqrt(self._row_noise) + divisor * self._total_error()
        error += np.abs(reference) * by_row[..., None]
        by_column = np.sqrt(self._squares) * (_SUM_ROUNDOFFS * _UNIT) + self._least_weight()
        error += by_column[..., None] * self._norms.values
        return np.asarray(error / divisor[..., None])

    def _least_weight(self) -> float:
        """Half of what tells small float16 weights apart, relative to the largest weight."""
        return _WEIGHT_ROUNDOFFS * 2.0**-25 if self._given.dtype == "float16" else 0.0

    def logarithm_error(self) -> Values:
        divisor, logarithm = self._softmax.divisor, self._softmax.logarithm
        sizes = np.abs(logarithm, where=np.isfinite(logarithm), out=np.ones_like(logarithm))
        weights = self._weight_unit * np.sqrt(self._squares) + self._shift
        error = weights / divisor + self._total_error() + sizes * (_SCORE_ROUNDOFFS * _UNIT)
        return np.asarray(error, np.float64)
