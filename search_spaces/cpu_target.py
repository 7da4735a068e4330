"""What templates for CPUs ask of a target: vectors, caches, room for private arrays."""

from __future__ import annotations

from records.target import Target

STACK_BYTES = 768 << 10  # of private arrays; Intel's runtime gives a work-item 1 MiB at the least
_L1_BYTES = 32 << 10  # of a core, where the device does not tell
_L2_BYTES = 512 << 10


def native_lanes(element_bytes: int, target: Target) -> int:
    """Elements of a hardware vector, 4 to 16: OpenCL has no longer ones."""
    vector_bytes: int = target.limit("vector_bytes", 32)
    return max(4, min(16, vector_bytes // element_bytes))


def vector_registers(target: Target) -> int:
    """AVX-512 and SVE have 32 vector registers; AVX2 and SSE have 16."""
    return 32 if target.limit("vector_bytes", 32) >= 64 else 16


def l1_bytes(target: Target) -> int:
    """A core's first-level cache."""
    size: int = target.limit("l1_bytes", _L1_BYTES)
    return size


def l2_bytes(target: Target) -> int:
    """A core's second-level cache."""
    size: int = target.limit("l2_bytes", _L2_BYTES)
    return size
