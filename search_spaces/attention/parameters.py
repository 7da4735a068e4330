"""The parameters of an attention with every default filled in, and the shapes that follow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from records.workload import Workload

DTYPES = ("float32", "float16", "bfloat16")  # of Q, of the output, and of K and V by default
KV_DTYPES = ("float8_e4m3", "float8_e5m2")  # of K and V alone, beside 16 bits
LAYOUTS = ("bhsd", "bshd")
BIASES = ("none", "alibi", "head", "full")


@dataclass(frozen=True)
class Strides:
    """Where, in elements, row `s` of head `h` of sequence `b` begins: the sum of the products.

    `batch` is 0 where sequences lie packed, or in pages: offsets, or a table, say where.
    """

    batch: int
    head: int
    row: int


@dataclass(frozen=True)
class Sequence:
    """One sequence of the batch: its numbers of queries and of keys."""

    q_len: int
    kv_len: int


@dataclass(frozen=True)
class Parameters:
    """What `search_spaces.attention.workload.attention` documents, by the same names.

    `kv_heads`, `kv_len`, `v_dim`, `kv_dtype` and `scale` are always filled in; `window` and
    `softcap` are 0 where there is none, and so is `page_size`; `q_lens` is `()` where every
    sequence has `q_len` queries, `kv_lens` where every one has `kv_len` keys. With them `q_len`
    and `kv_len` are the longest.
    """

    batch: int
    heads: int
    kv_heads: int
    q_len: int
    kv_len: int
    head_dim: int
    v_dim: int
    dtype: str
    kv_dtype: str
    scale: float
    causal: bool = False
    window: int = 0
    softcap: float = 0.0
    bias: str = "none"
    layout: str = "bhsd"
    q_lens: tuple[int, ...] = ()
    kv_lens: tuple[int, ...] = ()
    page_size: int = 0
    lse: bool = False

    @staticmethod
    def of(workload: Workload) -> Parameters:
        return _of(workload)

    def canonical(self) -> dict[str, Any]:
        """The parameters of the workload: those that have a default only where they differ."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)} | _derived(named)
        return {name: value for name, value in named.items() if value != defaults[name]}

    @property
    def packed(self) -> bool:
        """Whether the queries of all sequences follow one another, without padding."""
        return bool(self.q_lens)

    @property
    def packed_kv(self) -> bool:
        """Whether the keys do so too; not so in pages."""
        return self.packed and not self.page_size

    @property
    def queries_per_kv_head(self) -> int:
        return self.heads // self.kv_heads

    @property
    def scaled_kv(self) -> bool:
        """Whether K and V are float8 and have a factor each."""
        return self.kv_dtype != self.dtype

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """Every sequence of the batch."""
        q_lens = self.q_lens or (self.q_len,) * self.batch
        kv_lens = self.kv_lens or (self.kv_len,) * self.batch
        return tuple(Sequence(q, kv) for q, kv in zip(q_lens, kv_lens, strict=True))

    def visible(self, sequence: Sequence, query: int) -> range:
        """The keys that a query of a sequence sees; the last query is aligned with the last key."""
        position = query + sequence.kv_len - sequence.q_len
        first = max(0, position - self.window + 1) if self.window else 0
        end = sequence.kv_len
        if self.causal:
            end = min(end, position + 1)
        elif self.window:
            end = min(end, position + self.window)
        return range(first, max(first, end))

    @property
    def total_q(self) -> int:
        """Rows of Q, of all sequences."""
        return sum(self.q_lens) if self.packed else self.batch * self.q_len

    @property
    def pages_per_sequence(self) -> int:
        """Columns of the block table."""
        return -(-self.kv_len // self.page_size) if self.page_size else 0

    @property
    def pages(self) -> int:
        """Of K, and of V: as many as the sequences need."""
        return max(1, sum(-(-each.kv_len // self.page_size) for each in self.sequences))

    @property
    def q_shape(self) -> tuple[int, ...]:
        return self._rows_shape(self.heads, self.head_dim)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self._rows_shape(self.heads, self.v_dim)

    @property
    def k_shape(self) -> tuple[int, ...]:
        return self._kv_shape(self.head_dim)

    @property
    def v_shape(self) -> tuple[int, ...]:
        return self._kv_shape(self.v_dim)

    @property
    def lse_shape(self) -> tuple[int, ...]:
        """Of the logarithms: heads before queries, in both layouts."""
        if self.packed:
            return (self.heads, self.total_q)
        return (self.batch, self.heads, self.q_len)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """Of an additive bias, or of the slopes of ALiBi; `()` without."""
        scores = (self.heads, self.q_len, self.kv_len)
        shapes = {"none": (), "alibi": (self.heads,), "head": scores}
        return shapes.get(self.bias, (self.batch, *scores))

    @property
    def q_strides(self) -> Strides:
        return self._strides(self.heads, self.q_len, self.head_dim, self.packed)

    @property
    def out_strides(self) -> Strides:
        return self._strides(self.heads, self.q_len, self.v_dim, self.packed)

    @property
    def k_strides(self) -> Strides:
        """In pages, `row` steps within one, and a page is `page_stride` elements long."""
        return self._kv_strides(self.head_dim)

    @property
    def v_strides(self) -> Strides:
        return self._kv_strides(self.v_dim)

    def page_stride(self, dim: int) -> int:
        """Elements of a page of K (`dim` = `head_dim`) or of V (`v_dim`)."""
        return self.page_size * self.kv_heads * dim

    def _rows_shape(self, heads: int, dim: int) -> tuple[int, ...]:
        if self.packed:
            return (self.total_q, heads, dim)
        return self._shape(self.batch, heads, self.q_len, dim)

    def _kv_shape(self, dim: int) -> tuple[int, ...]:
        if self.page_size:
            return self._shape(self.pages, self.kv_heads, self.page_size, dim)
        if self.packed:
            return (max(1, sum(self.kv_lens)), self.kv_heads, dim)
        return self._shape(self.batch, self.kv_heads, self.kv_len, dim)

    def _shape(self, batch: int, heads: int, rows: int, dim: int) -> tuple[int, ...]:
        return (batch, heads, rows, dim) if self.layout == "bhsd" else (batch, rows, heads, dim)

    def _kv_strides(self, dim: int) -> Strides:
        if self.page_size:
            return self._strides(self.kv_heads, self.page_size, dim, True)
        return self._strides(self.kv_heads, self.kv_len, dim, self.packed)

    def _strides(self, heads: int, rows: int, dim: int, elsewhere: bool) -> Strides:
        batch = 0 if elsewhere else heads * rows * dim
        if self.layout == "bhsd":
            return Strides(batch, rows * dim, dim)
        return Strides(batch, dim, heads * dim)


def visible_pairs(given: Parameters) -> int:
    """Pairs of a query and a key that it sees, in one head of every sequence."""
    return sum(_pairs(given, sequence) for sequence in given.sequences)


def visible_keys(given: Parameters) -> Iterator[range]:
    """Of each sequence, the keys that any of its queries sees; the last query sees the last key."""
    for sequence in given.sequences:
        first = given.visible(sequence, 0).start
        yield range(first, sequence.kv_len) if sequence.q_len else range(0)


def visible_bounds(
    given: Parameters, sequence: Sequence, queries: slice
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and end of `given.visible` for each of these queries."""
    positions = np.arange(queries.start, queries.stop) + (sequence.kv_len - sequence.q_len)
    first = np.zeros_like(positions)
    end = np.full_like(positions, sequence.kv_len)
    if given.window:
        first = np.maximum(first, positions - given.window + 1)
    if given.causal or given.window:
        reach = 1 if given.causal else given.window
        end = np.minimum(end, positions + reach)
    return first, np.maximum(first, end)


@lru_cache(maxsize=1024)
def _pairs(given: Parameters, sequence: Sequence) -> int:
    if not given.causal and not given.window:
        return sequence.q_len * sequence.kv_len
    first, end = visible_bounds(given, sequence, slice(0, sequence.q_len))
    return int((end - first).sum())


def _derived(named: dict[str, Any]) -> dict[str, Any]:
    """Defaults that follow from other parameters."""
    return {
        "batch": len(named.get("q_lens", ()) or named.get("kv_lens", ())) or 1,
        "kv_heads": named["heads"],
        "kv_len": max(named.get("kv_lens", ()), default=named["q_len"]),
        "v_dim": named["head_dim"],
        "kv_dtype": named["dtype"],
        "scale": 1.0 / math.sqrt(named["head_dim"]),
    }


@lru_cache(maxsize=256)
def _of(workload: Workload) -> Parameters:
    given = dict(workload.values)
    return Parameters(**{**_derived(given), **given})
