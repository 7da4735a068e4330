"""Attention as a build and as a Python function: integers in, two outputs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive_attention import NaiveAttention, naive_attention_record

import autotune
from autotune.backends.base import DeviceInfo
from autotune.codegen import build
from autotune.codegen.naming import kernel_name
from autotune.problems import check, problem
from records.errors import InvalidInputError
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces import registry

RAGGED = autotune.attention(heads=2, q_len=3, kv_lens=(5, 0, 9), head_dim=8, lse=True)


@pytest.fixture(autouse=True)
def naive_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TEMPLATES", [NaiveAttention()])


@pytest.fixture
def path(device: DeviceInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with one winner on the device, and an empty cache of compiled kernels."""
    monkeypatch.setattr("autotune.compile_cache.cache_directory", lambda *parts: tmp_path / "kept")
    assert device.target is not None
    with TuningDatabase(tmp_path / "real.db") as store:
        store.add(naive_attention_record(RAGGED, device.target))
    return tmp_path / "real.db"


def test_a_loaded_kernel_takes_integers_and_gives_two_outputs(
    path: Path, device: DeviceInfo
) -> None:
    facts = problem(RAGGED, seed=5)
    with autotune.load(RAGGED, device=device.name, database=path) as kernel:
        assert [array.name for array in kernel.parameters] == ["q", "k", "v", "kv_lengths"]
        outputs = kernel(*facts.inputs.values())
        assert check(facts, outputs).error == ""
        assert np.isneginf(outputs["lse"][1]).all() and not outputs["out"][1].any()
        mine = {"out": np.full((3, 2, 3, 8), np.nan, np.float32)}
        named = kernel(**facts.inputs, out=mine)
        assert named["out"] is mine["out"]
        np.testing.assert_array_equal(named["lse"], outputs["lse"])


def test_it_serves_other_lengths_of_the_same_shapes(path: Path, device: DeviceInfo) -> None:
    other = autotune.attention(heads=2, q_len=3, kv_lens=(1, 7, 2), kv_len=9, head_dim=8, lse=True)
    facts = problem(other, seed=5)
    with autotune.load(RAGGED, device=device.name, database=path) as kernel:
        assert check(facts, kernel(**facts.inputs)).error == ""


def test_integers_of_another_type_are_refused(path: Path, device: DeviceInfo) -> None:
    inputs = dict(problem(RAGGED, seed=5).inputs)
    inputs["kv_lengths"] = inputs["kv_lengths"].astype(np.int64)
    with (
        autotune.load(RAGGED, device=device.name, database=path) as kernel,
        pytest.raises(InvalidInputError, match="kv_lengths: need int32 3, got int64"),
    ):
        kernel(**inputs)


PROGRAM = r"""
#include "autotune_kernels.h"
#include <stdio.h>

int main(void)
{
    const autotune_kernel *dense =
        autotune_find_attention(1, 4, 4, 16, 16, 8, 8, "float32", 0, "bhsd", "", 0);
    const autotune_kernel *grouped =
        autotune_find_attention(2, 4, 2, 16, 32, 8, 8, "float32", 1, "bhsd", "", 0);
    const autotune_kernel *ragged =
        autotune_find_attention(3, 2, 2, 3, 9, 8, 8, "float32", 0, "bhsd", "5,0,9", 1);
    size_t i;
    if (dense == NULL || grouped == NULL || ragged == NULL || dense == grouped)
        return 1;
    if (autotune_find_attention(1, 4, 4, 16, 16, 8, 8, "float32", 1, "bhsd", "", 0) != NULL)
        return 2;
    printf("%s\n%s\n%s\n", dense->name, grouped->name, ragged->name);
    for (i = 0; i < ragged->argument_count; ++i)
        printf("%s:%s:%d ", ragged->arguments[i].name, ragged->arguments[i].dtype,
               (int)ragged->arguments[i].role);
    return 0;
}
"""


def test_a_c_program_finds_kernels_by_their_parameters(
    database: TuningDatabase, target: Target, tmp_path: Path
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    dense = autotune.attention(heads=4, q_len=16, head_dim=8)
    grouped = autotune.attention(
        batch=2, heads=4, kv_heads=2, q_len=16, kv_len=32, head_dim=8, causal=True
    )
    workloads = (dense, grouped, RAGGED)
    for workload in workloads:
        database.add(naive_attention_record(workload, target))
    build(database, target, tmp_path)
    (tmp_path / "main.c").write_text(PROGRAM)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion"]
    made = ["gcc", *strict, "-I", tmp_path, tmp_path / "main.c", "-o", tmp_path / "main"]
    subprocess.run(made, check=True, timeout=60)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    *names, arguments = done.stdout.split("\n")
    assert names == [kernel_name(workload) for workload in workloads]
    assert arguments.split() == [
        *("q:float32:0", "k:float32:0", "v:float32:0", "kv_lengths:int32:0"),
        *("out:float32:1", "lse:float32:1"),
    ]


@pytest.mark.parametrize(
    ("params", "name"),
    [
        (dict(q_len=64), "attention_1x4x64x32_float32_bhsd_"),
        (dict(batch=2, q_len=64, causal=True, window=9, dtype="bfloat16"),
         "attention_2x4x64x32_bfloat16_causal_window_9_bhsd_"),
        (dict(q_len=1, kv_len=64, kv_heads=2, v_dim=8, lse=True),
         "attention_1x4x1x32_float32_kv_heads_2_kv_len_64_v_dim_8_bhsd_lse_"),
        (dict(q_lens=(3, 1), layout="bshd", bias="alibi"),
         "attention_2x4x3x32_float32_bias_alibi_bshd_packed_"),
        (dict(q_len=1, kv_lens=(9, 5), page_size=4, dtype="float16", kv_dtype="float8_e5m2"),
         "attention_2x4x1x32_float16_kv_len_9_kv_dtype_float8_e5m2_page_size_4_bhsd_lengths_"),
    ],
)  # fmt: skip
def test_names_say_what_is_computed(params: dict[str, Any], name: str) -> None:
    found = kernel_name(autotune.attention(heads=4, head_dim=32, **params))
    assert re.fullmatch(name + "[0-9a-f]{8}", found)


def test_lengths_are_told_apart_by_the_digest() -> None:
    def named(*lengths: int) -> str:
        workload: Workload = autotune.attention(heads=4, head_dim=8, q_len=1, kv_lens=lengths)
        return kernel_name(workload)

    assert named(9, 5) != named(9, 6)
