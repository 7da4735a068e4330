"""sequence.h agrees with `Parameters`: where rows lie, what queries see, what a score is."""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc import compiled

from autotune.backends.base import Backend
from autotune.device_names import open_backend
from autotune.testing import devices
from records.workload import Workload
from search_spaces.attention.combine import combine_text
from search_spaces.attention.defines import arguments, sequence_text, workload_defines
from search_spaces.attention.op import Attention
from search_spaces.attention.parameters import Parameters, Sequence
from search_spaces.attention.workload import attention
from search_spaces.dialect import CUDA, OPENCL, Dialect
from search_spaces.kernel import KernelSource

HEADER = Path(__file__).parents[3] / "search_spaces" / "attention" / "sequence.h"
PLAIN_C = """
#include <math.h>
#include <stddef.h>
typedef unsigned short ushort;
typedef unsigned char uchar;
#define EXP2(x) exp2f(x)
#define __int_as_float(x) (-HUGE_VALF)
"""
EXPORTS = """
#define MAKE sequence_of(b, queries, keys, first_query, first_key_, pages)
#define WHICH int b, int queries, int keys, int first_query, int first_key_, const int *pages
long c_q(WHICH, int h, int i) { return q_offset(MAKE, h, i); }
long c_out(WHICH, int h, int i) { return out_offset(MAKE, h, i); }
long c_lse(WHICH, int h, int i) { return lse_offset(MAKE, h, i); }
long c_k(WHICH, int h, int i) { return k_offset(MAKE, h, i); }
long c_v(WHICH, int h, int i) { return v_offset(MAKE, h, i); }
int c_first(WHICH, int i) { return first_key(MAKE, i); }
int c_end(WHICH, int i) { return end_key(MAKE, i); }
float c_bias(WHICH, float slope, const STORED *first, int i, int j)
{
    return bias_at(bias_of(slope, first), MAKE, i, j);
}
float c_tanh(float x) { return accurate_tanh(x); }
float c_lse_value(float largest, float sum) { return natural_lse(largest, sum); }
"""


def library(parameters: Parameters, directory: Path) -> Any:
    """The functions of sequence.h for one workload, as a library of wrappers in plain C."""
    source, result = directory / "sequence.c", directory / "sequence.so"
    types = "#define STORED_TO_FLOAT(x) (x)\n"  # conversions are the prelude's
    defines = workload_defines(parameters, OPENCL).split("#endif\n\n")[-1]
    kept = [line for line in defines.splitlines() if "_TO_" not in line]
    text = "\n".join([PLAIN_C, *kept, types, HEADER.read_text(), EXPORTS])
    source.write_text(text)
    strict = ("-std=c99", "-O1", "-Wall", "-Werror", "-Wno-unused-function", "-shared", "-fPIC")
    try:
        subprocess.run(["gcc", *strict, source, "-o", result, "-lm"], check=True)
    except FileNotFoundError:
        pytest.skip("needs gcc")
    loaded = ctypes.CDLL(str(result))
    for name in ("c_q", "c_out", "c_lse", "c_k", "c_v"):
        getattr(loaded, name).restype = ctypes.c_long
    for name in ("c_bias", "c_tanh", "c_lse_value"):
        getattr(loaded, name).restype = ctypes.c_float
    return loaded


LENGTHS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=3)


@st.composite
def workloads(draw: Any) -> Workload:
    """Every way that sequences can lie, and every mask."""
    kv_heads, head_dim, v_dim = (draw(st.integers(1, 3)) for _ in range(3))
    common: dict[str, Any] = {
        "kv_heads": kv_heads,
        "heads": kv_heads * draw(st.integers(1, 3)),
        "head_dim": head_dim,
        "v_dim": v_dim,
        "causal": draw(st.booleans()),
        "window": draw(st.none() | st.integers(1, 7)),
        "page_size": draw(st.none() | st.integers(1, 4)),
        "layout": draw(st.sampled_from(["bhsd", "bshd"])),
    }
    if draw(st.booleans()):
        sizes = {name: draw(st.integers(1, 8)) for name in ("batch", "q_len", "kv_len")}
        return attention(**sizes, **common)
    lengths = draw(LENGTHS)
    q_lens, kv_lens = [q for q, _ in lengths], [kv for _, kv in lengths]
    common |= {"kv_lens": kv_lens, "kv_len": max(1, *kv_lens)}
    if draw(st.booleans()) and max(q_lens) > 0:
        return attention(**common | {"q_lens": q_lens, "layout": "bshd"})
    return attention(**common, q_len=draw(st.integers(1, 8)))


