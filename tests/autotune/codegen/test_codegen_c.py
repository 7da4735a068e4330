"""The headers and the CMake package, under real compilers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from naive_matmul import naive_record

from autotune.codegen import BuildResult, build
from records.store import TuningDatabase
from records.target import Target
from records.workload import Workload
from search_spaces.matmul import matmul

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
PROGRAM = r"""
#include "autotune_kernels.h"
#include "autotune_kernels_sources.h"
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    const autotune_kernel *kernel =
        autotune_find_matmul(5, 6, 7, 1, "float32", NULL, "nn", "alpha,bias,relu");
    const autotune_source *source;
    char *text;
    size_t i, j;
    if (kernel == NULL || kernel != autotune_find_kernel(kernel->name))
        return 1;
    if (autotune_find_matmul(5, 6, 7, 1, "float64", NULL, "nn", "alpha,bias,relu") != NULL)
        return 2;
    if (autotune_find_matmul(5, 6, 7, 1, "float32", "float32", "nn", "") != NULL)
        return 3;
    printf("%s\n%s\n%s\n%s\n", kernel->file, kernel->workload, kernel->options, kernel->dialect);
    printf("%.17g %.17g %zu\n", kernel->expected_time_s, kernel->flops, kernel->scratch_bytes);
    for (i = 0; i < kernel->argument_count; ++i) {
        const autotune_argument *argument = &kernel->arguments[i];
        printf("%s:%s:%d:%zu:", argument->name, argument->dtype, (int)argument->role,
               argument->bytes);
        for (j = 0; j < argument->rank; ++j)
            printf("%zu,", argument->shape[j]);
        printf(" ");
    }
    printf("\n");
    for (i = 0; i < kernel->launch_count; ++i) {
        const autotune_launch *launch = &kernel->launches[i];
        printf("%s %zu %zu %zu:", launch->function, launch->groups[0], launch->group_size[1],
               launch->global_size[1]);
        for (j = 0; j < launch->argument_count; ++j)
            printf(" %s", kernel->arguments[launch->arguments[j]].name);
        printf("\n");
    }
    printf("%s\n", AUTOTUNE_TARGET_DEVICE);
    source = autotune_find_source(kernel);
    text = (char *)malloc(source->length + 1);
    autotune_copy_source(source, text);
    printf("%s", text);
    free(text);
    return 0;
}
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def done(*command: object) -> str:
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_output(output: str, result: BuildResult, directory: Path) -> None:
    """What the C program read must be what the manifest says."""
    kernel = next(kernel for kernel in result.kernels if kernel.scratch)
    lines = output.split("\n", 9)
    assert lines[0] == kernel.file
    assert Workload.from_json(json.loads(lines[1])) == kernel.workload
    assert lines[2:4] == ["-cl-std=CL1.2", "opencl"]
    assert lines[4] == f"{kernel.expected_time_s:.17g} {kernel.flops:.17g} 140"
    assert lines[5].split() == [
        "a:float32:0:140:5,7,",
        "b:float32:0:168:7,6,",
        "alpha:float32:2:4:",
        "bias:float32:0:24:6,",
        "c:float32:1:120:5,6,",
        "copy::3:140:",
    ]
    assert lines[6:8] == ["stage 35 1 1: a copy", "multiply 6 1 5: a b alpha bias c copy"]
    assert lines[8] == result.manifest.target.device
    assert lines[9] == (directory / kernel.file).read_text()


@pytest.mark.parametrize(
    ("compiler", "standard"), [("gcc", "c99"), ("gcc", "c17"), ("g++", "c++11"), ("g++", "c++20")]
)
def test_headers_in_c_and_cpp(
    tuned: TuningDatabase, target: Target, tmp_path: Path, compiler: str, standard: str
) -> None:
    found = tool(compiler)
    out = tmp_path / "out"
    result = build(tuned, target, out)
    program = tmp_path / ("main.cpp" if compiler == "g++" else "main.c")
    program.write_text(PROGRAM)
    unused = tmp_path / f"unused{program.suffix}"  # including without using must not warn either
    unused.write_text('#include "autotune_kernels_sources.h"\n')
    done(found, f"-std={standard}", *STRICT, "-I", out, program, unused, "-o", tmp_path / "main")
    check_output(done(tmp_path / "main"), result, out)


