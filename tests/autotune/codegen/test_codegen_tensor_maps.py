"""The CUDA header of a build, compiled against a driver that writes down what it is asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from naive_matmul import naive_record
from test_codegen_cuda import HOPPER

from autotune.backends.cuda.native import LibCuda
from autotune.codegen import Manifest, ManifestKernel, build
from autotune.testing.fake_libcuda import DESCRIPTOR, FakeLibCuda
from records.schedule import Schedule
from records.store import TuningDatabase
from records.target import Target
from search_spaces import registry
from search_spaces.dialect import CUDA
from search_spaces.matmul import matmul
from search_spaces.tensor_map import TensorMap

FAKE = Path(__file__).parent / "fake_cuda"
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow")
WORKLOAD = matmul(m=300, n=520, k=200, dtype="bfloat16", layout="nt")
FIRST_ADDRESS = 1 << 20  # argument i lies at FIRST_ADDRESS * (i + 1)
STREAM = 77

# Describes and launches the only kernel of a build; argument SHIFTED lies SHIFT bytes further.
PROGRAM = r"""
#include "autotune_kernels_cuda.h"
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    const autotune_kernel *kernel = autotune_kernels[0];
    const CUstream stream = (CUstream)(size_t)77;
    const char *shifted = getenv("SHIFTED"), *shift = getenv("SHIFT");
    CUfunction functions[8];
    CUdeviceptr places[32];
    void *values[32];
    size_t i;
    CUresult result;
    for (i = 0; i < kernel->argument_count; ++i) {
        places[i] = (CUdeviceptr)(1 << 20) * (i + 1);
        values[i] = &places[i];
    }
    if (shifted != NULL && shift != NULL)
        places[(size_t)atoi(shifted)] += (CUdeviceptr)atoi(shift);
    result = autotune_cuda_functions(kernel, NULL, functions);
    if (result == CUDA_SUCCESS)
        result = autotune_cuda_describe(kernel, values, stream);
    if (result == CUDA_SUCCESS)
        result = autotune_cuda_launch(kernel, functions, values, stream);
    return result == CUDA_SUCCESS ? 0 : result == CUDA_ERROR_NOT_FOUND ? 3 : 4;
}
"""


@pytest.fixture
def hopper() -> Target:
    limits = {
        **dict(HOPPER.limits),
        "shared_bytes": 232448,
        "max_unit_threads": 2048,
        "vector_bytes": 16,
        "dtypes": ("float16", "bfloat16", "float32"),
    }
    return Target.of(HOPPER.backend, HOPPER.device, HOPPER.arch, limits)


@pytest.fixture
def schedule(hopper: Target) -> Schedule:
    """One launch in clusters, with more shared memory than a kernel may have unasked."""
    template = registry.template("matmul", "wgmma")
    for each in template.space(WORKLOAD, hopper).sample(400, np.random.default_rng(0)):
        rendered = template.render(WORKLOAD, each, CUDA)
        clusters = each["cluster_m"] * each["cluster_n"]
        first, *others = rendered.launches
        large = first.shared_bytes > 48 << 10
        if clusters > 1 and large and not others and len(rendered.tensor_maps) == 3:
            return each
    raise AssertionError("no such schedule in the sample")


@pytest.fixture
def kernel(
    database: TuningDatabase, hopper: Target, schedule: Schedule, tmp_path: Path
) -> ManifestKernel:
    database.add(replace(naive_record(WORKLOAD, hopper), schedule=schedule))
    (built,) = build(database, hopper, tmp_path / "kernels").kernels
    return built


Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["gcc c99", "g++ c++11"])
def ask(kernel: ManifestKernel, tmp_path: Path, request: pytest.FixtureRequest) -> Ask:
    """Runs the program, with variables of the environment."""
    compiler, standard = request.param.split()
    if shutil.which(compiler) is None or shutil.which("gcc") is None:
        pytest.skip(f"{compiler} is not installed")
    source = tmp_path / ("main.cpp" if compiler == "g++" else "main.c")
    source.write_text(PROGRAM)
    driver, program = tmp_path / "driver.o", tmp_path / "main"
    includes = ("-I", FAKE, "-I", tmp_path / "kernels")
    done("gcc", "-std=c99", *STRICT, "-c", FAKE / "fake_driver.c", "-o", driver)
    done(compiler, f"-std={standard}", *STRICT, *includes, source, driver, "-o", program)

    def run(**environment: object) -> subprocess.CompletedProcess[str]:
        given = {name: str(value) for name, value in environment.items()}
        return subprocess.run(
            [program], capture_output=True, text=True, env={**os.environ, **given}, timeout=60
        )

    return run


def done(*command: object) -> None:
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def address_of(kernel: ManifestKernel, name: str) -> int:
    return FIRST_ADDRESS * (kernel.argument_names.index(name) + 1)


def encoding(tensor: TensorMap, address: int) -> str:
    """The fake driver's line for the call that the backend makes to measure the same kernel."""
    raw = LibCuda(FakeLibCuda()).encoded(tensor, address)
    data_type, rank, where, *rest = DESCRIPTOR.unpack(raw[: DESCRIPTOR.size])
    axes = (rest[0:5], rest[5:9], rest[9:14], rest[14:19])
    counts = (rank, rank - 1, rank, rank)
    used = [value for axis, count in zip(axes, counts, strict=True) for value in axis[:count]]
    return " ".join(map(str, ["encode", data_type, rank, where, *used, *rest[19:]]))


def test_a_host_program_describes_allows_and_launches(kernel: ManifestKernel, ask: Ask) -> None:
    (launch,) = kernel.launches
    ran = ask(PARAMETERS=len(launch.arguments))
    assert ran.returncode == 0
    expected = [f"allow {launch.kernel} 8 {launch.shared_bytes}"]
    for tensor in kernel.tensor_maps:
        array = address_of(kernel, tensor.array)
        expected.append(encoding(tensor, array))
        expected.append(f"copy {address_of(kernel, tensor.name)} {array} 128 {STREAM}")
    sizes = " ".join(map(str, (*launch.groups, *launch.group_size, launch.shared_bytes)))
    values = " ".join(str(address_of(kernel, name)) for name in launch.arguments)
    expected.append(f"launch {launch.kernel} {sizes} {STREAM}: {values}")
    assert ran.stdout.splitlines() == expected


def test_what_the_tma_does_not_take_is_an_error_before_the_launch(
    kernel: ManifestKernel, ask: Ask
) -> None:
    for name, shift in (("a", 8), ("left_map", 32)):
        ran = ask(SHIFTED=kernel.argument_names.index(name), SHIFT=shift)
        assert ran.returncode == 4 and "launch" not in ran.stdout
    assert ask(SHIFTED=kernel.argument_names.index("a"), SHIFT=16).returncode == 0
    assert ask(OLD_DRIVER=1).returncode == 3


def test_the_manifest_gives_the_measured_source_again(
    kernel: ManifestKernel, schedule: Schedule, tmp_path: Path
) -> None:
    text = (tmp_path / "kernels" / "manifest.json").read_text()
    (read,) = Manifest.from_text(text).kernels
    rendered = registry.template("matmul", "wgmma").render(WORKLOAD, schedule, CUDA)
    assert read.source(rendered.text) == rendered
    assert "__cluster_dims__" in (tmp_path / "kernels" / kernel.file).read_text()


def test_other_builds_have_no_cuda_header(
    tuned: TuningDatabase, target: Target, tmp_path: Path
) -> None:
    build(tuned, target, tmp_path / "out")
    assert not (tmp_path / "out" / "autotune_kernels_cuda.h").exists()
