"""The identity and limits of a CUDA device, from its attributes. Needs no context."""

from __future__ import annotations

from autotune.backends.cuda.driver import Session
from records.canonical import Value
from records.target import Target

# Capabilities with instructions that only code for exactly this silicon may use: wgmma and
# setmaxnreg, tcgen05.
_WITH_SUFFIX = ((9, 0), (10, 0))
_DTYPES_SINCE: tuple[tuple[tuple[int, int], tuple[str, ...]], ...] = (
    ((0, 0), ("float32", "float64")),
    ((5, 3), ("float16",)),
    ((6, 1), ("int8",)),
    ((8, 0), ("bfloat16", "tf32")),
    ((8, 9), ("float8_e4m3", "float8_e5m2")),
)


def arch_of(capability: tuple[int, int]) -> str:
    """What to compile for: `(9, 0)` gives `"sm_90a"`."""
    major, minor = capability
    return f"sm_{major}{minor}" + ("a" if capability in _WITH_SUFFIX else "")


def capability_of(arch: str) -> tuple[int, int]:
    """`"sm_90a"` gives `(9, 0)`."""
    digits = arch.removeprefix("sm_").rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits[:-1]), int(digits[-1])


def dtypes_of(capability: tuple[int, int]) -> tuple[str, ...]:
    return tuple(name for since, names in _DTYPES_SINCE if capability >= since for name in names)


def target_of(session: Session) -> Target:
    """Everything of `records.target` that the driver tells."""
    attribute = session.attribute
    capability = session.device.compute_capability()
    memory_bytes = int(session.device.total_memory())
    shared_bytes = attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
    limits: dict[str, Value] = {
        "kind": "gpu",
        "units": attribute("MULTIPROCESSOR_COUNT"),
        "max_group": attribute("MAX_THREADS_PER_BLOCK"),
        "shared_bytes": shared_bytes or attribute("MAX_SHARED_MEMORY_PER_BLOCK"),
        "registers": attribute("MAX_REGISTERS_PER_MULTIPROCESSOR"),
        "max_unit_threads": attribute("MAX_THREADS_PER_MULTIPROCESSOR"),
        "warp": attribute("WARP_SIZE"),
        "vector_bytes": 16,  # of the widest load of one thread
        "cache_bytes": attribute("L2_CACHE_SIZE"),
        "memory_bytes": memory_bytes,
        "max_buffer_bytes": memory_bytes,
        "clock_mhz": attribute("CLOCK_RATE") // 1000,
        "dtypes": dtypes_of(capability),
    }
    known = {name: value for name, value in limits.items() if value}
    return Target.of("cuda", session.device.name(), arch_of(capability), known)
