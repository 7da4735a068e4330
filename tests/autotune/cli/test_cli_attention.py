"""The options of an attention, as they reach the workload, and how one is named."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import Run

from autotune.cli import text
from search_spaces.attention import attention
from search_spaces.registry import validated

DEVICE = ("--device", "sim:steady", "--json")
SIZES = ("--heads", "4", "--head-dim", "32")

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--q-len 64", dict(q_len=64)),
    ("--batch 2 --kv-heads 2 --q-len 8 --kv-len 64 --v-dim 16 --causal",
     dict(batch=2, kv_heads=2, q_len=8, kv_len=64, v_dim=16, causal=True)),
    ("--q-len 64 --dtype bfloat16 --kv-dtype float8_e4m3 --lse",
     dict(q_len=64, dtype="bfloat16", kv_dtype="float8_e4m3", lse=True)),
    ("--q-len 64 --window 16 --scale 0.5 --softcap 30 --bias alibi",
     dict(q_len=64, window=16, scale=0.5, softcap=30.0, bias="alibi")),
    ("--q-lens 5,0,8 --kv-lens 5,6,9 --layout bshd",
     dict(q_lens=(5, 0, 8), kv_lens=(5, 6, 9), layout="bshd")),
    ("--q-len 1 --kv-lens 37,12 --page-size 16",
     dict(q_len=1, kv_lens=(37, 12), page_size=16)),
]  # fmt: skip


@pytest.mark.parametrize(("words", "params"), OPTIONS)
def test_options_are_parameters(run: Run, words: str, params: dict[str, Any]) -> None:
    outcome = run("space", "attention", *SIZES, *words.split(), *DEVICE)
    assert outcome.code == 0, outcome.err
    expected = attention(heads=4, head_dim=32, **params)
    assert validated(outcome.json["workload"]) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "q_len must be a whole number"),
        ("--q-len 4 --kv-lens 3,x", "'3,x' are no lengths; write 128,0,64"),
        ("--q-len 4 --kv-heads 3", "kv_heads must divide heads=4, got 3"),
        ("--q-lens 4,5", "choose layout bshd"),
        ("--q-len 4 --kv-dtype float8_e4m3", "needs Q in float16 or bfloat16"),
        ("--q-len 4 --softcap -3", "softcap must be a positive number"),
    ],
)
def test_nonsense_is_refused(run: Run, words: str, message: str) -> None:
    outcome = run("space", "attention", *SIZES, *words.split(), *DEVICE)
    assert outcome.code == 2 and message in outcome.err


def test_nothing_stored_names_the_way_there(run: Run, tuned: object) -> None:
    outcome = run("best", "attention", *SIZES, "--q-len", "64", "--device", "sim:steady")
    assert outcome.code == 2
    assert "autotune tune attention" in outcome.err


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (dict(q_len=64), "attention 1×4×64×32 float32"),
        (dict(batch=3, q_len=64, causal=True, dtype="float16"),
         "attention 3×4×64×32 float16 causal"),
        (dict(q_len=1, kv_len=64, kv_heads=2, lse=True, layout="bshd"),
         "attention 1×4×1×32 float32 kv_heads 2 kv_len 64 bshd lse"),
        (dict(q_len=1, kv_lens=(7, 9), page_size=4),
         "attention 2×4×1×32 float32 kv_lens 7,9 page_size 4"),
        (dict(q_len=1, kv_lens=(7, 9, 3, 4, 5, 6, 8)),
         "attention 7×4×1×32 float32 kv_lens 7 from 3 to 9"),
    ],
)  # fmt: skip
def test_a_name_says_what_is_not_default(params: dict[str, Any], words: str) -> None:
    assert text.name(attention(heads=4, head_dim=32, **params)) == words


def test_it_is_tuned_found_raced_and_built(run: Run) -> None:
    words = ("attention", *SIZES, "--q-len", "16", "--causal")
    tuned = run("tune", *words, "--trials", "2", "--model", "none", *DEVICE)
    assert tuned.code == 0, tuned.err
    assert tuned.json["trials"] == 2 and tuned.json["best"]["gflops"] > 0
    best = run("best", *words, "--device", "sim:steady")
    assert best.code == 0 and "attention 1×4×16×32 float32 causal" in best.out
    raced = run("bench", *words, "--rounds", "1", *DEVICE)
    assert raced.code == 0 and raced.json["ours"]["time_s"] > 0
    assert "sdpa" in raced.json["absent"] and "numpy" not in raced.json["absent"]
    built = run("build", "--device", "sim:steady", "-o", "kernels", "--json")
    (name,) = built.json["kernels"]
    assert name.startswith("attention_1x4x16x32_float32_causal_bhsd_")