def placed(parameters: Parameters) -> Iterator[tuple[int, Sequence, tuple[int, int], list[int]]]:
    """Sequences with their first rows of packed Q and K, and their pages, in reverse order."""
    first_query = first_key = 0
    free = list(range(parameters.pages if parameters.page_size else 0))
    for index, sequence in enumerate(parameters.sequences):
        count = -(-sequence.kv_len // parameters.page_size) if parameters.page_size else 0
        pages = [free.pop() for _ in range(count)]
        yield index, sequence, (first_query, first_key), pages
        first_query += sequence.q_len * parameters.packed
        first_key += sequence.kv_len * parameters.packed_kv


def row_of(parameters: Parameters, index: int, first: int, pages: list[int], key: int) -> Any:
    """Of K or V: (sequence or page, row)."""
    if parameters.page_size:
        return pages[key // parameters.page_size], key % parameters.page_size
    return (0, first + key) if parameters.packed else (index, key)


def element(parameters: Parameters, shape: tuple[int, ...], at: int, head: int, row: int) -> int:
    """Where, in a C-contiguous array of `shape`, row `row` of a head begins."""
    if len(shape) == 3:
        return int(np.ravel_multi_index((row, head, 0), shape))
    place = (at, head, row, 0) if parameters.layout == "bhsd" else (at, row, head, 0)
    return int(np.ravel_multi_index(place, shape))


@settings(max_examples=40, deadline=None)
@given(workload=workloads())
def test_rows_and_visible_keys_are_those_of_the_parameters(workload: Workload) -> None:
    parameters = Parameters.of(workload)
    with TemporaryDirectory() as directory:
        compiled_c = library(parameters, Path(directory))
        for index, sequence, firsts, pages in placed(parameters):
            table = (ctypes.c_int * len(pages))(*pages)
            which = (index, sequence.q_len, sequence.kv_len, *firsts, table)
            check_queries(parameters, compiled_c, sequence, which)
            check_keys(parameters, compiled_c, sequence, which, pages)


def check_queries(
    parameters: Parameters, compiled_c: Any, sequence: Sequence, which: tuple[Any, ...]
) -> None:
    index, first_query = which[0], which[3]
    for query in range(sequence.q_len):
        seen = parameters.visible(sequence, query)
        keys = range(compiled_c.c_first(*which, query), compiled_c.c_end(*which, query))
        assert list(keys) == list(seen)
        assert 0 <= keys.start <= keys.stop <= sequence.kv_len
        for head in range(parameters.heads):
            row = first_query + query
            q, out = parameters.q_shape, parameters.out_shape
            assert compiled_c.c_q(*which, head, query) == element(parameters, q, index, head, row)
            assert compiled_c.c_out(*which, head, query) == element(
                parameters, out, index, head, row
            )
            place = (head, row) if parameters.packed else (index, head, query)
            expected = np.ravel_multi_index(place, parameters.lse_shape)
            assert compiled_c.c_lse(*which, head, query) == expected


def check_keys(
    parameters: Parameters,
    compiled_c: Any,
    sequence: Sequence,
    which: tuple[Any, ...],
    pages: list[int],
) -> None:
    for key, head in product(range(sequence.kv_len), range(parameters.kv_heads)):
        at, row = row_of(parameters, which[0], which[4], pages, key)
        k, v = parameters.k_shape, parameters.v_shape
        assert compiled_c.c_k(*which, head, key) == element(parameters, k, at, head, row)
        assert compiled_c.c_v(*which, head, key) == element(parameters, v, at, head, row)


LOG2_E = math.log2(math.e)


def test_biases(tmp_path: Path) -> None:
    """In units of log2; the position of a query counts from the end of the keys."""
    which = (0, 2, 5, 0, 0, None)
    alibi = Parameters.of(attention(heads=1, q_len=2, kv_len=5, head_dim=4, bias="alibi"))
    slopes = library(alibi, tmp_path)
    found = slopes.c_bias(*which, ctypes.c_float(0.5 * LOG2_E), None, 1, 1)
    assert found == pytest.approx(-0.5 * 3 * LOG2_E, rel=1e-6)
    after = slopes.c_bias(*which, ctypes.c_float(0.5 * LOG2_E), None, 0, 4)
    assert after == pytest.approx(-0.5 * 1 * LOG2_E, rel=1e-6)
    (tmp_path / "head").mkdir()
    head = Parameters.of(attention(heads=1, q_len=2, kv_len=5, head_dim=4, bias="head"))
    values = np.arange(10, dtype=np.float32)
    found = library(head, tmp_path / "head").c_bias(
        *which, ctypes.c_float(0), ctypes.c_void_p(values.ctypes.data), 1, 3
    )
    assert found == pytest.approx(8 * LOG2_E, rel=1e-6)


def test_tanh_and_logarithms_of_sums(tmp_path: Path) -> None:
    functions = library(Parameters.of(attention(heads=1, q_len=1, head_dim=1)), tmp_path)
    points = np.concatenate([np.geomspace(1e-30, 30, 2000), np.linspace(0.5, 0.7, 500)])
    for x in np.concatenate([points, -points, [0.0]]).astype(np.float32).tolist():
        found, exact = functions.c_tanh(ctypes.c_float(x)), math.tanh(x)
        assert abs(found - exact) <= 4 * 2.0**-24 * abs(exact)
    lse = functions.c_lse_value(ctypes.c_float(3.0), ctypes.c_float(4.0))
    assert lse == pytest.approx(math.log(2.0**3 * 4), rel=1e-6)
    assert functions.c_lse_value(ctypes.c_float(0.0), ctypes.c_float(0.0)) == -math.inf


PROBE = """
KERNEL GROUP_SIZE(1, 1, 1) void probe(
    GLOBAL const STORED *RESTRICT q, GLOBAL const STORED_KV *RESTRICT k,
    GLOBAL const STORED_KV *RESTRICT v INPUT_PARAMETERS,
    GLOBAL STORED *RESTRICT out LSE_PARAMETER)
{
    Sequence s = SEQUENCE(GROUP_ID(0));
    const int head = GROUP_ID(1), query = GROUP_ID(2);
    const int kv_head = head / HEADS_PER_KV_HEAD;
    float sum = 0.0f, weights = 0.0f;
    for (int key = first_key(s, query); key < end_key(s, query); key++) {
        const float x = SCORE_FACTOR * STORED_TO_FLOAT(q[q_offset(s, head, query)]) *
                        KV_TO_FLOAT(k[k_offset(s, kv_head, key)]);
        const float weight = exp2(score(x, BIAS_OF(s, head), s, query, key));
        sum += weight * KV_TO_FLOAT(v[v_offset(s, kv_head, key)]);
        weights += weight;
    }
    out[out_offset(s, head, query)] = FLOAT_TO_STORED(VALUE_FACTOR * sum / weights);
#if LSE
    lse[lse_offset(s, head, query)] = natural_lse(0.0f, weights);
#endif
}
"""
LENS: dict[str, Any] = {"kv_lens": [3, 5], "kv_len": 8}
FEATURES: tuple[dict[str, Any], ...] = (
    {"q_len": 4},
    {"q_len": 4, "causal": True, "window": 3, "softcap": 30.0, "bias": "alibi", "lse": True},
    {"q_len": 4, "kv_len": 6, "bias": "head", "dtype": "float16", "layout": "bshd"},
    {"q_len": 4, "bias": "full", "dtype": "bfloat16", "softcap": 5.0},
    {"q_len": 4, "dtype": "float16", "kv_dtype": "float8_e5m2", **LENS},
    {"q_len": 4, "dtype": "bfloat16", "kv_dtype": "float8_e4m3", "page_size": 2, **LENS},
    {"q_lens": [1, 2], "kv_lens": [3, 5], "layout": "bshd", "lse": True},
    {"q_lens": [1, 2], "kv_lens": [3, 5], "layout": "bshd", "page_size": 2},
    {"batch": 1000, "q_len": 4000, "kv_len": 2**16},
)


def probe(features: dict[str, Any], dialect: Dialect) -> KernelSource:
    workload = attention(heads=4, kv_heads=2, head_dim=16, **features)
    parameters = Parameters.of(workload)
    parts = (dialect.prelude, workload_defines(parameters, dialect), sequence_text(), PROBE)
    return KernelSource(dialect.name, "\n".join(parts), (), Attention().arrays(workload))


def combining(features: dict[str, Any], dialect: Dialect) -> KernelSource:
    source = probe(features, dialect)
    text = source.text.replace(PROBE, combine_text())
    return KernelSource(dialect.name, text, (), source.arrays)


@pytest.fixture(scope="module", params=devices.names("opencl"))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = open_backend(request.param)
    yield opened
    opened.close()


@pytest.mark.parametrize("features", FEATURES, ids=str)
def test_it_compiles_as_opencl(backend: Backend, features: dict[str, Any]) -> None:
    assert backend.compile(probe(features, OPENCL))
    assert backend.compile(combining(features, OPENCL))


@pytest.mark.parametrize("features", FEATURES, ids=str)
def test_it_compiles_as_cuda(features: dict[str, Any]) -> None:
    arch = "sm_90a" if "kv_dtype" in features else "sm_80"
    for source, name in ((probe(features, CUDA), "probe"), (combining(features, CUDA), "combine")):
        result = compiled(source, arch)
        assert "warning" not in result.log
        assert result.stack_bytes == {name: 0}


def test_it_compiles_by_itself(backend: Backend) -> None:
    assert backend.compile(KernelSource("opencl", OPENCL.prelude + HEADER.read_text(), (), ()))


def test_defaults_are_those_of_a_plain_workload() -> None:
    plain = Parameters.of(attention(heads=8, q_len=1024, head_dim=64))
    written = workload_defines(plain, OPENCL).splitlines()
    kept = [" ".join(line.partition("//")[0].split()) for line in HEADER.read_text().splitlines()]
    assert set(written) <= set(kept)


@pytest.mark.parametrize("features", FEATURES, ids=str)
def test_arguments_are_the_arrays_of_the_op(features: dict[str, Any]) -> None:
    workload = attention(heads=4, kv_heads=2, head_dim=16, **features)
    names = tuple(array.name for array in Attention().arrays(workload))
    assert names == ("q", "k", "v", *arguments(Parameters.of(workload)))
