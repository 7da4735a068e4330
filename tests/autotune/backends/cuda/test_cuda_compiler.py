"""Compiling on a machine without a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from pathlib import Path

import pytest

from autotune.backends.cuda import compiler, headers
from autotune.backends.cuda.compiler import Compiler, Nvcc, Nvrtc, compile_for
from autotune.testing import backend_kernels as kernels
from records.errors import CompileError, MissingComponentError
from search_spaces.kernel import KernelSource

ARCHS = ("sm_80", "sm_90a", "sm_100a")


@pytest.fixture(params=[Nvrtc, Nvcc])
def found(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    try:
        one: Compiler = request.param()
    except MissingComponentError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(compiler, "compiler", lambda: one)
    return one


def headed(header: str) -> KernelSource:
    text = f'#include <{header}>\nextern "C" __global__ void empty() {{}}\n'
    return KernelSource("cuda", text, (), ())


def require(found: Compiler, arch: str) -> None:
    if arch.rstrip("a") not in found.architectures():
        pytest.skip(f"{found.version} knows no {arch}")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    "source",
    [
        kernels.scaled("cuda", 100, "bfloat16"),
        kernels.chained("cuda", 100),
        kernels.writing_at("cuda", 100, "t", -1),
        kernels.revealing("cuda", 100),
        kernels.oversized_group("cuda", 2048),
        kernels.misnamed("cuda"),
    ],
    ids=lambda source: source.launches[0].kernel,
)
def test_the_kit_compiles_for_every_architecture(arch: str, source: KernelSource) -> None:
    require(compiler.compiler(), arch)
    assert compile_for(source, arch).startswith(b"\x7fELF")


def test_both_compilers_make_binaries(found: Compiler) -> None:
    require(found, "sm_90a")
    binary = compile_for(kernels.scaled("cuda", 100, "float16"), "sm_90a")
    assert b".text.scaled\0" in binary


def test_an_error_carries_the_log_without_our_paths(found: Compiler) -> None:
    with pytest.raises(CompileError, match='kernel.cu.*"no_such_function"') as caught:
        compile_for(kernels.broken("cuda"), "sm_90a")
    assert "/tmp" not in str(caught.value)


def test_too_much_shared_memory_is_the_assemblers_error() -> None:
    with pytest.raises(CompileError, match="too much shared data"):
        compile_for(kernels.oversized_local("cuda", 1 << 20), "sm_90a")


@pytest.mark.parametrize("header", ["cuda_fp16.h", "cuda_bf16.h", "cuda_fp8.h"])
def test_headers_of_the_device_types_are_found(header: str) -> None:
    assert compile_for(headed(header), "sm_90a")


def test_missing_headers_name_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "include_directories", lambda: ())
    monkeypatch.setattr(compiler, "compiler", lambda: Nvrtc())
    with pytest.raises(CompileError, match="pip install nvidia-cuda-runtime"):
        compile_for(headed("cuda_fp8.h"), "sm_90a")


def test_an_unknown_architecture_names_what_to_update() -> None:
    with pytest.raises(CompileError, match="knows no sm_999a: pip install --upgrade"):
        compile_for(kernels.chained("cuda", 10), "sm_999a")


def test_without_any_compiler_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(compiler, "_NVCC_PLACES", ())
    compiler.compiler.cache_clear()
    with pytest.raises(MissingComponentError, match="nvrtc.*nvcc.*pip install cuda-bindings"):
        compiler.compiler()
    compiler.compiler.cache_clear()


def test_a_toolkit_of_the_user_gives_headers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "cuda_fp16.h").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert headers.include_directories() == (tmp_path / "include",)
