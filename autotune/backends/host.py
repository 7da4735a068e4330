"""What the operating system tells about the host's CPU."""

from __future__ import annotations

import platform
from pathlib import Path

_CPU = Path("/sys/devices/system/cpu/cpu0/cache")
_CPUINFO = Path("/proc/cpuinfo")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

# Most capable first; each needs all of its flags as the Linux kernel spells them.
_INSTRUCTION_SETS = (
    ("avx512", {"avx512f", "avx512dq", "avx512bw", "avx512vl"}),
    ("avx2", {"avx2", "fma"}),
    ("avx", {"avx"}),
    ("sve", {"sve"}),
    ("neon", {"asimd"}),
)


def instruction_set(cpuinfo: Path = _CPUINFO) -> str:
    """Machine and widest vector extension, such as `"x86-64-avx512"`."""
    machine = platform.machine().lower().replace("x86_64", "x86-64").replace("amd64", "x86-64")
    flags = _flags(cpuinfo)
    for name, needed in _INSTRUCTION_SETS:
        if needed <= flags:
            return f"{machine}-{name}"
    return machine


def caches(directory: Path = _CPU) -> dict[str, int]:
    """`l1_bytes` and `l2_bytes` of a core, `cache_bytes` of the last level; absent if unknown."""
    sizes: dict[int, int] = {}
    for index in sorted(directory.glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size[:-1].isdigit():
            sizes[int(level)] = int(size[:-1]) * _UNITS.get(size[-1], 1)
    named = {f"l{level}_bytes": sizes[level] for level in (1, 2) if level in sizes}
    return {**named, "cache_bytes": sizes[max(sizes)]} if sizes else {}


def _flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    return set()
