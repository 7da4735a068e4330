"""The arrays of an attention as numbers: one head of K and V at a time, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import dtypes
from search_spaces.attention.parameters import Parameters, Sequence, visible_bounds
from search_spaces.threads import slices

Inputs = Mapping[str, npt.NDArray[Any]]
Values = npt.NDArray[Any]

_BLOCK_ROWS = 256  # queries of all heads of a block: with as many keys its scores stay in a cache
_BLOCK_KEYS = 512
_PART_ROWS = 2048  # of a thread's share: K and V are converted once for that many


@dataclass(frozen=True)
class Part:
    """Some queries of a sequence, for one head of K and V and the heads of Q that share it."""

    given: Parameters
    sequence: Sequence
    batch: int
    first_row: int  # of the sequence, in packed queries
    kv_head: int
    queries: slice

    @property
    def heads(self) -> slice:
        shared = self.given.queries_per_kv_head
        return slice(self.kv_head * shared, (self.kv_head + 1) * shared)

    def rows(self, array: Values) -> Values:
        """A view of `q` or `out`: heads x every query of the sequence x dim."""
        if self.given.packed:
            rows = slice(self.first_row, self.first_row + self.sequence.q_len)
            return array[rows, self.heads].swapaxes(0, 1)
        if self.given.layout == "bhsd":
            return array[self.batch, self.heads]
        return array[self.batch, :, self.heads].swapaxes(0, 1)

    def logarithms(self, array: Values) -> Values:
        """A view of `lse`: heads x every query of the sequence."""
        if self.given.packed:
            return array[self.heads, self.first_row : self.first_row + self.sequence.q_len]
        return array[self.batch, self.heads]

    def query_blocks(self) -> list[slice]:
        return _split(self.queries, _BLOCK_ROWS // self.given.queries_per_kv_head)

    def key_blocks(self, queries: slice) -> list[slice]:
        """What any of these queries sees."""
        first, end = visible_bounds(self.given, self.sequence, queries)
        return _split(slice(int(first.min()), int(end.max())), _BLOCK_KEYS)


def parts(given: Parameters, inputs: Inputs) -> list[Part]:
    """Every query of every head; the lengths are those of the inputs."""
    rows = max(1, _PART_ROWS // given.queries_per_kv_head)
    return [
        Part(given, sequence, batch, first_row, kv_head, queries)
        for batch, (first_row, sequence) in enumerate(_sequences(given, inputs))
        for kv_head in range(given.kv_heads)
        for queries in slices(sequence.q_len, rows)
    ]


def _sequences(given: Parameters, inputs: Inputs) -> Iterator[tuple[int, Sequence]]:
    """Where the queries of each begin in packed ones, and how long it is."""
    q_ends = inputs.get("q_offsets", np.arange(given.batch + 1) * given.q_len)
    if given.packed_kv:
        kv_lens = np.diff(inputs["kv_offsets"])
    else:
        kv_lens = inputs.get("kv_lengths", np.full(given.batch, given.kv_len))
    for first, end, kv_len in zip(q_ends[:-1], q_ends[1:], kv_lens, strict=True):
        yield int(first), Sequence(int(end - first), int(kv_len))


def _split(whole: slice, step: int) -> list[slice]:
    start = int(whole.start)
    parts = slices(int(whole.stop) - start, max(1, step))
    return [slice(start + part.start, start + part.stop) for part in parts]


class Operands:
    """The numbers of one part in `precision`: `values` are those of V, with its factor."""

    def __init__(self, part: Part, inputs: Inputs, precision: type[np.floating[Any]]) -> None:
        self.part, self._inputs, self._precision = part, inputs, precision
        given = part.given
        self.queries = self._decoded(given.dtype, part.rows(inputs["q"]))
        self.keys = self._decoded(given.kv_dtype, _kv_rows(part, inputs, "k"))
        self.values = self._decoded(given.kv_dtype, _kv_rows(part, inputs, "v"))
        self.values *= precision(inputs.get("v_scale", 1.0))
        self.scale = given.scale * float(inputs.get("k_scale", 1.0))

    def scores(self, queries: slice, keys: slice) -> Values:
        """Heads x queries x keys, what the softmax is taken of; minus infinity where not seen."""
        given, sequence = self.part.given, self.part.sequence
        rows = self.queries[:, queries].reshape(-1, given.head_dim)
        scores = (rows @ self.keys[keys].T).reshape(len(self.queries), -1, keys.stop - keys.start)
        scores *= self._precision(self.scale)
        if given.softcap:
            scores /= given.softcap
            np.tanh(scores, out=scores)
            scores *= given.softcap
        if given.bias != "none":
            scores += self._bias(queries, keys)
        first, end = visible_bounds(given, sequence, queries)
        if keys.start < first.max() or keys.stop > end.min():
            column = np.arange(keys.start, keys.stop)
            scores[:, (column < first[:, None]) | (column >= end[:, None])] = -np.inf
        return scores

    def _bias(self, queries: slice, keys: slice) -> Values:
        given, part = self.part.given, self.part
        if given.bias == "alibi":
            shift = part.sequence.kv_len - part.sequence.q_len
            positions = np.arange(queries.start, queries.stop)[:, None] + shift
            distances = np.abs(positions - np.arange(keys.start, keys.stop))
            slopes = self._decoded("float32", self._inputs["alibi_slopes"][part.heads])
            return np.asarray(-slopes[:, None, None] * distances.astype(self._precision))
        bias = self._inputs["bias"]
        if given.bias == "full":
            bias = bias[part.batch]
        return self._decoded(given.dtype, bias[part.heads, queries, keys])

    def _decoded(self, dtype: str, stored: Values) -> Values:
        """A copy."""
        return np.array(dtypes.decode(dtype, stored), self._precision, order="C")


def _kv_rows(part: Part, inputs: Inputs, name: str) -> Values:
    """The rows of K or V of one part, one after another."""
    given, count, head = part.given, part.sequence.kv_len, part.kv_head
    array = inputs[name]
    if given.page_size:
        pages = inputs["block_table"][part.batch, : -(-count // given.page_size)]
        own = array[pages, head] if given.layout == "bhsd" else array[pages, :, head]
        rows = own.reshape(-1, array.shape[-1])
    elif given.packed_kv:
        rows = array[int(inputs["kv_offsets"][part.batch]) :, head]
    else:
        rows = array[part.batch, head] if given.layout == "bhsd" else array[part.batch, :, head]
    return rows[:count]
