"""What PyCUDA does not wrap, straight from the driver's library: descriptors, graphs, occupancy.

Signatures and constants are those of `cuda.h` (CUDA 12 and later).
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

from autotune.backends.cuda.tensor_map_codes import (
    TENSOR_MAP_ALIGNMENT_BYTES,
    TENSOR_MAP_BYTES,
    TensorMapCodes,
)
from records.errors import DeviceError, MissingComponentError
from search_spaces.tensor_map import TensorMap

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

_EVENT_DISABLE_TIMING = 2
_CAPTURE_THREAD_LOCAL = 1
_ATTRIBUTE_MAX_DYNAMIC_SHARED_BYTES = 8
_MAX_PARAMETERS = 64  # more than any kernel has, should the driver never say that it is the last


@dataclass(frozen=True)
class KernelFacts:
    """`blocks_per_unit`: how many blocks run on a multiprocessor at once. `parameters`: offset
    and size in bytes of each. `None` where the driver does not tell (parameters: before 12.4)."""

    blocks_per_unit: int | None
    parameters: tuple[tuple[int, int], ...] | None


class LibCuda:
    """Calls into `libcuda`, on the current context. Each raises `DeviceError` as it fails.

    Streams, events and graphs are the driver's handles, as integers; 0 is the default stream.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def encoded(self, tensor: TensorMap, address: int) -> bytes:
        """The 128 bytes of a descriptor for a tensor that begins at `address`."""
        codes = TensorMapCodes.of(tensor)
        rank = codes.rank
        raw = ctypes.create_string_buffer(TENSOR_MAP_BYTES + TENSOR_MAP_ALIGNMENT_BYTES)
        skipped = -ctypes.addressof(raw) % TENSOR_MAP_ALIGNMENT_BYTES
        self._call(
            "cuTensorMapEncodeTiled",
            c_void_p(ctypes.addressof(raw) + skipped),
            c_int(codes.data_type),
            c_uint32(rank),
            c_void_p(address),
            (c_uint64 * rank)(*codes.shape),
            (c_uint64 * max(1, rank - 1))(*codes.strides_bytes),
            (c_uint32 * rank)(*codes.box),
            (c_uint32 * rank)(*[1] * rank),
            c_int(codes.interleave),
            c_int(codes.swizzle),
            c_int(codes.l2_promotion),
            c_int(codes.fill),
        )
        return raw.raw[skipped : skipped + TENSOR_MAP_BYTES]

    def facts(self, binary: bytes, kernel: str, threads: int, shared_bytes: int) -> KernelFacts:
        """Of a kernel in a cubin, launched with so many threads and so much dynamic memory.

        PyCUDA does not give its functions' handles out, so the binary is loaded once more.
        """
        module, function = c_void_p(), c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), binary)
        try:
            self._call("cuModuleGetFunction", ctypes.byref(function), module, kernel.encode())
            blocks = self._blocks_per_unit(function, threads, shared_bytes)
            return KernelFacts(blocks, self._parameters(function))
        finally:
            self._call("cuModuleUnload", module)

    def lock_pages(self, address: int, size: int) -> None:
        """Keep host memory where it is, for the device to write it directly."""
        self._call("cuMemHostRegister_v2", c_void_p(address), c_size_t(size), c_uint(0))

    def unlock_pages(self, address: int) -> None:
        self._call("cuMemHostUnregister", c_void_p(address))

    def order(self, first: int, then: int) -> None:
        """What is enqueued on stream `then` from now on waits for what `first` has now."""
        event = self.recorded(first)
        self.wait(then, event)
        self.destroy_event(event)

    def recorded(self, stream: int) -> int:
        """A new event that is reached when everything on the stream now is done."""
        event = c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), c_uint(_EVENT_DISABLE_TIMING))
        self._call("cuEventRecord", event, c_void_p(stream))
        return event.value or 0

    def wait(self, stream: int, event: int) -> None:
        self._call("cuStreamWaitEvent", c_void_p(stream), c_void_p(event), c_uint(0))

    def destroy_event(self, event: int) -> None:
        """At once for us; the driver keeps it for whoever waits for it."""
        self._call("cuEventDestroy_v2", c_void_p(event))

    def begin_capture(self, stream: int) -> None:
        mode = c_int(_CAPTURE_THREAD_LOCAL)
        self._call("cuStreamBeginCapture_v2", c_void_p(stream), mode)

    def end_capture(self, stream: int) -> int:
        """An executable graph of what was enqueued since `begin_capture`."""
        graph, executable = c_void_p(), c_void_p()
        self._call("cuStreamEndCapture", c_void_p(stream), ctypes.byref(graph))
        try:
            arguments = ctypes.byref(executable), graph, c_uint64(0)
            self._call("cuGraphInstantiateWithFlags", *arguments)
        finally:
            self._call("cuGraphDestroy", graph)
        return executable.value or 0

    def launch_graph(self, executable: int, stream: int) -> None:
        self._call("cuGraphLaunch", c_void_p(executable), c_void_p(stream))

    def destroy_graph(self, executable: int) -> None:
        self._call("cuGraphExecDestroy", c_void_p(executable))

    def pop_if_current(self, context: int) -> None:
        current = c_void_p()
        self._call("cuCtxGetCurrent", ctypes.byref(current))
        if current.value == context:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(current))

    def _blocks_per_unit(self, function: c_void_p, threads: int, shared_bytes: int) -> int | None:
        blocks = c_int()
        attribute = c_int(_ATTRIBUTE_MAX_DYNAMIC_SHARED_BYTES)
        try:
            self._call("cuFuncSetAttribute", function, attribute, c_int(shared_bytes))
            self._call(
                "cuOccupancyMaxActiveBlocksPerMultiprocessor",
                ctypes.byref(blocks),
                function,
                c_int(threads),
                c_size_t(shared_bytes),
            )
        except DeviceError:
            return None
        return blocks.value

    def _parameters(self, function: c_void_p) -> tuple[tuple[int, int], ...] | None:
        tell = getattr(self._library, "cuFuncGetParamInfo", None)
        if tell is None:
            return None
        found: list[tuple[int, int]] = []
        offset, size = c_size_t(), c_size_t()
        for index in range(_MAX_PARAMETERS):
            if tell(function, c_size_t(index), ctypes.byref(offset), ctypes.byref(size)):
                break
            found.append((offset.value, size.value))
        return tuple(found)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name, None)
        if function is None:
            raise DeviceError(f"NVIDIA's driver has no {name}: update it to CUDA 12 or later")
        code = function(*arguments)
        if code:
            raise DeviceError(f"{name}: {self._error_name(code)}")

    def _error_name(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(c_int(code), ctypes.byref(text))
        return (text.value or b"").decode() or f"error {code}"


@cache
def library() -> LibCuda:
    """The installed driver's. Raises `MissingComponentError` where there is none."""
    try:
        return LibCuda(ctypes.CDLL(_LIBRARY))
    except OSError as error:
        raise MissingComponentError(f"no NVIDIA driver ({error}): install it") from None
