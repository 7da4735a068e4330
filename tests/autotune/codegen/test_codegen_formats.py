"""Manifest, names and C text as formats: round trips, and one small build kept as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_matmul import naive_record

from autotune.codegen import Manifest, ManifestKernel, build
from autotune.codegen.c_text import comment, pieces, string
from autotune.codegen.naming import kernel_name
from records.errors import InvalidInputError
from records.schedule import Schedule
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces.kernel import Array, Launch, Scratch
from search_spaces.matmul import matmul
from search_spaces.tensor_map import TensorMap

GOLDEN = Path(__file__).parent / "golden"

words = st.text(min_size=1, max_size=8)
sizes = st.integers(0, 2**40)
triples = st.tuples(sizes, sizes, sizes)
scalars = st.booleans() | sizes | st.floats(allow_nan=False, allow_infinity=False) | words
values = scalars | st.lists(scalars, max_size=3).map(tuple)
params = st.dictionaries(words, values, max_size=4)
arrays = st.builds(
    Array,
    words,
    st.lists(sizes, max_size=4).map(tuple),
    st.sampled_from(["float32", "float16"]),
    st.sampled_from(["input", "output", "scalar"]),
)
kernels = st.builds(
    ManifestKernel,
    name=words,
    workload=st.builds(Workload.of, words, params),
    schedule=st.builds(Schedule.of, words, sizes, params),
    dialect=words,
    file=words,
    sha256=words,
    options=st.lists(words, max_size=3).map(tuple),
    arrays=st.lists(arrays, max_size=4).map(tuple),
    scratch=st.lists(st.builds(Scratch, words, sizes), max_size=2).map(tuple),
    launches=st.lists(
        st.builds(Launch, words, triples, triples, st.lists(words).map(tuple), sizes), max_size=2
    ).map(tuple),
    expected_time_s=st.floats(1e-9, 1e3),
    flops=st.floats(0, 1e18),
    measured_at=words,
    how=words,
    tensor_maps=st.lists(
        st.builds(
            TensorMap,
            name=words,
            array=words,
            dtype=st.sampled_from(["float32", "bfloat16"]),
            shape=st.tuples(st.integers(1, 9), st.just(64)),
            box=st.tuples(st.integers(1, 9), st.just(16)),
            swizzle_bytes=st.sampled_from([0, 64, 128]),
            fill=st.sampled_from(["zero", "nan"]),
        ),
        max_size=2,
    ).map(tuple),
)
manifests = st.builds(
    Manifest,
    st.builds(Target.of, words, words, words, params),
    st.lists(kernels, max_size=3).map(tuple),
    st.dictionaries(words, words),
)


@given(manifests)
def test_manifest_round_trip(manifest: Manifest) -> None:
    text = manifest.to_text()
    assert Manifest.from_text(text) == manifest
    assert Manifest.from_text(text).to_text() == text


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "autotune-kernels", "format_version": 1}', '{"format": "x"}'],
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Manifest.from_text(text)


@given(st.text() | st.text('?\\"=08'))
def test_c_strings_hold_printable_ascii_only(text: str) -> None:
    literal = string(text)
    assert re.fullmatch(r'"([ -!#-\[\]-~]|\\.[0-7]*)*"', literal)
    assert "??" not in literal
    unescaped = re.sub(
        r"\\([0-7]{3}|.)",
        lambda found: (
            {"n": "\n", "t": "\t"}.get(found[1])
            or (chr(int(found[1], 8)) if len(found[1]) == 3 else found[1])
        ),
        literal[1:-1],
    )
    assert unescaped.encode("latin-1").decode() == text


@given(st.text(), st.integers(1, 5))
def test_pieces_join_to_the_text(text: str, longest: int) -> None:
    assert "".join(pieces(text, longest)) == text
    assert all(0 < len(piece) <= longest for piece in pieces(text, longest))


@given(st.lists(st.text() | st.text("?/\\ ab"), max_size=3))
def test_a_comment_stays_a_comment(lines: list[str]) -> None:
    text = comment(lines)
    for line in text.split("\n")[:-1]:
        assert line.startswith("//") and len(line) <= 100 and not line.endswith("\\")
    assert "??/" not in text  # a trigraph for a backslash


@given(st.text(min_size=1, max_size=200), params)
def test_names_are_c_identifiers(op: str, given_params: dict[str, object]) -> None:
    name = kernel_name(Workload.of(f"op{op}", given_params))
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*_[0-9a-f]{8}", name)
    assert len(name) <= 120


def test_names_tell_workloads_apart_in_words() -> None:
    names = [
        kernel_name(matmul(m=1024, n=512, k=64, **rest))
        for rest in (
            {"epilogue": "bias,gelu"},
            {"batch": 3, "dtype": "float16", "layout": "tn"},
            {"dtype": "float16", "accumulate": "float16"},
        )
    ]
    assert [name.rpartition("_")[0] for name in names] == [
        "matmul_1024x512x64_float32_nn_bias_gelu",
        "matmul_1024x512x64_batch3_float16_accumulate_float32_tn",
        "matmul_1024x512x64_float16_nn",
    ]


def test_a_small_build_as_kept(
    request: pytest.FixtureRequest, database: TuningDatabase, tmp_path: Path
) -> None:
    """Change the kept files with `pytest --update-golden`, and read the difference."""
    target = Target.of("opencl", "Example device", "x86-64-avx2", {"kind": "cpu", "units": 8})
    fused = matmul(m=5, n=6, k=7, epilogue="alpha,bias,relu")
    database.add(naive_record(fused, target, staged=True))
    build(database, target, tmp_path / "out")
    built = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    if request.config.getoption("--update-golden", default=False):
        for path in GOLDEN.iterdir():
            path.unlink()
        for name, text in built.items():
            (GOLDEN / name).write_text(text)
    assert built == {path.name: path.read_text() for path in GOLDEN.iterdir()}
