"""The only module that imports PyOpenCL; what the rest of this package needs of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from autotune.backends.opencl import runtimes
from records.errors import CompileError, DeviceError

runtimes.make_visible()
# PyOpenCL's own caches are databases in the home: needless here, and fatal where it is read-only.
os.environ.setdefault("PYOPENCL_NO_CACHE", "1")

import pyopencl as cl  # noqa: E402  the loader reads its settings once
import pyopencl.array as cl_array  # noqa: E402

__all__ = ["build", "cl", "cl_array", "errors", "find_device", "load_binary", "platforms"]


def platforms() -> list[Any]:
    """Every platform of the loader, in its order; none where there is none."""
    try:
        return list(cl.get_platforms())
    except cl.Error:
        return []


def devices(platform: Any) -> list[Any]:
    try:
        return list(platform.get_devices())
    except cl.Error:
        return []


def find_device(platform_index: int, device_index: int) -> Any:
    """The device of the canonical name `opencl:<platform>:<device>`."""
    try:
        return devices(platforms()[platform_index])[device_index]
    except IndexError:
        raise DeviceError(f"opencl:{platform_index}:{device_index} is no longer there") from None


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """OpenCL's errors as `DeviceError`: what was being done, then OpenCL's own name for it."""
    try:
        yield
    except cl.Error as error:
        raise DeviceError(f"{doing}: {error}") from None


def build(context: Any, device: Any, text: str, options: tuple[str, ...]) -> Any:
    """Compile OpenCL C. Raises `CompileError` with the compiler's log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # compiler output is not ours to print
        program = cl.Program(context, text)
        # Touching the program first keeps PyOpenCL's own disk cache out of it.
        program.get_info(cl.program_info.REFERENCE_COUNT)
        try:
            program.build(list(options), devices=[device])
        except cl.Error as error:
            raise CompileError(_log(program, device) or str(error)) from None
    return program


def load_binary(context: Any, device: Any, binary: bytes) -> Any:
    """A built program from the bytes that `Program.binaries` gave, or `None` if refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return cl.Program(context, [device], [binary]).build(devices=[device])
        except cl.Error:
            return None


def _log(program: Any, device: Any) -> str:
    try:
        log = program.get_build_info(device, cl.program_build_info.LOG)
    except cl.Error:
        return ""
    return str(log).strip().strip("\0")
