"""A winner as a callable over numpy arrays, `pyopencl.array.Array`s and `pyopencl.Buffer`s."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from autotune.backends.given import Given, check_writeable, on_host, sort
from autotune.backends.opencl import arguments
from autotune.backends.opencl.binaries import unpacked
from autotune.backends.opencl.driver import cl, cl_array, errors
from autotune.backends.opencl.kernels import Kernels
from autotune.backends.opencl.memory import aligned_bytes, allocate
from autotune.backends.opencl.target import is_cpu
from records.errors import InvalidInputError
from search_spaces.kernel import Array, KernelSource


class OpenCLLauncher:
    """`autotune.backends.base.Launcher`. Arrays of any context on the same device will do."""

    def __init__(self, queue: Any, source: KernelSource, binary: bytes) -> None:
        self._queue = queue
        self._source = source
        self._binary = binary
        self._bound: dict[int, _Bound] = {}
        self._bind(queue)  # a binary of another device is refused now, not at the first call

    def __call__(
        self, arrays: Mapping[str, Any], out: Mapping[str, Any] | None = None, queue: Any = None
    ) -> dict[str, Any]:
        given = sort(self._source.arrays, arrays, out or {}, arguments.checked)
        if on_host(given, "pyopencl arrays"):
            return self._call_on_host(given, queue or self._queue)
        return self._call_on_device(given, queue)

    def _call_on_host(self, given: Given, queue: Any) -> dict[str, Any]:
        bound = self._bind(queue)
        outputs = given.outputs_or(_empty)
        check_writeable(given.inputs, outputs)
        with errors("moving the arrays to the device"):
            buffers = {name: bound.host_input(queue, name, a) for name, a in given.inputs.items()}
            buffers |= {name: bound.host_output(queue, name, a) for name, a in outputs.items()}
        done = bound.run(queue, buffers | given.scalars, wait_for=None)
        with errors("reading the outputs"):
            done.wait()  # the queue may be the user's, and out of order
            for name, array in outputs.items():
                bound.fetch(queue, buffers[name], array)
        return outputs

    def _call_on_device(self, given: Given, queue: Any) -> dict[str, Any]:
        queue = queue or arguments.queue_of(given) or self._queue
        arguments.refuse_other_context(given, queue)
        bound = self._bind(queue)
        with errors("memory for the outputs"):
            outputs = given.outputs_or(partial(_device_array, queue))
        device_arrays = given.inputs | outputs
        buffers = {
            name: arguments.buffer_of(name, a, queue.device) for name, a in device_arrays.items()
        }
        events = [event for a in device_arrays.values() for event in getattr(a, "events", ())]
        done = bound.run(queue, buffers | given.scalars, wait_for=events)
        for array in outputs.values():
            if isinstance(array, cl_array.Array):
                array.add_event(done)
        return outputs

    def _bind(self, queue: Any) -> _Bound:
        if queue.device != self._queue.device:
            raise InvalidInputError(
                f"this kernel was compiled for {self._queue.device.name.strip()}, the queue "
                f"belongs to {queue.device.name.strip()}: use a queue of the same device"
            )
        key = queue.context.int_ptr
        if key not in self._bound:
            self._bound[key] = _Bound(queue, self._source, self._binary)
        return self._bound[key]


class _Bound:
    """The program, its scratch and staging memory in one context, made once and kept."""

    def __init__(self, queue: Any, source: KernelSource, binary: bytes) -> None:
        self._context = queue.context
        self._zero_copy = is_cpu(queue.device)
        program = unpacked(self._context, queue.device, source, binary)
        self._kernels = Kernels(program, queue.device, source)
        self._staging: dict[str, Any] = {}
        self._last: Any = None
        with errors("memory for the kernel's scratch"):
            self._scratch = {each.name: allocate(queue, each.bytes) for each in source.scratch}

    def run(self, queue: Any, values: Mapping[str, Any], wait_for: list[Any] | None) -> Any:
        """Enqueue; the event of the last launch. Calls share scratch, so one waits for another."""
        waits = [*(wait_for or ()), *([self._last] if self._scratch and self._last else ())]
        self._kernels.bind({**values, **self._scratch})
        self._last = self._kernels.enqueue(queue, waits or None)[-1]
        return self._last

    def host_input(self, queue: Any, name: str, array: Any) -> Any:
        if self._can_share(array):
            return self._shared(array)
        buffer = self._staged(queue, name, array.nbytes)
        cl.enqueue_copy(queue, buffer, array)
        return buffer

    def host_output(self, queue: Any, name: str, array: Any) -> Any:
        if self._can_share(array):
            return self._shared(array)
        return self._staged(queue, name, array.nbytes)

    def fetch(self, queue: Any, buffer: Any, array: Any) -> None:
        """Make `array` hold what is in `buffer`, of `host_output`, which may be its memory."""
        if not self._can_share(array):
            cl.enqueue_copy(queue, array, buffer)
            return
        reading = cl.map_flags.READ
        mapped, _ = cl.enqueue_map_buffer(queue, buffer, reading, 0, array.shape, array.dtype)
        mapped.base.release(queue)
        queue.finish()

    def _can_share(self, array: Any) -> bool:
        return self._zero_copy and arguments.is_aligned(array) and array.flags.writeable

    def _shared(self, array: Any) -> Any:
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.USE_HOST_PTR
        return cl.Buffer(self._context, flags, hostbuf=array)

    def _staged(self, queue: Any, name: str, size: int) -> Any:
        if name not in self._staging:
            self._staging[name] = allocate(queue, size)
        return self._staging[name]


def _empty(array: Array) -> Any:
    host = aligned_bytes(array.size_bytes)
    shape = array.storage_shape
    return host.view(array.storage).reshape(shape)


def _device_array(queue: Any, array: Array) -> Any:
    data = allocate(queue, array.size_bytes)
    shape = array.storage_shape
    return cl_array.Array(queue, shape, array.storage, data=data)
