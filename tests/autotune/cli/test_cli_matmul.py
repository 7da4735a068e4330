"""The options of a matmul beyond its sizes, as they reach the workload."""

from __future__ import annotations

import json

import pytest
from command_line import Run

from search_spaces.matmul import matmul
from search_spaces.registry import validated

DEVICE = ("--device", "sim:steady", "--json")


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ("--groups 3,0,5", {"groups": (3, 0, 5)}),
        ("-m 8 --dtype float8_e4m3 --scale row_column", {"dtype": "float8_e4m3", "m": 8,
                                                         "scale": "row_column"}),
        ("-m 8 --dtype int8 --out-dtype float16 --scale tensor --epilogue column_scale",
         {"m": 8, "dtype": "int8", "out_dtype": "float16", "scale": "tensor",
          "epilogue": "column_scale"}),
        ("-m 8 --dtype bfloat16 --b-dtype int4 --layout nt --group-size 16 --zero-point",
         {"m": 8, "dtype": "bfloat16", "b_dtype": "int4", "layout": "nt", "group_size": 16,
          "zero_point": True}),
    ],
)  # fmt: skip
def test_options_are_parameters(run: Run, words: str, params: dict[str, object]) -> None:
    outcome = run("space", "matmul", "-n", "64", "-k", "32", *words.split(), *DEVICE)
    assert outcome.code == 0, outcome.err
    expected = matmul(n=64, k=32, **params)  # type: ignore[arg-type]
    assert validated(json.loads(outcome.out)["workload"]) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "m must be a whole number"),
        ("--groups 3,x", "'3,x' are no numbers of rows; write 128,0,64"),
        ("-m 9 --groups 3,5", "m must be the sum of the groups, 8, got 9"),
        ("-m 8 --b-dtype int4", "b_dtype int4 needs A in float16 or bfloat16"),
    ],
)
def test_nonsense_is_refused(run: Run, words: str, message: str) -> None:
    outcome = run("space", "matmul", "-n", "64", "-k", "32", *words.split(), *DEVICE)
    assert outcome.code == 2 and message in outcome.err
