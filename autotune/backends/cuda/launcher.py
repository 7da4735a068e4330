"""A winner as a callable over numpy arrays and arrays on the device."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from autotune.backends.cuda import device_arrays
from autotune.backends.cuda.device_arrays import DeviceArray, refuse_overlap
from autotune.backends.cuda.driver import Session, gpu_array
from autotune.backends.cuda.kernels import Kernels
from autotune.backends.cuda.memory import CudaMemory
from autotune.backends.cuda.streams import handle_of, launching_on
from autotune.backends.given import Given, check_writeable, on_host, sort
from search_spaces.kernel import Array, KernelSource


class CudaLauncher:
    """`autotune.backends.base.Launcher`.

    Host arrays are copied both ways, and the call waits. Arrays on the device (PyTorch, CuPy,
    PyCUDA, anything with `__cuda_array_interface__` or `__dlpack__`) are used where they lie;
    work goes to `queue` and is not waited for. Without one it goes to PyTorch's current stream
    where an input is a tensor, else to the legacy default stream. Outputs that are not given are
    tensors where an input is one, else PyCUDA's `GPUArray`s (with the bits of types that numpy
    does not know).
    """

    def __init__(self, session: Session, source: KernelSource, binary: bytes) -> None:
        self._session = session
        self._source = source
        self._kernels = Kernels(session, source, binary)
        self._scratch = {each.name: CudaMemory(session, each.bytes) for each in source.scratch}
        self._staging: dict[str, CudaMemory] = {}
        self._last_event = 0  # after the latest call, where calls share scratch

    def __call__(
        self, arrays: Mapping[str, Any], out: Mapping[str, Any] | None = None, queue: Any = None
    ) -> dict[str, Any]:
        checked = partial(device_arrays.checked, device_index=self._session.index)
        given = sort(self._source.arrays, arrays, out or {}, checked)
        is_host = on_host(given, "arrays on the GPU")
        with self._session.active("calling the kernel"):
            if is_host:
                return self._call_on_host(given, queue)
            return self._call_on_device(given, queue)

    def _call_on_host(self, given: Given, queue: Any) -> dict[str, Any]:
        outputs = given.outputs_or(lambda array: np.empty(array.storage_shape, array.storage))
        check_writeable(given.inputs, outputs)
        for name, array in given.inputs.items():
            self._staged(name, array).write(0, array)
        memory = {name: self._staged(name, array) for name, array in outputs.items()}
        inputs = {name: self._staging[name].address for name in given.inputs}
        addresses = inputs | {name: each.address for name, each in memory.items()}
        self._run(addresses | given.scalars, queue)
        with self._session.active("running the kernel"):
            self._session.cuda.Context.synchronize()
        for name, array in outputs.items():
            memory[name].read(0, array)
        return outputs

    def _call_on_device(self, given: Given, queue: Any) -> dict[str, Any]:
        inputs: dict[str, DeviceArray] = given.inputs
        if queue is None:
            queue = _current_stream(inputs)
        with self._session.active("memory for the outputs"):
            outputs = given.outputs_or(partial(self._device_output, inputs))
        refuse_overlap(inputs, outputs)
        every = inputs | outputs
        self._wait_for_writers(every, queue)
        self._run({name: each.address for name, each in every.items()} | given.scalars, queue)
        return {name: each.owner for name, each in outputs.items()}

    def _run(self, values: Mapping[str, Any], queue: Any) -> None:
        scratch = {name: memory.address for name, memory in self._scratch.items()}
        self._kernels.bind({**values, **scratch})
        session = self._session
        with session.active("launching"), launching_on(session, queue) as stream:
            handle = stream.handle if stream is not None else 0
            if self._last_event:
                session.native.wait(handle, self._last_event)
            self._kernels.enqueue(stream)
            if self._scratch:
                self._remember(session.native.recorded(handle))

    def _remember(self, event: int) -> None:
        """Calls share scratch, so one waits for another, whatever their streams."""
        if self._last_event:
            self._session.native.destroy_event(self._last_event)
        self._last_event = event

    def _wait_for_writers(self, arrays: Mapping[str, DeviceArray], queue: Any) -> None:
        """Streams that arrays say they are still written on (version 3 of their interface)."""
        handle = handle_of(queue)
        writers = {each.stream for each in arrays.values() if each.stream not in (None, handle)}
        if writers:
            with self._session.active("waiting for the arrays"):
                for writer in writers:
                    self._session.native.order(int(writer or 0), handle)

    def _staged(self, name: str, array: Any) -> CudaMemory:
        if name not in self._staging:
            self._staging[name] = CudaMemory(self._session, array.nbytes)
        return self._staging[name]

    def _device_output(self, inputs: Mapping[str, DeviceArray], array: Array) -> DeviceArray:
        tensor = _first_tensor(inputs)
        made = _beside(tensor, array) if tensor is not None else None
        if made is None:
            made = gpu_array()(array.storage_shape, array.storage)
        output: DeviceArray = device_arrays.checked(array, made, self._session.index)
        return output


def _first_tensor(arrays: Mapping[str, DeviceArray]) -> Any:
    """The first PyTorch tensor, or `None`."""
    owners = (each.owner for each in arrays.values())
    return next((owner for owner in owners if hasattr(owner, "new_empty")), None)


def _current_stream(arrays: Mapping[str, DeviceArray]) -> Any:
    tensor = _first_tensor(arrays)
    return _torch(tensor).cuda.current_stream(tensor.device) if tensor is not None else None


def _beside(tensor: Any, array: Array) -> Any:
    """A new tensor on the same device, or `None` where PyTorch has no such type."""
    torch = _torch(tensor)
    names = (array.dtype, f"{array.dtype}fn", array.storage.name)
    dtype = next((getattr(torch, name) for name in names if hasattr(torch, name)), None)
    return tensor.new_empty(array.storage_shape, dtype=dtype) if dtype is not None else None


def _torch(tensor: Any) -> Any:
    """The package that a tensor comes from: we never import it ourselves."""
    return sys.modules[type(tensor).__module__.partition(".")[0]]