def test_long_lines_of_a_kernel_stay_within_what_c_promises(
    tuned: TuningDatabase, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import naive_matmul

    found = tool("gcc")
    long = "// " + '😀?\\"' * 4000 + "\n"
    monkeypatch.setattr(naive_matmul, "_TEXT", long + naive_matmul._TEXT)
    out = tmp_path / "out"
    result = build(tuned, target, out)
    (tmp_path / "main.c").write_text(PROGRAM)
    done(found, "-std=c99", *STRICT, "-I", out, tmp_path / "main.c", "-o", tmp_path / "main")
    check_output(done(tmp_path / "main"), result, out)


def test_many_shapes_are_told_apart(
    database: TuningDatabase, target: Target, tmp_path: Path
) -> None:
    found = tool("gcc")
    workloads = [
        matmul(m=m, n=n, k=2, epilogue=epilogue)
        for m in (1, 2, 2**31 - 1)
        for n in (1, 2)
        for epilogue in ("", "bias", "bias,relu", "relu,bias")
    ]
    for workload in workloads:
        database.add(naive_record(workload, target))
    build(database, target, tmp_path)
    lookups = "".join(
        f'puts(autotune_find_matmul({w["m"]}, {w["n"]}, 2, 1, "float32", "float32", "nn", '
        f'"{",".join(w["epilogue"])}")->workload);'
        for w in workloads
    )
    (tmp_path / "main.c").write_text(
        f'#include <stdio.h>\n#include "autotune_kernels.h"\nint main(void){{{lookups}return 0;}}'
    )
    done(found, "-std=c99", *STRICT, tmp_path / "main.c", "-o", tmp_path / "main")
    lines = done(tmp_path / "main").splitlines()
    assert [Workload.from_json(json.loads(line)) for line in lines] == workloads


def test_a_parameter_that_only_some_kernels_have_is_empty_for_the_others(
    database: TuningDatabase, target: Target, tmp_path: Path
) -> None:
    found = tool("gcc")
    plain, grouped, wide = (
        matmul(m=4, n=2, k=2, dtype="float16"),
        matmul(groups=[3, 0, 1], n=2, k=2, dtype="float16"),
        matmul(m=4, n=2, k=2, dtype="float16", out_dtype="float32"),
    )
    for workload in (plain, grouped, wide):
        database.add(naive_record(workload, target))
    build(database, target, tmp_path)
    lookups = "".join(
        f'puts(autotune_find_matmul(4, 2, 2, 1, "float16", NULL, "nn", "", "{out_dtype}", '
        f'"{groups}")->workload);'
        for out_dtype, groups in (("", ""), ("", "3,0,1"), ("float32", ""))
    )
    (tmp_path / "main.c").write_text(
        f'#include <stdio.h>\n#include "autotune_kernels.h"\nint main(void){{{lookups}return 0;}}'
    )
    done(found, "-std=c99", *STRICT, tmp_path / "main.c", "-o", tmp_path / "main")
    lines = done(tmp_path / "main").splitlines()
    assert [Workload.from_json(json.loads(line)) for line in lines] == [plain, grouped, wide]


CMAKE_PROJECT = """\
cmake_minimum_required(VERSION 3.16)
project(consumer C CXX)
set(CMAKE_C_STANDARD 99)
set(CMAKE_CXX_STANDARD 11)
find_package(autotune_kernels REQUIRED PATHS "${KERNELS}" NO_DEFAULT_PATH)
find_package(autotune_kernels REQUIRED PATHS "${KERNELS}" NO_DEFAULT_PATH)  # twice is fine
foreach(source main.c twin.cpp)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Werror -pedantic)
  target_link_libraries(${name} PRIVATE autotune::kernels)
endforeach()
"""


def test_cmake_finds_a_build_that_was_moved(
    tuned: TuningDatabase, target: Target, tmp_path: Path
) -> None:
    cmake = tool("cmake")
    tool("gcc")
    tool("g++")
    result = build(tuned, target, tmp_path / "first")
    moved = (tmp_path / "first").rename(tmp_path / "moved here")
    project = tmp_path / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(CMAKE_PROJECT)
    program = PROGRAM.replace("return 0;\n}", 'fputs(AUTOTUNE_KERNELS_DIR "", stderr);return 0;\n}')
    for name in ("main.c", "twin.cpp"):
        (project / name).write_text(program)
    done(cmake, "-S", project, "-B", project / "out", f"-DKERNELS={moved}")
    done(cmake, "--build", project / "out")
    for name in ("main", "twin"):
        ran = subprocess.run([project / "out" / name], capture_output=True, text=True, check=True)
        check_output(ran.stdout, result, moved)
        assert Path(ran.stderr) == moved
