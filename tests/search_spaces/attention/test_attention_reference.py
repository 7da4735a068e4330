"""The reference against the definition, element by element, and what may differ from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from attention_cases import CASES, UNSEEING, case

from autotune.problems import Problem, check
from records.workload import Workload
from search_spaces import dtypes
from search_spaces.attention import attention, operands
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.operands import Operands, Part, parts
from search_spaces.attention.parameters import Parameters, visible_bounds
from search_spaces.op import Arrays
from search_spaces.threads import slices

Values = npt.NDArray[Any]


class Naive:
    """One output row at a time in Python, from the words of `attention`."""

    def __init__(self, workload: Workload, inputs: Arrays) -> None:
        self.given = Parameters.of(workload)
        types = {array.name: array.dtype for array in ATTENTION.arrays(workload)}
        self.of = {name: dtypes.decode(types[name], array) for name, array in inputs.items()}

    def outputs(self) -> Arrays:
        given = self.given
        out, lse = np.zeros(given.out_shape), np.full(given.lse_shape, -np.inf)
        for batch, sequence in enumerate(given.sequences):
            for head in range(given.heads):
                for query in range(sequence.q_len):
                    row, logarithm = self.row(batch, head, query)
                    out[self.place(batch, head, query)] = row
                    lse[self.logarithm_place(batch, head, query)] = logarithm
        return {"out": out, "lse": lse} if given.lse else {"out": out}

    def place(self, batch: int, head: int, query: int) -> tuple[int, ...]:
        if self.given.packed:
            return (sum(self.given.q_lens[:batch]) + query, head)
        return (batch, head, query) if self.given.layout == "bhsd" else (batch, query, head)

    def logarithm_place(self, batch: int, head: int, query: int) -> tuple[int, ...]:
        if self.given.packed:
            return (head, sum(self.given.q_lens[:batch]) + query)
        return (batch, head, query)

    def kv(self, name: str, batch: int, head: int, key: int) -> Values:
        given = self.given
        head //= given.heads // given.kv_heads
        array, at = self.of[name], (batch, head, key)
        if given.page_size:
            page = int(self.of["block_table"][batch, key // given.page_size])
            at = (page, head, key % given.page_size)
        elif given.packed:
            return np.asarray(array[sum(given.kv_lens[:batch]) + key, head])
        return np.asarray(array[at if given.layout == "bhsd" else (at[0], at[2], at[1])])

    def row(self, batch: int, head: int, query: int) -> tuple[Values, float]:
        given, sequence = self.given, self.given.sequences[batch]
        position = query + sequence.kv_len - sequence.q_len
        q = self.of["q"][self.place(batch, head, query)]
        scores, values = [], []
        for key in range(sequence.kv_len):
            ahead = key - position
            if given.causal and ahead > 0:
                continue
            if given.window and abs(ahead) >= given.window:
                continue
            score = given.scale * self.of.get("k_scale", 1.0) * q @ self.kv("k", batch, head, key)
            if given.softcap:
                score = given.softcap * math.tanh(score / given.softcap)
            if given.bias == "alibi":
                score -= self.of["alibi_slopes"][head] * abs(ahead)
            elif given.bias == "head":
                score += self.of["bias"][head, query, key]
            elif given.bias == "full":
                score += self.of["bias"][batch, head, query, key]
            scores.append(score)
            values.append(self.of.get("v_scale", 1.0) * self.kv("v", batch, head, key))
        if not scores:
            return np.zeros(given.v_dim), -math.inf
        weights = np.exp(scores)
        return weights @ np.array(values) / weights.sum(), math.log(weights.sum())


@pytest.mark.parametrize("name", [*CASES, *UNSEEING])
def test_the_reference_is_the_definition(name: str) -> None:
    workload = case(name)
    inputs = ATTENTION.inputs(workload, seed=3)
    reference = ATTENTION.reference(workload, inputs)
    expected = Naive(workload, inputs).outputs()
    assert reference.keys() == expected.keys()
    for output, values in expected.items():
        np.testing.assert_allclose(reference[output], values, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["causal, more keys", "packed", "window both ways", "pages"])
def test_small_blocks_give_what_one_block_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = case(name)
    inputs = ATTENTION.inputs(workload, seed=0)
    whole = ATTENTION.reference(workload, inputs)
    allowed = ATTENTION.tolerance(workload, inputs, whole)
    for constant, value in (("ROWS", 4), ("KEYS", 3)):
        monkeypatch.setattr(operands, f"_BLOCK_{constant}", value)
    monkeypatch.setattr(operands, "_PART_ROWS", 6)
    blocks = ATTENTION.reference(workload, inputs)
    for output, values in whole.items():
        np.testing.assert_allclose(blocks[output], values, rtol=1e-12, atol=1e-13)
    again = ATTENTION.tolerance(workload, inputs, whole)
    for output, values in allowed.items():
        np.testing.assert_allclose(again[output], values, rtol=1e-4)


def test_queries_that_see_nothing_give_zeros_and_minus_infinity() -> None:
    workload = case("more queries than keys")
    problem = problem_of(workload)
    assert not problem.reference["out"][:, :, :5].any()
    assert np.isneginf(problem.reference["lse"][:, :, :5]).all()
    assert np.isfinite(problem.reference["lse"][:, :, 5:]).all()
    assert not check(problem, problem.reference).error
    for output, wrong in (("lse", -1e30), ("lse", np.inf), ("out", np.nan), ("out", 1e-6)):
        changed = {name: values.copy() for name, values in problem.reference.items()}
        changed[output][0, 1, 2] = wrong
        assert output in check(problem, changed).error


@lru_cache(maxsize=64)
def problem_of(workload: Workload, seed: int = 0) -> Problem:
    inputs = ATTENTION.inputs(workload, seed)
    reference = ATTENTION.reference(workload, inputs)
    return Problem(inputs, reference, ATTENTION.tolerance(workload, inputs, reference))


def rounded(dtype: str, values: Values) -> Values:
    return np.asarray(dtypes.decode(dtype, dtypes.encode(dtype, values)).astype(np.float32))


def flash(workload: Workload, inputs: Arrays, tile: int = 64) -> Arrays:
    """A kernel as they are written: float32 sums, exp2, weights rounded to the 16-bit type."""
    given = Parameters.of(workload)
    out, lse = np.zeros(given.out_shape), np.full(given.lse_shape, -np.inf)
    for part in parts(given, inputs):
        rows, logarithm = flash_part(part, inputs, tile)
        part.rows(out)[:, part.queries] = rounded(given.dtype, rows)
        part.logarithms(lse)[:, part.queries] = logarithm
    return {"out": out, "lse": lse} if given.lse else {"out": out}


def flash_part(part: Part, inputs: Arrays, tile: int) -> tuple[Values, Values]:
    given, numbers = part.given, Operands(part, inputs, np.float32)
    shape = (len(numbers.queries), part.queries.stop - part.queries.start)
    largest = np.full(shape, -1e30, np.float32)
    total = np.zeros(shape, np.float32)
    sums = np.zeros((*shape, given.v_dim), np.float32)
    for keys in slices(part.sequence.kv_len, tile):
        scores = numbers.scores(part.queries, keys) * np.float32(math.log2(math.e))
        new = np.maximum(largest, scores.max(axis=-1))
        factor = np.exp2(largest - new)
        weights = np.exp2(scores - new[..., None])
        total = total * factor + weights.sum(axis=-1)
        products = rounded(given.dtype, weights) @ numbers.values[keys]
        sums, largest = sums * factor[..., None] + products, new
    with np.errstate(divide="ignore"):
        logarithm = np.where(total > 0, np.log(total) + largest * math.log(2), -np.inf)
    return sums / np.where(total > 0, total, 1)[..., None], logarithm


LARGER: dict[str, dict[str, Any]] = {
    "square": dict(heads=2, q_len=384, head_dim=64, lse=True),
    "causal": dict(heads=2, q_len=384, head_dim=64, causal=True, lse=True),
    "window": dict(heads=2, q_len=384, head_dim=64, causal=True, window=100),
    "alibi": dict(heads=4, kv_heads=2, q_len=256, head_dim=80, bias="alibi", causal=True),
    "softcap": dict(heads=2, q_len=256, head_dim=64, softcap=50.0, lse=True),
    "bias": dict(heads=2, q_len=200, head_dim=96, v_dim=32, bias="head"),
    "decode": dict(heads=8, kv_heads=2, q_len=1, kv_len=8192, head_dim=128, lse=True),
    "pages": dict(heads=4, q_len=3, kv_lens=(700, 1000), page_size=16, head_dim=64, causal=True),
}
TYPES: dict[str, dict[str, Any]] = {
    "float32": dict(dtype="float32"),
    "float16": dict(dtype="float16"),
    "bfloat16": dict(dtype="bfloat16"),
    "float8": dict(dtype="bfloat16", kv_dtype="float8_e4m3"),
}


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("name", LARGER)
def test_arithmetic_as_in_kernels_is_right(name: str, types: str) -> None:
    workload = attention(**LARGER[name], **TYPES[types])
    problem = problem_of(workload, seed=1)
    for tile in (64, 4096):
        verdict = check(problem, flash(workload, problem.inputs, tile))
        assert not verdict.error
        assert verdict.max_error_ratio > 0.02  # or the bound would be far too wide


@pytest.mark.parametrize("name", UNSEEING)
def test_arithmetic_as_in_kernels_is_right_where_queries_see_nothing(name: str) -> None:
    problem = problem_of(case(name))
    assert not check(problem, flash(case(name), problem.inputs)).error


def is_seen(problem: Problem, workload: Workload, outputs: Arrays) -> bool:
    """Whether outputs, rounded as they would be stored, are told from right ones."""
    dtype = Parameters.of(workload).dtype
    return bool(check(problem, {**outputs, "out": rounded(dtype, outputs["out"])}).error)


def shifted_bounds(first: int, end: int) -> Callable[..., tuple[Values, Values]]:
    """What a kernel sees whose mask is off by that many keys."""

    def bounds(given: Parameters, sequence: Any, queries: slice) -> tuple[Values, Values]:
        right_first, right_end = visible_bounds(given, sequence, queries)
        begin = np.clip(right_first + first, 0, sequence.kv_len)
        return begin, np.maximum(begin, np.clip(right_end + end, 0, sequence.kv_len))

    return bounds


EDGES = [("causal", 0, 1), ("causal", 0, -1), ("causal", 1, 0)]
EDGES += [("window", 1, 0), ("window", -1, 0), ("window", 0, 1)]
EDGES += [("square", 0, -1), ("pages", 0, -1)]
MASKS = [(*edge, types) for edge in EDGES for types in TYPES]
MASKS += [("decode", 1, 0, "float32"), ("decode", 0, -1, "float32")]  # a key of 8192


@pytest.mark.parametrize(("name", "first", "end", "types"), MASKS)
def test_a_mask_off_by_one_is_seen(
    name: str, first: int, end: int, types: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = attention(**LARGER[name], **TYPES[types])
    problem = problem_of(workload)
    monkeypatch.setattr(operands, "visible_bounds", shifted_bounds(first, end))
    wrong = ATTENTION.reference(workload, problem.inputs)
    assert is_seen(problem, workload, wrong)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("missing", [0, 63, 200, 255])
@pytest.mark.parametrize("name", ["square", "alibi", "bias", "softcap"])
def test_a_missing_key_is_seen(
    name: str, missing: int, types: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = attention(**LARGER[name], **TYPES[types])
    missing = min(missing, workload["q_len"] - 1)
    problem = problem_of(workload)
    right = Operands.scores

    def without(self: Operands, queries: slice, keys: slice) -> Values:
        scores = right(self, queries, keys)
        scores[:, :, np.arange(keys.start, keys.stop) == missing] = -np.inf
        return scores

    monkeypatch.setattr(Operands, "scores", without)
    assert is_seen(problem, workload, ATTENTION.reference(workload, problem.inputs))


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "without softcap": ("softcap", dict(softcap=None)),
    "another softcap": ("softcap", dict(softcap=48.0)),
    "without alibi": ("alibi", dict(bias="none")),
    "another scale": ("square", dict(scale=0.1255)),
    "without mask": ("causal", dict(causal=False)),
    "without window": ("window", dict(window=None)),
}


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("change", CHANGES)
def test_another_computation_is_seen(change: str, types: str) -> None:
    name, parameters = CHANGES[change]
    workload = attention(**LARGER[name], **TYPES[types])
    problem = problem_of(workload)
    other = attention(**{**LARGER[name], **TYPES[types], **parameters})
    assert is_seen(problem, workload, ATTENTION.reference(other, problem.inputs))


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize(
    ("name", "array", "axis"),
    [("decode", "k", 1), ("decode", "v", 1), ("alibi", "alibi_slopes", 0), ("pages", "k", 0)],
)
def test_a_wrong_head_or_page_is_seen(name: str, array: str, axis: int, types: str) -> None:
    workload = attention(**LARGER[name], **TYPES[types])
    problem = problem_of(workload)
    inputs = {**problem.inputs, array: np.roll(problem.inputs[array], 1, axis)}
    assert is_seen(problem, workload, ATTENTION.reference(workload, inputs))


@pytest.mark.parametrize("name", ["square", "decode"])
def test_float8_factors_are_seen(name: str) -> None:
    workload = attention(**LARGER[name], **TYPES["float8"])
    problem = problem_of(workload)
    for factor in ("k_scale", "v_scale"):
        inputs = {**problem.inputs, factor: np.float32(problem.inputs[factor] * 1.02)}
        assert is_seen(problem, workload, ATTENTION.reference(workload, inputs))


@pytest.mark.parametrize("types", ["float32", "bfloat16"])
def test_a_block_that_is_not_rescaled_is_seen(types: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a kernel forgets that the largest score has grown."""
    workload = attention(**LARGER["square"], **TYPES[types])
    problem = problem_of(workload)
    monkeypatch.setattr(operands, "_BLOCK_KEYS", 64)
    monkeypatch.setattr("search_spaces.attention.softmax.np.exp", _exp_of_arrays_alone)
    assert is_seen(problem, workload, ATTENTION.reference(workload, problem.inputs))


def _exp_of_arrays_alone(values: Values, out: Values | None = None) -> Values:
    return np.ones_like(values) if out is None else np.exp2(values * math.log2(math.e), out=out)
