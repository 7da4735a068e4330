"""A CUDA device that is none: host memory, launches written down. For tests without a GPU.

`FakeCuda` stands for `pycuda.driver` as far as `autotune.backends.cuda` uses it; its `library`
for `libcuda`. Kernels do what a function of Python does in their place, or nothing:

fake = FakeCuda()
fake.install(monkeypatch)
fake.kernels["twice"] = lambda call: ...
backend = autotune.backends.cuda.open("cuda:0")

Memory that is not allocated is refused, contexts must be pushed where PyCUDA needs one, and
errors can be made to lose the context.
"""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune.backends.cuda import compiler, native
from autotune.testing.fake_libcuda import FakeLibCuda
from search_spaces.kernel import KernelSource

H200: Mapping[str, int] = {
    "MULTIPROCESSOR_COUNT": 132,
    "MAX_THREADS_PER_BLOCK": 1024,
    "MAX_SHARED_MEMORY_PER_BLOCK": 49152,
    "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 232448,
    "MAX_REGISTERS_PER_MULTIPROCESSOR": 65536,
    "MAX_THREADS_PER_MULTIPROCESSOR": 2048,
    "WARP_SIZE": 32,
    "L2_CACHE_SIZE": 62914560,
    "CLOCK_RATE": 1980000,
}
FUNCTION_ATTRIBUTES: Mapping[str, int] = {
    "MAX_THREADS_PER_BLOCK": 1024,
    "NUM_REGS": 40,
    "LOCAL_SIZE_BYTES": 0,
    "SHARED_SIZE_BYTES": 512,
}
_FREE_SHARED_BYTES = 48 << 10
_ALIGNMENT_BYTES = 256
_ENTRY = re.compile(rb"\.text\.(\w+)\0")


class Error(Exception):
    """As `pycuda.driver.Error`, the base of its others."""


class LogicError(Error): ...


