"""A C program that runs a build's kernels on a real GPU; it is compiled wherever cuda.h is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from naive_matmul import naive_record

from autotune import backends
from autotune.codegen import ManifestKernel, build
from autotune.problems import check, problem
from autotune.testing import devices
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.matmul import matmul

WORKLOADS = (
    matmul(m=300, n=520, k=200, dtype="bfloat16", layout="nt"),
    matmul(m=128, n=264, k=72, dtype="float16", epilogue="alpha,bias,relu"),
)
SCHEDULES = 2  # of each template

# run CUBIN DIRECTORY: arguments come from files of their names, outputs go there.
PROGRAM = r"""
#include "autotune_kernels_cuda.h"
#include <stdio.h>
#include <stdlib.h>

#define MOST 64

static void check(CUresult result, const char *what)
{
    if (result != CUDA_SUCCESS) {
        fprintf(stderr, "%s: error %d\n", what, (int)result);
        exit(1);
    }
}

static void transfer(const char *directory, const char *name, const char *mode, void *data,
                     size_t bytes)
{
    char path[4096];
    FILE *file;
    size_t done;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, mode);
    if (file == NULL)
        check(CUDA_ERROR_INVALID_VALUE, path);
    done = mode[0] == 'r' ? fread(data, 1, bytes, file) : fwrite(data, 1, bytes, file);
    fclose(file);
    if (done != bytes)
        check(CUDA_ERROR_INVALID_VALUE, path);
}

int main(int argc, char **argv)
{
    const autotune_kernel *kernel = autotune_kernels[0];
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUstream stream;
    CUfunction functions[MOST];
    CUdeviceptr places[MOST];
    void *values[MOST], *host[MOST];
    size_t i;
    if (argc != 3 || kernel->argument_count > MOST || kernel->launch_count > MOST)
        return 2;
    check(cuInit(0), "cuInit");
    check(cuDeviceGet(&device, 0), "cuDeviceGet");
    check(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
    check(cuCtxSetCurrent(context), "cuCtxSetCurrent");
    check(cuModuleLoad(&module, argv[1]), "cuModuleLoad");
    check(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    for (i = 0; i < kernel->argument_count; ++i) {
        const autotune_argument *argument = &kernel->arguments[i];
        const int is_scalar = argument->role == AUTOTUNE_SCALAR;
        host[i] = malloc(argument->bytes);
        if (is_scalar || argument->role == AUTOTUNE_INPUT)
            transfer(argv[2], argument->name, "rb", host[i], argument->bytes);
        if (!is_scalar)
            check(cuMemAlloc(&places[i], argument->bytes), argument->name);
        if (argument->role == AUTOTUNE_INPUT)
            check(cuMemcpyHtoD(places[i], host[i], argument->bytes), argument->name);
        values[i] = is_scalar ? host[i] : (void *)&places[i];
    }
    check(autotune_cuda_functions(kernel, module, functions), "functions");
    check(autotune_cuda_describe(kernel, values, stream), "describe");
    check(autotune_cuda_launch(kernel, functions, values, stream), "launch");
    check(cuStreamSynchronize(stream), "the kernel");
    for (i = 0; i < kernel->argument_count; ++i)
        if (kernel->arguments[i].role == AUTOTUNE_OUTPUT) {
            check(cuMemcpyDtoH(host[i], places[i], kernel->arguments[i].bytes), "output");
            transfer(argv[2], kernel->arguments[i].name, "wb", host[i],
                     kernel->arguments[i].bytes);
        }
    return 0;
}
"""


def headers() -> Path:
    """Where cuda.h is: of the toolkit, or of a package that brings it."""
    packages = [Path(entry) for entry in sys.path if entry.endswith("-packages")]
    patterns = ("nvidia/*/include/cuda.h", "triton/backends/nvidia/include/cuda.h")
    found = [*sorted(Path("/usr/local").glob("cuda*/include/cuda.h"), reverse=True)]
    found += [path for package in packages for each in patterns for path in package.glob(each)]
    if not found or shutil.which("gcc") is None:
        pytest.skip("needs gcc and cuda.h")
    return found[0].parent


def gcc(*words: object) -> None:
    command = ["gcc", "-std=c11", "-Wall", "-Werror", "-isystem", str(headers())]
    done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def built(
    template: str, workload: Workload, target: Target, turn: int, directory: Path
) -> ManifestKernel:
    space = registry.template("matmul", template).space(workload, target)
    (schedule,) = space.sample(1, np.random.default_rng(turn))
    directory.mkdir()
    with TuningDatabase(directory / "tuning.db") as database:
        database.add(replace(naive_record(workload, target), schedule=schedule))
        (kernel,) = build(database, target, directory / "kernels").kernels
    (directory / "run.c").write_text(PROGRAM)
    return kernel


def test_the_program_compiles(tmp_path: Path) -> None:
    directory = tmp_path / "portable"
    limits = {"max_group": 1024, "shared_bytes": 48 << 10, "dtypes": ("float16", "float32")}
    gpu = Target.of("cuda", "a GPU", "sm_80", {"kind": "gpu", "units": 8, "warp": 32, **limits})
    built("portable", WORKLOADS[1], gpu, 0, directory)
    gcc("-I", directory / "kernels", "-fsyntax-only", directory / "run.c")


@pytest.mark.parametrize("name", devices.names("cuda"))
@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_a_c_program_computes_what_python_does(
    name: str, workload: Workload, tmp_path: Path
) -> None:
    backend = backends.load("cuda").open(name)
    given = problem(workload, seed=0)
    serving = [
        template.name
        for template in registry.templates("matmul")
        if "cuda" in template.dialects and not template.rejects(workload, backend.target)
    ]
    assert serving
    for template in serving:
        for turn in range(SCHEDULES):
            directory = tmp_path / f"{template}-{turn}"
            kernel = built(template, workload, backend.target, turn, directory)
            text = (directory / "kernels" / kernel.file).read_text()
            (directory / "kernel.cubin").write_bytes(backend.compile(kernel.source(text)))
            for argument, array in given.inputs.items():
                (directory / argument).write_bytes(np.asarray(array).tobytes())
            program = directory / "run"
            gcc("-I", directory / "kernels", directory / "run.c", "-l:libcuda.so.1", "-o", program)
            command = [program, directory / "kernel.cubin", directory]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert ran.returncode == 0, f"{kernel.schedule}: {ran.stderr}"
            (c,) = (array for array in kernel.arrays if array.role == "output")
            found = np.fromfile(directory / "c", c.storage).reshape(c.storage_shape)
            assert check(given, {"c": found}).error == "", str(kernel.schedule)
    backend.close()
