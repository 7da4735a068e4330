"""Compiled kernels kept between runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autotune.compile_cache import CompileCache
from records.canonical import Value
from records.errors import CompileError
from records.target import Target
from search_spaces.kernel import KernelSource

SOURCE = KernelSource("opencl", "__kernel void f() {}", (), ())


class Compiler:
    """The part of a backend that a cache uses; counts, and makes each binary different."""

    def __init__(self, driver: str = "1.0", arch: str = "x86-64", size: int = 0) -> None:
        self.target = Target.of("opencl", "device", arch, {})
        self.environment: Mapping[str, Value] = {"driver": driver}
        self.compiled = 0
        self.size = size

    def compile(self, source: KernelSource) -> bytes:
        self.compiled += 1
        if "error" in source.text:
            raise CompileError("error: no")
        return f"{source.text} {self.compiled}".encode().ljust(self.size)


def binary(cache: CompileCache, compiler: Any, source: KernelSource = SOURCE, **how: bool) -> bytes:
    return cache.binary(compiler, source, **how)


def test_compiles_once_for_every_process(tmp_path: Path) -> None:
    compiler = Compiler()
    first = binary(CompileCache(tmp_path / "new"), compiler)
    assert binary(CompileCache(tmp_path / "new"), compiler) == first
    assert binary(CompileCache(tmp_path / "new"), Compiler()) == first
    assert compiler.compiled == 1


def test_compiles_again_where_anything_differs_that_matters(tmp_path: Path) -> None:
    cache = CompileCache(tmp_path)
    binary(cache, Compiler())
    others = [
        (Compiler(driver="1.1"), SOURCE),
        (Compiler(arch="x86-64-avx512"), SOURCE),
        (Compiler(), KernelSource("opencl", SOURCE.text + " ", (), ())),
        (Compiler(), KernelSource("cuda", SOURCE.text, (), ())),
        (Compiler(), KernelSource("opencl", SOURCE.text, (), (), (), ("-DX",))),
    ]
    for compiler, source in others:
        binary(cache, compiler, source)
        assert compiler.compiled == 1


def test_fresh_replaces_what_was_kept(tmp_path: Path) -> None:
    cache, compiler = CompileCache(tmp_path), Compiler()
    first = binary(cache, compiler)
    second = binary(cache, compiler, fresh=True)
    assert second != first
    assert binary(cache, compiler) == second


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 200])
def test_a_damaged_entry_is_a_miss_and_is_mended(tmp_path: Path, damage: bytes) -> None:
    cache, compiler = CompileCache(tmp_path), Compiler()
    binary(cache, compiler)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(damage)
    second = binary(cache, compiler)
    assert compiler.compiled == 2
    assert binary(cache, compiler) == second and compiler.compiled == 2


def test_failures_are_not_kept(tmp_path: Path) -> None:
    cache, compiler = CompileCache(tmp_path), Compiler()
    bad = KernelSource("opencl", "error", (), ())
    for _ in range(2):
        with pytest.raises(CompileError):
            binary(cache, compiler, bad)
    assert compiler.compiled == 2 and not list(tmp_path.iterdir())


def test_the_entry_unused_for_longest_goes_first(tmp_path: Path) -> None:
    compiler = Compiler(size=1000)
    cache = CompileCache(tmp_path, max_bytes=2500)
    sources = [KernelSource("opencl", text, (), ()) for text in ("a", "b", "c")]
    binary(cache, compiler, sources[0])
    (first,) = tmp_path.iterdir()
    binary(cache, compiler, sources[1])
    for age_s, path in enumerate(sorted(tmp_path.iterdir(), key=lambda path: path != first)):
        os.utime(path, (1_000_000 + age_s, 1_000_000 + age_s))
    binary(cache, compiler, sources[0])  # used: now the second is the oldest
    binary(cache, compiler, sources[2])
    assert compiler.compiled == 3
    binary(cache, compiler, sources[0])
    assert compiler.compiled == 3
    binary(cache, compiler, sources[1])
    assert compiler.compiled == 4


def test_a_file_system_that_refuses_costs_a_compilation_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache, compiler = CompileCache(tmp_path / "file"), Compiler()
    assert binary(cache, compiler) and binary(cache, compiler)
    assert compiler.compiled == 2


def test_default_place_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binary(CompileCache(), Compiler())
    assert len(list(tmp_path.rglob("*.bin"))) == 1


def test_what_a_killed_writer_left_is_pruned_and_other_files_are_not(tmp_path: Path) -> None:
    cache, compiler = CompileCache(tmp_path, max_bytes=100), Compiler()
    (tmp_path / "notes.txt").write_text("x" * 1000)
    left = tmp_path / ".0123.bin-abcdef"
    left.write_bytes(b"x" * 1000)
    os.utime(left, (1_000_000, 1_000_000))
    first = binary(cache, compiler)
    assert not left.exists() and (tmp_path / "notes.txt").exists()
    assert binary(cache, compiler) == first and compiler.compiled == 1