@dataclass(frozen=True)
class Call:
    """A launch as the driver gets it. `text`: the source, where it was compiled through us."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    parameters: bytes
    stream: int
    text: str


class FakeCuda:
    """One device, an H200 unless told otherwise, and everything that was done with it."""

    def __init__(self, capability: tuple[int, int] = (9, 0), devices: int = 1) -> None:
        self.capability = capability
        self.devices = devices
        self.attributes = dict(H200)
        self.function_attributes = dict(FUNCTION_ATTRIBUTES)
        self.kernels: dict[str, Callable[[Call], None]] = {}
        self.calls: list[Call] = []
        self.depth = 0  # of PyCUDA's stack of contexts
        self.contexts = 0  # retained and not given back
        self.lost = ""  # why every call fails
        self.free_bytes = 1 << 30
        self.uploaded_bytes = 0  # from the host, in all
        self.allocations: dict[int, npt.NDArray[np.uint8]] = {}
        self.library = FakeLibCuda()
        self._texts: dict[bytes, str] = {}
        self._handles = itertools.count(0x1000, 0x10)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it where the backend looks for PyCUDA and for the driver."""
        package, arrays = ModuleType("pycuda"), ModuleType("pycuda.gpuarray")
        package.__dict__["VERSION_TEXT"] = "fake"
        arrays.__dict__["GPUArray"] = partial(FakeGPUArray, self)
        for module in (package, arrays, self.module()):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(native, "library", lambda: native.LibCuda(self.library))
        compile_for = compiler.compile_for

        def remembering(source: KernelSource, arch: str) -> bytes:
            binary = compile_for(source, arch)
            self._texts[binary] = source.text
            return binary

        monkeypatch.setattr(compiler, "compile_for", remembering)

    def module(self) -> ModuleType:
        """What `import pycuda.driver` gives."""
        module = ModuleType("pycuda.driver")
        attribute_names = {name: name for name in self.attributes}
        function_names = {name: name for name in self.function_attributes}
        function_names["MAX_DYNAMIC_SHARED_SIZE_BYTES"] = "MAX_DYNAMIC_SHARED_SIZE_BYTES"
        device: Any = partial(FakeDevice, self)
        device.count = lambda: self.devices
        module.__dict__.update(
            init=lambda: None,
            get_driver_version=lambda: 13000,
            Device=device,
            Context=SimpleNamespace(pop=self._pop, synchronize=self.check),
            Stream=type("Stream", (FakeStream,), {"fake": self}),
            Event=partial(FakeEvent, self),
            Error=Error,
            LogicError=LogicError,
            device_attribute=SimpleNamespace(**attribute_names),
            function_attribute=SimpleNamespace(**function_names),
            module_from_buffer=lambda binary: FakeModule(self, binary),
            mem_alloc=lambda size: FakeAllocation(self, size),
            memcpy_htod=self._write,
            memcpy_dtoh=self._read,
            memcpy_dtod=self._copy,
            memset_d8=self._fill,
            memset_d32_async=lambda address, _, words, stream: self.at(address, 4 * words),
        )
        return module

    def at(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        """Bytes of the device, writable in place; `LogicError` for what is not allocated."""
        self.check()
        for start, memory in self.allocations.items():
            if start <= address and address + size <= start + memory.size:
                return memory[address - start : address - start + size]
        raise LogicError(f"invalid argument: {size} bytes at {address:#x} are not allocated")

    def launches(self, kernel: str) -> list[Call]:
        return [call for call in self.calls if call.kernel == kernel]

    def check(self) -> None:
        """What every call of the driver begins with."""
        if self.lost:
            raise LogicError(self.lost)
        if not self.depth:
            raise LogicError("no currently active context?")

    def launch(self, call: Call) -> None:
        self.check()
        self.library.run(call.stream, partial(self._run, call))

    def text_of(self, binary: bytes) -> str:
        return self._texts.get(binary, "")

    def handle(self) -> int:
        return next(self._handles)

    def _run(self, call: Call) -> None:
        self.calls.append(call)
        action = self.kernels.get(call.kernel)
        if action is not None:
            action(call)

    def _pop(self) -> None:
        if not self.depth:
            raise LogicError("cannot pop non-current context")
        self.depth -= 1

    def _write(self, address: int, data: npt.NDArray[Any]) -> None:
        self.uploaded_bytes += data.nbytes
        self.at(address, data.nbytes)[:] = data.reshape(-1).view(np.uint8)

    def _read(self, into: npt.NDArray[Any], address: int) -> None:
        into.reshape(-1).view(np.uint8)[:] = self.at(address, into.nbytes)

    def _copy(self, to: int, source: int, size: int) -> None:
        self.at(to, size)[:] = self.at(source, size)

    def _fill(self, address: int, byte: int, size: int) -> None:
        self.at(address, size)[:] = byte


class FakeDevice:
    def __init__(self, fake: FakeCuda, index: int) -> None:
        self._fake = fake
        self._index = index

    def name(self) -> str:
        return f"Fake GPU {self._index}"

    def compute_capability(self) -> tuple[int, int]:
        return self._fake.capability

    def total_memory(self) -> int:
        return self._fake.free_bytes

    def pci_bus_id(self) -> str:
        return f"0000:{self._index:02}:00.0"

    def get_attribute(self, name: str) -> int:
        return self._fake.attributes[name]

    def retain_primary_context(self) -> FakeContext:
        self._fake.contexts += 1
        return FakeContext(self._fake)


class FakeContext:
    def __init__(self, fake: FakeCuda) -> None:
        self._fake = fake
        self.handle = fake.handle()

    def push(self) -> None:
        self._fake.depth += 1

    def detach(self) -> None:
        """Gives it back, and leaves it on the driver's own stack, as PyCUDA does."""
        self._fake.contexts -= 1
        self._fake.library.stack.append(self.handle)


class FakeStream:
    fake: FakeCuda

    def __init__(self) -> None:
        self.fake.check()
        self.handle = self.fake.handle()


class FakeEvent:
    def __init__(self, fake: FakeCuda) -> None:
        fake.check()
        self._fake = fake
        self._time_s = 0.0

    def record(self, stream: Any = None) -> None:
        self._fake.check()
        self._time_s = time.perf_counter()

    def synchronize(self) -> None:
        self._fake.check()

    def time_till(self, other: FakeEvent) -> float:
        """Milliseconds."""
        return (other._time_s - self._time_s) * 1e3


class FakeAllocation:
    def __init__(self, fake: FakeCuda, size: int) -> None:
        fake.check()
        if size > fake.free_bytes:
            raise Error("cuMemAlloc failed: out of memory")
        raw = np.zeros(size + _ALIGNMENT_BYTES, np.uint8)
        skipped = -raw.ctypes.data % _ALIGNMENT_BYTES
        memory = raw[skipped : skipped + size]
        self._fake = fake
        self._address = int(memory.ctypes.data)
        fake.allocations[self._address] = memory

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._fake.check()
        del self._fake.allocations[self._address]

    def __del__(self) -> None:
        if hasattr(self, "_address"):
            self._fake.allocations.pop(self._address, None)


class FakeModule:
    def __init__(self, fake: FakeCuda, binary: bytes) -> None:
        fake.check()
        self._fake = fake
        self._text = fake.text_of(binary)
        self._names = {name.decode() for name in _ENTRY.findall(binary)}

    def get_function(self, name: str) -> FakeFunction:
        if name not in self._names:
            raise LogicError("cuModuleGetFunction failed: named symbol not found")
        return FakeFunction(self._fake, name, self._text)


class FakeFunction:
    def __init__(self, fake: FakeCuda, name: str, text: str) -> None:
        self._fake = fake
        self._name = name
        self._text = text
        self._format = ""
        self._shared_bytes = _FREE_SHARED_BYTES

    def get_attribute(self, name: str) -> int:
        return self._fake.function_attributes[name]

    def set_attribute(self, name: str, value: int) -> None:
        if value > self._fake.attributes["MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"]:
            raise LogicError("cuFuncSetAttribute failed: invalid argument")
        self._shared_bytes = value

    def prepare(self, format: str) -> None:
        self._format = format

    def prepared_async_call(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        stream: Any,
        *values: Any,
        shared_size: int = 0,
    ) -> None:
        if shared_size > self._shared_bytes:
            raise LogicError("cuLaunchKernel failed: invalid argument")
        packed = b"".join(
            value if isinstance(value, bytes) else value.to_bytes(8, "little") for value in values
        )
        handle = stream.handle if stream is not None else 0
        call = Call(self._name, grid, block, shared_size, packed, handle, self._text)
        self._fake.launch(call)


class FakeGPUArray:
    """As `pycuda.gpuarray.GPUArray`, and like PyTorch's and CuPy's arrays in its interface."""

    def __init__(self, fake: FakeCuda, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._fake = fake
        self._size = int(np.prod(shape)) * self.dtype.itemsize
        self.gpudata = FakeAllocation(fake, self._size)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (int(self.gpudata), False),
            "version": 3,
            "strides": None,
            "stream": None,
        }

    def set(self, data: npt.NDArray[Any]) -> None:
        self._fake.at(int(self.gpudata), self._size)[:] = data.reshape(-1).view(np.uint8)

    def get(self) -> npt.NDArray[Any]:
        memory = self._fake.at(int(self.gpudata), self._size)
        return memory.view(self.dtype).reshape(self.shape).copy()
