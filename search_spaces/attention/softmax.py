"""A softmax that never holds more than a block of its scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search_spaces.attention.operands import Operands, Values


@dataclass(frozen=True)
class Block:
    """Scores of a block of keys, and their exponentials, each heads x queries x keys.

    The exponentials are relative to the largest score so far; what was summed of earlier blocks
    must be multiplied by `rescaling`, heads x queries.
    """

    keys: slice
    scores: Values
    weights: Values
    rescaling: Values


class Softmax:
    """Of a block of queries, over blocks of keys.

    M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax",
    arXiv:1805.02867. After `blocks` is exhausted `total` is the sum of weights, and 0 where no
    key is seen.
    """

    def __init__(self, operands: Operands, queries: slice) -> None:
        self._operands, self._queries = operands, queries
        shape = (len(operands.queries), queries.stop - queries.start)
        self._largest = np.full(shape, -np.inf, operands.queries.dtype)
        self.total = np.zeros_like(self._largest)

    def blocks(self) -> Iterator[Block]:
        for keys in self._operands.part.key_blocks(self._queries):
            scores = self._operands.scores(self._queries, keys)
            largest = np.maximum(self._largest, scores.max(axis=-1))
            weights = scores - _finite(largest)[..., None]
            np.exp(weights, out=weights)
            rescaling = np.exp(self._largest - _finite(largest))
            self._largest = largest
            self.total *= rescaling
            self.total += weights.sum(axis=-1)
            yield Block(keys, scores, weights, rescaling)

    @property
    def divisor(self) -> Values:
        """`total`, and 1 where no key is seen."""
        return np.where(self.total > 0, self.total, np.ones_like(self.total))

    @property
    def logarithm(self) -> Values:
        """Of the sum of exponentials; minus infinity where no key is seen."""
        return np.where(self.total > 0, self._largest + np.log(self.divisor), -np.inf)


def _finite(largest: Values) -> Values:
    """Where nothing is seen yet, any finite number gives weights of 0."""
    return np.where(np.isneginf(largest), np.zeros_like(largest), largest)


def weighted(weights: Values, values: Values) -> Values:
    """Sums over keys: heads x queries x keys times keys x v_dim."""
    flat = weights.reshape(-1, weights.shape[-1]) @ values
    return flat.reshape(*weights.shape[:-1], values.shape[-1])
