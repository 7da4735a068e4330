"""The identity and limits of an OpenCL device, from its driver and the operating system."""

from __future__ import annotations

from typing import Any

from autotune.backends import host
from autotune.backends.opencl.driver import cl
from records.canonical import Value
from records.target import Target

_GRAIN_BYTES = 256 << 20


def target_of(device: Any) -> Target:
    """Everything of `records.target` that this device tells."""
    limits = _common(device)
    limits |= _cpu(device) if is_cpu(device) else _gpu(device)
    if is_simulator(device):
        limits["simulator"] = True
    return Target.of("opencl", device.name.strip(), _arch(device), limits)


def is_cpu(device: Any) -> bool:
    return bool(device.type & cl.device_type.CPU)


def is_simulator(device: Any) -> bool:
    return "oclgrind" in device.platform.name.lower()


def rank(device: Any) -> tuple[bool, int, int]:
    """Orders devices by expected speed, higher is faster: GPUs by units × clock before CPUs.

    Several runtimes may serve one CPU, and not all tell its clock: there the units decide, then
    the newer compiler.
    """
    clock_mhz = 1 if is_cpu(device) else int(_optional(device, "max_clock_frequency") or 1)
    return not is_cpu(device), int(device.max_compute_units) * clock_mhz, _c_major(device)


def standard(device: Any) -> str:
    """The newest language standard, of those we write for, that its compiler knows."""
    return "-cl-std=CL3.0" if _c_major(device) >= 3 else "-cl-std=CL1.2"


def _c_major(device: Any) -> int:
    """3 of "OpenCL C 3.1 ..."."""
    version = device.opencl_c_version.removeprefix("OpenCL C ").partition(".")[0]
    return int(version) if version.isdigit() else 1


def _common(device: Any) -> dict[str, Value]:
    return {
        "kind": "cpu" if is_cpu(device) else "gpu",
        "units": int(device.max_compute_units),
        "max_group": int(device.max_work_group_size),
        "shared_bytes": int(device.local_mem_size),
        "vector_bytes": 4 * int(device.native_vector_width_float),
        "memory_bytes": int(device.global_mem_size),
        "max_buffer_bytes": int(device.max_mem_alloc_size),
        "dtypes": _dtypes(device),
    }


def _dtypes(device: Any) -> tuple[str, ...]:
    extensions = device.extensions.split()
    optional = {"float16": "cl_khr_fp16", "float64": "cl_khr_fp64"}
    return ("float32", *(name for name, needs in optional.items() if needs in extensions))


def _cpu(device: Any) -> dict[str, Value]:
    """Memory is rounded down: a kernel update must not make another target of the same CPU."""
    limits: dict[str, Value] = {"warp": 1, **host.caches()}
    for name, size in (
        ("memory_bytes", device.global_mem_size),
        ("max_buffer_bytes", device.max_mem_alloc_size),
    ):
        if size > _GRAIN_BYTES:
            limits[name] = size // _GRAIN_BYTES * _GRAIN_BYTES
    return limits


def _gpu(device: Any) -> dict[str, Value]:
    limits: dict[str, Value] = {}
    warp = (
        _optional(device, "warp_size_nv")
        or _optional(device, "wavefront_width_amd")
        or _optional(device, "preferred_work_group_size_multiple")
    )
    for name, value in (
        ("warp", warp),
        ("registers", _optional(device, "registers_per_block_nv")),
        ("cache_bytes", _optional(device, "global_mem_cache_size")),
    ):
        if value:
            limits[name] = int(value)
    return limits


def _arch(device: Any) -> str:
    if is_cpu(device) and not is_simulator(device):
        return host.instruction_set()
    major = _optional(device, "compute_capability_major_nv")
    if major:
        return f"sm_{major}{device.compute_capability_minor_nv}"
    return str(device.version.strip())


def _optional(device: Any, name: str) -> Any:
    """A fact that only some drivers know, or `None`."""
    try:
        return getattr(device, name)
    except (cl.Error, AttributeError):
        return None
