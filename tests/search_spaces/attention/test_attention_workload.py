"""The constructor of attention workloads: what it fills in, what it refuses, and its words."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.attention import attention
from search_spaces.attention.parameters import Parameters, Strides

SMALL: dict[str, Any] = dict(heads=4, q_len=8, head_dim=16)


def test_a_workload_names_only_what_is_not_a_default() -> None:
    assert attention(**SMALL).values == {
        "dtype": "float32", "head_dim": 16, "heads": 4, "q_len": 8
    }  # fmt: skip
    spelled = attention(
        **SMALL,
        batch=1,
        kv_heads=4,
        kv_len=8,
        v_dim=16,
        kv_dtype="float32",
        causal=False,
        window=None,
        scale=0.25,
        softcap=None,
        bias="none",
        layout="bhsd",
        q_lens=(),
        kv_lens=[],
        page_size=None,
        lse=False,
    )
    assert spelled == attention(**SMALL)


def test_defaults_are_filled_in_when_it_is_read() -> None:
    given = Parameters.of(attention(heads=6, q_len=8, head_dim=64, dtype="bfloat16"))
    assert (given.batch, given.kv_heads, given.kv_len, given.v_dim) == (1, 6, 8, 64)
    assert (given.kv_dtype, given.scale, given.window, given.softcap) == ("bfloat16", 1 / 8, 0, 0)


def test_lengths_give_the_batch_and_the_longest() -> None:
    given = Parameters.of(
        attention(heads=2, q_lens=(3, 7), kv_lens=[9, 5], head_dim=8, layout="bshd")
    )
    assert (given.batch, given.q_len, given.kv_len, given.total_q) == (2, 7, 9, 10)
    assert given.q_shape == (10, 2, 8) and given.k_shape == (14, 2, 8)
    same = Parameters.of(attention(heads=2, q_lens=(3, 7), head_dim=8, layout="bshd"))
    assert same.kv_lens == (3, 7)


def test_pages_come_with_full_lengths_by_default() -> None:
    given = Parameters.of(attention(batch=2, heads=2, q_len=1, kv_len=9, head_dim=8, page_size=4))
    assert given.kv_lens == (9, 9)
    assert (given.pages, given.pages_per_sequence) == (6, 3)


@pytest.mark.parametrize(
    ("parameters", "strides"),
    [
        (dict(), Strides(4 * 8 * 16, 8 * 16, 16)),
        (dict(layout="bshd"), Strides(4 * 8 * 16, 16, 4 * 16)),
        (dict(layout="bshd", q_lens=(8, 2), q_len=8), Strides(0, 16, 4 * 16)),
    ],
)
def test_strides_are_those_of_the_array(parameters: dict[str, Any], strides: Strides) -> None:
    given = Parameters.of(attention(**{**SMALL, **parameters}))
    assert given.q_strides == strides
    array = np.empty(given.q_shape, np.uint8)
    at = (1, 1, 1) if given.packed else (0, 1, 1, 1)
    place = strides.head + strides.row + 1
    assert sum(i * step for i, step in zip(at, array.strides, strict=True)) == place


def test_numbers_of_numpy_are_numbers() -> None:
    given = attention(heads=np.int64(4), q_len=np.int32(8), head_dim=16, q_lens=())
    assert given == attention(**SMALL)
    assert json.loads(json.dumps(given.to_json()))["params"]["heads"] == 4


def test_lists_survive_json() -> None:
    workload = attention(heads=2, q_len=1, kv_lens=(9, 5), head_dim=8, page_size=4)
    assert Workload.from_json(json.loads(json.dumps(workload.to_json()))) == workload


BAD: list[tuple[dict[str, Any], str]] = [
    (dict(heads=0), "heads must be a whole number from 1 to 65535, got 0"),
    (dict(heads=2.5), "heads must be a whole number.*got 2.5; pass an int"),
    (dict(heads=True), "heads must be a whole number.*got True"),
    (dict(q_len=None), "q_len must be a whole number.*got None"),
    (dict(q_len=2**24 + 1), "q_len must be a whole number from 1 to 16777216"),
    (dict(kv_len=0), "kv_len must be a whole number"),
    (dict(batch=0), "batch must be a whole number"),
    (dict(head_dim=513), "head_dim must be a whole number from 1 to 512, got 513"),
    (dict(v_dim=0), "v_dim must be"),
    (dict(kv_heads=3), "kv_heads must divide heads=4, got 3; choose a divisor"),
    (dict(kv_heads=8), "kv_heads must be a whole number from 1 to 4"),
    (dict(dtype="float64"), "dtype must be float32 or float16 or bfloat16, got 'float64'"),
    (dict(kv_dtype="float8_e4m3"), "needs Q in float16 or bfloat16, got float32"),
    (dict(dtype="float16", kv_dtype="int8"), "kv_dtype must be float16 or float8_e4m3"),
    (dict(layout="bsdh"), "layout must be bhsd or bshd"),
    (dict(bias="rope"), "bias must be none or alibi or head or full"),
    (dict(causal=1), "causal must be true or false, got 1"),
    (dict(lse="yes"), "lse must be true or false"),
    (dict(window=0), "window must be a whole number from 1"),
    (dict(page_size=0), "page_size must be a whole number from 1"),
    (dict(scale=0.0), "scale must be a positive number, got 0.0"),
    (dict(scale=math.nan), "scale must be a positive number"),
    (dict(scale="big"), "scale must be a positive number.*pass a float"),
    (dict(softcap=-1.0), "softcap must be a positive number"),
    (dict(softcap=math.inf), "softcap must be a positive number"),
    (dict(q_lens=(8,), layout="bhsd"), "packed.*choose layout bshd"),
    (dict(q_lens=(8, 3), kv_lens=(8,), layout="bshd"), "as many, got 2 and 1"),
    (dict(q_lens=(7,), layout="bshd"), "q_len must be the longest of q_lens, 7, got 8"),
    (dict(kv_lens=(3, 4), batch=3), "batch must be the number of lengths, 2, got 3"),
    (dict(kv_lens=(3, 4), kv_len=3), "kv_len must be at least the longest of kv_lens, 4"),
    (dict(kv_lens=(3, -1)), "every one of kv_lens must be a whole number from 0"),
    (dict(kv_lens="3,4"), "kv_lens must be lengths"),
    (dict(kv_lens=(1,) * 65536), "at most 65535 sequences"),
    (dict(kv_lens=(3, 4), bias="head"), "bias head is for sequences of one length"),
    (dict(kv_lens=(2**24,) * 129, page_size=1), "at most 2147483647 rows of all sequences"),
    (dict(batch=2**16 - 1, q_len=2**24), "the limit is 2.40"),
    (dict(kv_len=2**24, q_len=2**24, bias="head"), "bias would have .* elements"),
]


@pytest.mark.parametrize(("parameters", "words"), BAD)
def test_nonsense_is_refused_in_words(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        attention(**{**SMALL, **parameters})


def test_all_keys_may_be_missing_but_not_all_queries() -> None:
    assert attention(heads=1, q_lens=(2, 0), kv_lens=(0, 0), kv_len=1, head_dim=4, layout="bshd")
    with pytest.raises(InvalidInputError, match="q_len must be a whole number from 1"):
        attention(heads=1, q_lens=(0, 0), kv_lens=(1, 2), head_dim=4, layout="bshd")
