"""The C example, compiled and run on a real OpenCL device against a real build."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from naive_matmul import naive_record

from autotune.backends.base import DeviceInfo
from autotune.codegen import build
from records.store import TuningDatabase
from search_spaces.matmul import matmul

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "c_opencl"


@pytest.fixture(scope="module", autouse=True)
def tools(tmp_path_factory: pytest.TempPathFactory) -> None:
    """CMake, a C compiler, and OpenCL's headers and loader."""
    for name in ("cmake", "cc"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    probe = tmp_path_factory.mktemp("probe") / "probe.c"
    probe.write_text(
        "#define CL_TARGET_OPENCL_VERSION 120\n#include <CL/cl.h>\n"
        "int main(void) { return clGetPlatformIDs(0, 0, 0) == 1; }\n"
    )
    command = ["cc", str(probe), "-lOpenCL", "-o", str(probe.with_suffix(""))]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("OpenCL headers or loader are not installed")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_example_computes_and_checks(tmp_path: Path, device: DeviceInfo) -> None:
    assert device.target is not None
    with TuningDatabase(tmp_path / "tuning.db") as store:
        store.add(naive_record(matmul(m=33, n=20, k=17), device.target, staged=True))
        build(store, device.target, tmp_path / "kernels")
    flags = "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror -pedantic"
    prefix = f"-DCMAKE_PREFIX_PATH={tmp_path / 'kernels'}"
    configured = run("cmake", "-S", EXAMPLE, "-B", tmp_path / "out", prefix, flags)
    assert configured.returncode == 0, configured.stderr
    made = run("cmake", "--build", tmp_path / "out")
    assert made.returncode == 0, made.stdout + made.stderr
    program = tmp_path / "out" / "tuned_matmul"
    ran = run(program, 33, 20, 17)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "matmul_33x20x17_float32_nn" in ran.stdout and "roundoffs" in ran.stdout
    unknown = run(program, 33, 20, 18)
    assert unknown.returncode == 2 and "matmul_33x20x17" in unknown.stderr

    header = tmp_path / "kernels" / "autotune_kernels_sources.h"
    header.write_text(header.read_text().replace("i < K", "i < K - 1"))
    run("cmake", "--build", tmp_path / "out")
    wrong = run(program, 33, 20, 17)
    assert wrong.returncode == 1 and "wrong result" in wrong.stderr
