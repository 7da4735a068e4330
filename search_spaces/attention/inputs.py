"""Random inputs of an attention: scores whose softmax is neither flat nor one key's alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search_spaces import draws, dtypes
from search_spaces.attention.operands import Values
from search_spaces.attention.parameters import Parameters
from search_spaces.kernel import Array

_SCORES_SPREAD = 1.5  # of the scores: among thousands of keys some hundreds share the weight
_CAPPED_SPREAD = 3.0  # with a softcap: that far from 0 a cap of 50, as of Gemma 2, shows
_FLOAT8_SPREAD = 16.0  # of K and V where factors follow: most values normal, none saturated
_NO_PAGE = -1  # behind the last page of a sequence, as servers write it


def random_inputs(given: Parameters, arrays: Sequence[Array], seed: int) -> dict[str, Values]:
    """See `Attention.inputs`; `arrays` are the inputs and scalars."""
    table = _table(given, np.random.default_rng([seed, len(arrays)]))
    return {
        array.name: _Draw(given, array, np.random.default_rng([seed, index])).values(table)
        for index, array in enumerate(arrays)
    }


class _Draw:
    """The values of one array."""

    def __init__(self, given: Parameters, array: Array, generator: np.random.Generator) -> None:
        self._given, self._array, self._random = given, array, generator

    def values(self, table: npt.NDArray[np.int32]) -> Values:
        given = self._given
        match self._array.name:
            case "q":
                return self._normal(_operand_spread(given))
            case "k" | "v":
                return self._kv(table)
            case "k_scale":
                return self._uniform(_operand_spread(given) / _FLOAT8_SPREAD)
            case "v_scale":
                return self._uniform(1.0 / _FLOAT8_SPREAD)
            case "alibi_slopes":
                return _slopes(given.heads) * self._random.uniform(
                    0.9, 1.1, self._array.shape
                ).astype(np.float32)
            case "q_offsets":
                return _offsets(given.q_lens)
            case "kv_offsets":
                return _offsets(given.kv_lens)
            case "kv_lengths":
                return np.array(given.kv_lens, np.int32)
            case "block_table":
                return table
        return self._normal(1.0)

    def _kv(self, table: npt.NDArray[np.int32]) -> Values:
        """NaN where no key is: what a cache holds there may be anything."""
        given = self._given
        usual = _operand_spread(given) if self._array.name == "k" else 1.0
        values = self._normal(_FLOAT8_SPREAD if given.scaled_kv else usual)
        nan = dtypes.encode(self._array.dtype, np.nan)
        if given.page_size:
            rows = values if given.layout == "bshd" else values.swapaxes(1, 2)
            for batch, length in enumerate(given.kv_lens):
                if last := length % given.page_size:
                    rows[table[batch, length // given.page_size], last:] = nan
        elif given.kv_lens and not given.packed:
            rows = values if given.layout == "bshd" else values.swapaxes(1, 2)
            for batch, length in enumerate(given.kv_lens):
                rows[batch, length:] = nan
        return values

    def _uniform(self, typical: float) -> Values:
        drawn = self._random.uniform(0.5, 1.5, self._array.shape) * typical
        return np.asarray(dtypes.encode(self._array.dtype, drawn))

    def _normal(self, spread: float) -> Values:
        return draws.normal(self._array.shape, self._array.dtype, spread, self._random)


def _operand_spread(given: Parameters) -> float:
    """Of Q, and of K, that gives the scores theirs, whatever the scale."""
    spread = min(_CAPPED_SPREAD, given.softcap) if given.softcap else _SCORES_SPREAD
    return math.sqrt(spread / (given.scale * math.sqrt(given.head_dim)))


def _slopes(heads: int) -> npt.NDArray[np.float32]:
    """2^(-8 i / heads), as in "Train Short, Test Long", arXiv:2108.12409, section 3."""
    return np.exp2(-8.0 * np.arange(1, heads + 1) / heads).astype(np.float32)


def _offsets(lengths: Sequence[int]) -> npt.NDArray[np.int32]:
    return np.cumsum([0, *lengths], dtype=np.int32)


def _table(given: Parameters, generator: np.random.Generator) -> npt.NDArray[np.int32]:
    """Pages of every sequence, in any order; what is behind its last one must not be read."""
    table = np.full((given.batch, given.pages_per_sequence), _NO_PAGE, np.int32)
    if not given.page_size:
        return table
    pages = generator.permutation(given.pages).astype(np.int32)
    used = 0
    for batch, length in enumerate(given.kv_lens):
        count = -(-length // given.page_size)
        table[batch, :count] = pages[used : used + count]
        used += count
    return table
