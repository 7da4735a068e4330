from __future__ import annotations

import platform
from pathlib import Path

import pytest

from autotune.backends import host


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("sse2 avx avx2 fma avx512f avx512dq avx512bw avx512vl", "x86-64-avx512"),
        ("sse2 avx avx2 fma avx512f", "x86-64-avx2"),  # an early AVX-512 lacks half of it
        ("sse2 avx avx2", "x86-64-avx"),
        ("sse2", "x86-64"),
    ],
)
def test_the_widest_vector_extension_names_the_instruction_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nprocessor\t: 1\nflags\t\t: none\n")
    assert host.instruction_set(cpuinfo) == expected


def test_arm_spells_flags_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("Features\t: fp asimd\n")
    assert host.instruction_set(cpuinfo) == "aarch64-neon"


def test_without_cpuinfo_the_machine_is_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    assert host.instruction_set(tmp_path / "absent") == "x86-64"


def test_caches_by_level_without_the_instructions(tmp_path: Path) -> None:
    for index, facts in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K")]
    ):
        (tmp_path / f"index{index}").mkdir()
        for name, text in zip(("level", "type", "size"), facts, strict=True):
            (tmp_path / f"index{index}" / name).write_text(text + "\n")
    expected = {"l1_bytes": 48 << 10, "l2_bytes": 2 << 20, "cache_bytes": 2 << 20}
    assert host.caches(tmp_path) == expected


def test_unknown_caches_are_absent(tmp_path: Path) -> None:
    assert host.caches(tmp_path) == {}
