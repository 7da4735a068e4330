"""Arrays, inputs, work and traffic of attention; the reference has tests of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from attention_cases import CASES, UNSEEING, case

from autotune.testing.op import OpConformance
from records.workload import Workload
from search_spaces import dtypes, registry
from search_spaces.attention import attention
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.parameters import (
    Parameters,
    visible_bounds,
    visible_keys,
    visible_pairs,
)


class TestAttention(OpConformance):
    @pytest.fixture
    def op(self) -> object:
        return registry.op("attention")

    @pytest.fixture
    def workloads(self) -> Sequence[Workload]:
        return [case(name) for name in CASES if name != "window of 1"]  # that one has no softmax


def test_arrays_of_dense_attention() -> None:
    arrays = ATTENTION.arrays(
        attention(batch=3, heads=4, kv_heads=2, q_len=5, kv_len=7, head_dim=8, v_dim=6, lse=True)
    )
    assert [(array.name, array.shape) for array in arrays] == [
        ("q", (3, 4, 5, 8)),
        ("k", (3, 2, 7, 8)),
        ("v", (3, 2, 7, 6)),
        ("out", (3, 4, 5, 6)),
        ("lse", (3, 4, 5)),
    ]


def test_arrays_of_packed_sequences_in_pages_of_float8() -> None:
    workload = attention(
        heads=4,
        q_lens=(2, 3),
        kv_lens=(9, 4),
        page_size=4,
        head_dim=8,
        dtype="bfloat16",
        kv_dtype="float8_e4m3",
        layout="bshd",
        bias="alibi",
    )
    arrays = ATTENTION.arrays(workload)
    assert [(array.name, array.shape, array.dtype) for array in arrays] == [
        ("q", (5, 4, 8), "bfloat16"),
        ("k", (4, 4, 4, 8), "float8_e4m3"),
        ("v", (4, 4, 4, 8), "float8_e4m3"),
        ("alibi_slopes", (4,), "float32"),
        ("k_scale", (), "float32"),
        ("v_scale", (), "float32"),
        ("q_offsets", (3,), "int32"),
        ("kv_lengths", (2,), "int32"),
        ("block_table", (2, 3), "int32"),
        ("out", (5, 4, 8), "bfloat16"),
    ]


@pytest.mark.parametrize("scale", [None, 0.02, 3.0])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_scores_have_one_spread_whatever_the_scale(scale: float | None, dtype: str) -> None:
    workload = attention(heads=2, q_len=200, head_dim=64, scale=scale, dtype=dtype)
    inputs = ATTENTION.inputs(workload, 0)
    q, k = (dtypes.decode(dtype, inputs[name]) for name in "qk")
    scores = Parameters.of(workload).scale * q @ k.swapaxes(-1, -2)
    assert 1.4 < scores.std() < 1.6


def test_float8_has_factors_that_give_the_same_spread() -> None:
    workload = attention(heads=4, q_len=100, head_dim=64, dtype="float16", kv_dtype="float8_e5m2")
    inputs = ATTENTION.inputs(workload, 0)
    k, v = (dtypes.decode("float8_e5m2", inputs[name]) for name in "kv")
    q = inputs["q"].astype(float)
    scores = Parameters.of(workload).scale * inputs["k_scale"] * q @ k.swapaxes(-1, -2)
    assert 0.5 * 1.4 < scores.std() < 1.5 * 1.6
    assert 0.4 < (inputs["v_scale"] * v).std() < 1.6
    assert 10 < k.std() < 20


def test_slopes_of_alibi_are_about_those_of_its_paper() -> None:
    slopes = ATTENTION.inputs(case("alibi"), 0)["alibi_slopes"]
    np.testing.assert_allclose(slopes, [2**-2, 2**-4, 2**-6, 2**-8], rtol=0.11)


def test_offsets_and_lengths_are_exact() -> None:
    inputs = ATTENTION.inputs(case("packed, other keys"), 0)
    assert inputs["q_offsets"].tolist() == [0, 5, 6, 9]
    assert inputs["kv_offsets"].tolist() == [0, 9, 21, 24]
    assert ATTENTION.inputs(case("lengths"), 0)["kv_lengths"].tolist() == [11, 3, 7]


def test_pages_lie_in_any_order_and_nothing_is_behind_the_last() -> None:
    workload = attention(heads=1, q_len=1, kv_lens=(160, 40, 1), page_size=8, head_dim=8)
    tables = [ATTENTION.inputs(workload, seed)["block_table"] for seed in (0, 1)]
    for table in tables:
        counts = [20, 5, 1]
        assert [(row >= 0).sum() for row in table] == counts
        used = [page for row, count in zip(table, counts, strict=True) for page in row[:count]]
        assert sorted(used) == list(range(26))
    assert not np.array_equal(*tables)


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
@pytest.mark.parametrize("kv_dtype", ["bfloat16", "float8_e4m3", "float8_e5m2"])
def test_what_is_no_key_is_nan(layout: str, kv_dtype: str) -> None:
    lengths = (5, 8, 0)
    workload = attention(
        heads=2,
        q_len=1,
        kv_lens=lengths,
        head_dim=4,
        dtype="bfloat16",
        kv_dtype=kv_dtype,
        layout=layout,
    )
    inputs = ATTENTION.inputs(workload, 0)
    for name in "kv":
        rows = np.isnan(dtypes.decode(kv_dtype, inputs[name]))
        rows = rows if layout == "bshd" else rows.swapaxes(1, 2)
        for batch, length in enumerate(lengths):
            assert not rows[batch, :length].any()
            assert rows[batch, length:].all()


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_so_is_the_rest_of_a_last_page(layout: str) -> None:
    workload = attention(heads=2, q_len=1, kv_lens=(5, 4), page_size=4, head_dim=4, layout=layout)
    inputs = ATTENTION.inputs(workload, 0)
    rows = inputs["k"] if layout == "bshd" else inputs["k"].swapaxes(1, 2)
    last = inputs["block_table"][0, 1]
    assert np.isnan(rows[last, 1:]).all()
    assert np.isnan(rows).sum() == 3 * 2 * 4


@pytest.mark.parametrize("name", [*CASES, *UNSEEING])
def test_what_is_visible_in_closed_form_is_what_is_visible_one_by_one(name: str) -> None:
    given = Parameters.of(case(name))
    pairs, keys = 0, []
    for sequence in given.sequences:
        each = [given.visible(sequence, query) for query in range(sequence.q_len)]
        first, end = visible_bounds(given, sequence, slice(0, sequence.q_len))
        bounds = zip(first, end, strict=True)
        assert [range(*pair) for pair in bounds] == each
        pairs += sum(map(len, each))
        keys.append(len(set().union(*each)))
    assert visible_pairs(given) == pairs
    assert [len(found) for found in visible_keys(given)] == keys


def test_work_counts_what_is_seen() -> None:
    dense = attention(batch=2, heads=3, q_len=5, kv_len=7, head_dim=8, v_dim=4)
    assert ATTENTION.flops(dense) == 2 * (8 + 4) * 2 * 3 * 5 * 7
    causal = attention(heads=3, q_len=4, kv_len=6, head_dim=8, causal=True)
    assert ATTENTION.flops(causal) == 2 * (8 + 8) * 3 * (3 + 4 + 5 + 6)
    window = attention(heads=1, q_len=5, head_dim=8, causal=True, window=2)
    assert ATTENTION.flops(window) == 2 * 16 * (1 + 2 + 2 + 2 + 2)
    long = attention(heads=16, q_len=16384, head_dim=128, causal=True)
    assert ATTENTION.flops(long) == 2 * 256 * 16 * (16384 * 16385 // 2)


def test_traffic_is_every_array_once() -> None:
    workload = attention(batch=2, heads=4, kv_heads=2, q_len=5, kv_len=7, head_dim=8, lse=True)
    q = out = 2 * 4 * 5 * 8
    kv = 2 * 2 * 7 * 8
    assert ATTENTION.bytes(workload) == 4 * (q + 2 * kv + out + 2 * 4 * 5)


def test_traffic_leaves_out_what_no_query_sees() -> None:
    window = attention(
        heads=2, q_len=1, kv_len=100, head_dim=8, causal=True, window=10, dtype="float16"
    )
    assert ATTENTION.bytes(window) == 2 * 2 * (8 + 8 + 10 * (8 + 8))
    lengths = attention(heads=1, q_len=1, kv_lens=(3, 0, 5), kv_len=50, head_dim=8)
    assert ATTENTION.bytes(lengths) == 4 * (3 * 8 + 3 * 8 + 8 * (8 + 8) + 3)
    pages = attention(heads=1, q_len=1, kv_lens=(3, 5), page_size=4, head_dim=8)
    assert ATTENTION.bytes(pages) == 4 * (2 * 8 + 2 * 8 + 8 * (8 + 8) + 2 + 2 * 2)


@pytest.mark.parametrize(("bias", "copies"), [("head", 1), ("full", 2)])
def test_traffic_of_a_bias_is_what_its_mask_leaves(bias: str, copies: int) -> None:
    shape = dict(batch=2, heads=3, q_len=4, head_dim=8, causal=True)
    with_bias = ATTENTION.bytes(attention(**shape, bias=bias))
    assert with_bias - ATTENTION.bytes(attention(**shape)) == 4 * copies * 3 * (1 + 2 + 3 + 4)


def test_large_sizes_are_counted_at_once() -> None:
    workload = attention(heads=8, q_len=2**22, head_dim=64, causal=True, window=4096)
    assert ATTENTION.flops(workload) < 2 * 128 * 8 * 2**22 * 4096
    assert ATTENTION.bytes(workload) == 4 * 4 * 8 * 2**22 * 64
