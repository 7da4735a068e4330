"""The only module that imports PyCUDA: a device of this process, and PyCUDA's errors as ours."""

from __future__ import annotations

import importlib
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from autotune.backends.cuda import native
from records.errors import DeviceError, MissingComponentError

INSTALL = 'pip install "autotune-kernels[cuda]"'
_MOST_RETIRED = 4096
_NO_DRIVER = "no NVIDIA driver or device ({}): install NVIDIA's driver"


class Releasable(Protocol):
    def release(self) -> None: ...


def cuda() -> Any:
    """`pycuda.driver`, initialised. Raises `MissingComponentError` with the remedy."""
    try:
        module = importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        raise MissingComponentError(f"PyCUDA not installed ({error.name}): {INSTALL}") from None
    except ImportError as error:  # libcuda.so.1, above all
        raise MissingComponentError(_NO_DRIVER.format(error)) from None
    try:
        module.init()
    except Exception as error:  # PyCUDA's own; without a driver its class may not be there
        raise MissingComponentError(_NO_DRIVER.format(error)) from None
    return module


def gpu_array() -> Any:
    """The class `pycuda.gpuarray.GPUArray`."""
    return importlib.import_module("pycuda.gpuarray").GPUArray


def version() -> str:
    """Of PyCUDA."""
    return str(importlib.import_module("pycuda").VERSION_TEXT)


def driver_version() -> str:
    """The newest CUDA that the driver serves, such as `"13.0"`."""
    number = cuda().get_driver_version()
    return f"{number // 1000}.{number % 1000 // 10}"


class Session:
    """One device as this process uses it.

    Its primary context (the one of PyTorch and of the CUDA runtime, so their pointers are ours)
    is retained at the first need, is current only inside `active`, and is given back by `close`.
    One thread uses it at a time.
    Whoever only asks for attributes or compiles takes no memory on the device.

    An error that the context does not survive (an illegal address, a trap) makes every later use
    a `DeviceError`: only a new process gets a working context.
    """

    def __init__(self, index: int) -> None:
        self.cuda = cuda()
        self.index = index
        if not 0 <= index < self.cuda.Device.count():
            raise DeviceError(f"cuda:{index} is no longer there")
        self.device = self.cuda.Device(index)
        self._context: Any = None
        self._thread = 0  # that retained it
        self._stream: Any = None
        self._depth = 0  # of `active`
        self._lost = ""  # why nothing works any more
        self._is_recording = False
        self._held: weakref.WeakSet[Releasable] = weakref.WeakSet()
        self._retired: deque[Releasable] = deque()

    def attribute(self, name: str) -> int:
        """A device attribute by PyCUDA's name, or 0 where this PyCUDA does not know it."""
        which = getattr(self.cuda.device_attribute, name, None)
        return int(self.device.get_attribute(which)) if which is not None else 0

    @property
    def native(self) -> native.LibCuda:
        return native.library()

    @property
    def stream(self) -> Any:
        """Our own stream; it and the default stream wait for each other. Call inside `active`."""
        if self._stream is None:
            self._stream = self.cuda.Stream()
        return self._stream

    @contextmanager
    def active(self, doing: str) -> Iterator[None]:
        """The context is current within; PyCUDA's errors leave as `DeviceError`. Nests."""
        if self._lost:
            raise DeviceError(self._lost)
        self._enter(doing)
        try:
            yield
        except self.cuda.Error as error:
            raise self._explained(doing, error) from None
        finally:
            self._leave()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """What is launched within goes to a graph; the context may not be asked meanwhile."""
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def hold(self, resource: Releasable) -> None:
        """Release it in `close`, if it still lives then."""
        self._held.add(resource)

    def retire(self, resource: Releasable) -> None:
        """Release it once a few thousand others were retired after it, or in `close`.

        For memory whose address must not come to hold something else soon.
        """
        self._retired.append(resource)
        while len(self._retired) > _MOST_RETIRED:
            self._retired.popleft().release()

    def close(self) -> None:
        """Free what is held and give the context back. Idempotent; later uses are refused."""
        for resource in list(self._held):
            resource.release()
        self._retired.clear()
        self._stream = None
        context, self._context = self._context, None
        # PyCUDA gives a context back only in the thread that retained it, and pushes it for that;
        # releasing a primary one does not pop it.
        is_ours = threading.get_ident() == self._thread
        if context is not None and is_ours and not self._lost:
            context.detach()
            self.native.pop_if_current(context.handle)
        self._lost = self._lost or f"cuda:{self.index} was closed: open it again"

    def _enter(self, doing: str) -> None:
        if self._depth == 0:  # one driver call a launch matters to short kernels
            try:
                if self._context is None:
                    self._context = self.device.retain_primary_context()
                    self._thread = threading.get_ident()
                self._context.push()
            except self.cuda.Error as error:
                raise DeviceError(f"using cuda:{self.index} for {doing}: {error}") from None
        self._depth += 1

    def _leave(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            with suppress(*([self.cuda.Error] if self._lost else [])):
                self.cuda.Context.pop()

    def _explained(self, doing: str, error: Exception) -> DeviceError:
        """Asks the context whether it has outlived the error: PyCUDA hides the driver's codes."""
        if self._is_recording:
            return DeviceError(f"{doing}: {error}")
        try:
            self.cuda.Context.synchronize()
        except self.cuda.Error:
            self._lost = (
                f"{doing}: {error}. The CUDA context is lost with this error: every later call in "
                "this process fails, start a new process"
            )
            return DeviceError(self._lost)
        return DeviceError(f"{doing}: {error}")
