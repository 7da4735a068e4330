"""Attention as an op: arrays, inputs, reference, tolerance, work."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention.inputs import random_inputs
from search_spaces.attention.parameters import Parameters, visible_keys, visible_pairs
from search_spaces.attention.reference import reference
from search_spaces.attention.tolerance import tolerance
from search_spaces.attention.workload import attention
from search_spaces.kernel import Array
from search_spaces.op import Arrays


def _bias(given: Parameters) -> Iterator[Array]:
    if given.bias == "alibi":
        yield Array("alibi_slopes", given.bias_shape, "float32", "input")
    elif given.bias != "none":
        yield Array("bias", given.bias_shape, given.dtype, "input")


def _scales(given: Parameters) -> Iterator[Array]:
    if given.scaled_kv:
        yield Array("k_scale", (), "float32", "scalar")
        yield Array("v_scale", (), "float32", "scalar")


def _places(given: Parameters) -> Iterator[Array]:
    """Where sequences begin and end."""
    if given.packed:
        yield Array("q_offsets", (given.batch + 1,), "int32", "input")
    if given.packed_kv:
        yield Array("kv_offsets", (given.batch + 1,), "int32", "input")
    elif given.kv_lens:
        yield Array("kv_lengths", (given.batch,), "int32", "input")
    if given.page_size:
        table = (given.batch, given.pages_per_sequence)
        yield Array("block_table", table, "int32", "input")


class Attention:
    """See `attention` for the parameters. Implements `Op`."""

    name = "attention"

    def workload(self, **params: Any) -> Workload:
        try:
            inspect.signature(attention).bind(**params)
        except TypeError as error:
            names = ", ".join(inspect.signature(attention).parameters)
            raise InvalidInputError(f"attention: {error}; it takes {names}") from None
        return attention(**params)

    def arrays(self, workload: Workload) -> tuple[Array, ...]:
        """q, k, v, the bias, scales, what tells where sequences lie, out, lse."""
        given = Parameters.of(workload)
        lse = [Array("lse", given.lse_shape, "float32", "output")] if given.lse else []
        return (
            Array("q", given.q_shape, given.dtype, "input"),
            Array("k", given.k_shape, given.kv_dtype, "input"),
            Array("v", given.v_shape, given.kv_dtype, "input"),
            *_bias(given),
            *_scales(given),
            *_places(given),
            Array("out", given.out_shape, given.dtype, "output"),
            *lse,
        )

    def inputs(self, workload: Workload, seed: int) -> Arrays:
        """Normal variates, never zero, such that scores have a spread of 1.5 whatever the scale.

        With a softcap it is 3, so that the cap shows. Slopes of ALiBi are those of its paper, up
        to a tenth more or less. K and V of float8 use the format, and have factors that make up
        for it. Pages lie in any order. Rows of K and V that belong to no key are NaN, and places
        of the block table that belong to no page are -1: a kernel must not use them.
        """
        given = [array for array in self.arrays(workload) if array.role != "output"]
        return random_inputs(Parameters.of(workload), given, seed)

    def reference(self, workload: Workload, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        return reference(workload, inputs)

    def tolerance(
        self,
        workload: Workload,
        inputs: Mapping[str, npt.NDArray[Any]],
        reference: Mapping[str, npt.NDArray[Any]],
    ) -> dict[str, npt.NDArray[np.float64]]:
        return tolerance(workload, inputs, reference)

    def flops(self, workload: Workload) -> float:
        """2 (head_dim + v_dim) for each head and each pair of a query and a key that it sees.

        The softmax is not counted, as is customary.
        """
        given = Parameters.of(workload)
        return 2.0 * (given.head_dim + given.v_dim) * given.heads * visible_pairs(given)

    def bytes(self, workload: Workload) -> int:
        """Every array once; of K, V and a bias only what some query sees."""
        given = Parameters.of(workload)
        return sum(_traffic_bytes(given, array) for array in self.arrays(workload))


def _traffic_bytes(given: Parameters, array: Array) -> int:
    if array.name in ("k", "v"):
        rows = sum(map(len, visible_keys(given))) * given.kv_heads
        return dtypes.size_bytes(array.dtype, (rows, array.shape[-1]))
    if array.name == "bias":
        pairs = visible_pairs(given) * math.prod(array.shape[:-2]) // given.batch
        return dtypes.size_bytes(array.dtype, (pairs,))
    return array.size_bytes


ATTENTION = Attention()
