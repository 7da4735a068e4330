"""PyTorch on a CUDA device: tensors from host arrays, and times by the device's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from records.canonical import Value
from search_spaces import dtypes
from search_spaces.op import Arrays

_HOLD_S = (30e-6, 1e-3)  # at least and at most; between, twice what enqueuing took before
_CLOCK_HZ = 2e9  # where PyTorch does not tell; a hold is then somewhat shorter or longer
_BITS = {1: "int8", 2: "int16"}  # views that PyTorch takes of what numpy has no type for
_NAMES = {"float8_e4m3": "float8_e4m3fn", "tf32": "float32", "int4": "uint8"}


def tensor_dtype(torch: Any, dtype: str) -> Any:
    """PyTorch's type for one of `search_spaces.dtypes`."""
    return getattr(torch, _NAMES.get(dtype, dtype))


def to_tensor(torch: Any, dtype: str, array: npt.NDArray[Any], device: Any) -> Any:
    """A copy on the device; storage that holds bits gets the type that they are of."""
    if dtypes.storage(dtype).kind == "u":
        array = array.view(_BITS[array.itemsize])
    return torch.tensor(array, device=device).view(tensor_dtype(torch, dtype))


def to_array(torch: Any, dtype: str, tensor: Any) -> npt.NDArray[Any]:
    """A copy in the storage of `search_spaces.dtypes`, on the host."""
    storage = dtypes.storage(dtype)
    if storage.kind == "u":
        tensor = tensor.view(getattr(torch, _BITS[storage.itemsize]))
    copied: npt.NDArray[Any] = tensor.cpu().numpy().view(storage)
    return copied


class DeviceClock:
    """Times what PyTorch enqueues on its current stream, between two events.

    A kernel spins on the device until everything is enqueued, as for our own kernels, so that
    PyTorch's way to the launch does not count.
    """

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch = torch
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        clock_khz = getattr(torch.cuda.get_device_properties(device), "clock_rate", 0)
        self._clock_hz = 1e3 * clock_khz or _CLOCK_HZ
        self._hold_s, _ = _HOLD_S

    def time_s(self, enqueue: Callable[[], None]) -> float:
        """Seconds between the events, once everything is done."""
        hold = getattr(self._torch.cuda, "_sleep", None)
        if hold is not None:
            hold(int(self._hold_s * self._clock_hz))
        held_s = time.perf_counter()
        self._start.record()
        enqueue()
        self._end.record()
        least_s, most_s = _HOLD_S
        self._hold_s = min(most_s, max(least_s, 2 * (time.perf_counter() - held_s)))
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) * 1e-3


class TorchExecution:
    """`autotune.backends.base.Execution` of a function that returns a tensor of dtype `dtype`.

    PyTorch's allocator gives each result the memory of the one before. `configure` makes
    PyTorch's global settings before each launch: rivals in one process want different ones.
    `arranged` gives the result the shape of the output called `name`, once nothing is timed.
    """

    def __init__(
        self,
        torch: Any,
        device: Any,
        compute: Callable[[], Any],
        dtype: str,
        details: Mapping[str, Value],
        configure: Callable[[], None] = lambda: None,
        *,
        name: str = "c",
        arranged: Callable[[Any], Any] = lambda result: result,
    ) -> None:
        self._torch = torch
        self._device = device
        self._compute = compute
        self._dtype = dtype
        self._configure = configure
        self._name = name
        self._arranged = arranged
        self._clock = DeviceClock(torch, device)
        self._result: Any = None
        self._flushed: Any = None
        self._details = dict(details)

    @property
    def details(self) -> Mapping[str, Value]:
        return self._details

    def poison(self) -> None:
        if self._result is not None:
            self._result.view(self._torch.uint8).fill_(0xFF)
            self._result = None

    def launch(self) -> float:
        self._configure()
        self._result = None
        return self._clock.time_s(self._run)

    def flush(self, flush_bytes: int) -> None:
        if flush_bytes <= 0:
            return
        if self._flushed is None or self._flushed.numel() < flush_bytes:
            made = self._torch.empty(flush_bytes, dtype=self._torch.uint8, device=self._device)
            self._flushed = made
        self._flushed[:flush_bytes].zero_()

    def outputs(self) -> Arrays:
        result = self._arranged(self._result)
        return {self._name: to_array(self._torch, self._dtype, result)}

    def damage(self) -> str:
        return ""

    def close(self) -> None:
        self._compute, self._result, self._flushed = (lambda: None), None, None

    def _run(self) -> None:
        self._result = self._compute()
