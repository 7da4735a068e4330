"""Stands for `ctypes.CDLL("libcuda.so.1")`: writes calls down, hands out handles, keeps graphs."""

from __future__ import annotations

import ctypes
import itertools
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

Action = Callable[[], None]

# What `cuTensorMapEncodeTiled` writes: type, rank, address, shape (5), strides in bytes (4),
# box (5), steps (5); then interleave, swizzle, promotion, fill.
DESCRIPTOR = struct.Struct("<B B Q 5Q 4Q 5I 5B 4B")
_SUCCESS = 0


class FakeLibCuda:
    """Every function of the driver succeeds, unless `missing` or in `failing` (with its code)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.missing = {"cuFuncGetParamInfo"}
        self.failing: dict[str, int] = {}
        self.blocks_per_unit = 2
        self.stack: list[int] = []  # of contexts
        self._handles = itertools.count(0x100000, 0x10)
        self._capturing: dict[int, list[Action]] = {}
        self._graphs: dict[int, list[Action]] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu") or name in self.missing:
            raise AttributeError(name)
        return partial(self._call, name)

    def run(self, stream: int, action: Action) -> None:
        """Now, or whenever the graph that is recorded on that stream is launched."""
        if stream in self._capturing:
            self._capturing[stream].append(action)
        else:
            action()

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def _call(self, name: str, *arguments: Any) -> int:
        self.calls.append((name, arguments))
        if name in self.failing:
            return self.failing[name]
        action = getattr(self, f"_{name}", None)
        if action is not None:
            action(*arguments)
        return _SUCCESS

    def _new_handle(self, reference: Any) -> int:
        handle = next(self._handles)
        reference._obj.value = handle
        return handle

    def _cuGetErrorName(self, code: Any, text: Any) -> None:
        text._obj.value = b"CUDA_ERROR_%d" % code.value

    def _cuModuleLoadData(self, module: Any, binary: bytes) -> None:
        self._new_handle(module)

    def _cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> None:
        self._new_handle(function)

    def _cuOccupancyMaxActiveBlocksPerMultiprocessor(self, blocks: Any, *_: Any) -> None:
        blocks._obj.value = self.blocks_per_unit

    def _cuEventCreate(self, event: Any, flags: Any) -> None:
        self._new_handle(event)

    def _cuCtxGetCurrent(self, context: Any) -> None:
        context._obj.value = self.stack[-1] if self.stack else None

    def _cuCtxPopCurrent_v2(self, context: Any) -> None:
        context._obj.value = self.stack.pop()

    def _cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> None:
        self._capturing[stream.value] = []

    def _cuStreamEndCapture(self, stream: Any, graph: Any) -> None:
        self._graphs[self._new_handle(graph)] = self._capturing.pop(stream.value)

    def _cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> None:
        self._graphs[self._new_handle(executable)] = self._graphs[graph.value]

    def _cuGraphDestroy(self, graph: Any) -> None:
        del self._graphs[graph.value]

    def _cuGraphExecDestroy(self, executable: Any) -> None:
        del self._graphs[executable.value]

    def _cuGraphLaunch(self, executable: Any, stream: Any) -> None:
        for action in self._graphs[executable.value]:
            action()

    def _cuTensorMapEncodeTiled(
        self,
        written: Any,
        data_type: Any,
        rank: Any,
        address: Any,
        shape: Any,
        strides_bytes: Any,
        box: Any,
        steps: Any,
        *enumerations: Any,
    ) -> None:
        assert written.value % 64 == 0, "CUtensorMap is aligned to 64 bytes"

        def filled(values: Any, count: int) -> list[int]:
            return [*list(values)[:count], *[0] * (count - len(values))]

        descriptor = DESCRIPTOR.pack(
            data_type.value,
            rank.value,
            address.value,
            *filled(shape, 5),
            *filled(strides_bytes, 4),
            *filled(box, 5),
            *filled(steps, 5),
            *(each.value for each in enumerations),
        )
        ctypes.memmove(written.value, descriptor.ljust(128, b"\0"), 128)
