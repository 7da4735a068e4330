"""Attention as an op: arrays, inputs, reference, tolerance, work."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.attention.parameters import Parameters
from search_spaces.attention.workload import attention
from search_spaces.kernel import Array


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
