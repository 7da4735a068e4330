"""The launches of a source, bound to a loaded binary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from autotune.backends.cuda.descriptors import Descriptors
from autotune.backends.cuda.driver import Session
from autotune.backends.cuda.native import KernelFacts
from autotune.backends.cuda.parameters import Block, packed
from records.canonical import Value
from records.errors import DeviceError
from search_spaces.kernel import KernelSource, Launch

_ELF = b"\x7fELF"
_ELF_HEADER_BYTES = 64


class Kernels:
    """A module of a session, a function a launch, each with its own parameter block.

    Raises `DeviceError` for a binary, a kernel, a group or an amount of shared memory that the
    device does not take.
    """

    def __init__(self, session: Session, source: KernelSource, binary: bytes) -> None:
        _refuse_foreign(binary)
        self._session = session
        self._binary = binary
        self._launches = source.launches
        self._blocks: list[Block] = []
        self._facts: dict[Launch, KernelFacts] = {}
        self._descriptors = Descriptors(session, source)
        with session.active("loading the binary"):
            self._module = session.cuda.module_from_buffer(binary)
        self._functions = [self._function(launch) for launch in source.launches]
        self._allow_shared_memory()
        session.hold(self)

    def bind(self, values: Mapping[str, Any]) -> None:
        """Give every launch its arguments: addresses, and scalars as numpy scalars."""
        every = {**values, **self._descriptors.addresses(values)}
        blocks = []
        for launch, function in zip(self._launches, self._functions, strict=True):
            blocks.append(packed([every[name] for name in launch.arguments]))
            self._check_layout(launch, blocks[-1])
            function.prepare(f"{len(blocks[-1].data)}s" if blocks[-1].data else "")
        self._blocks = blocks

    def enqueue(self, stream: Any) -> None:
        """All launches on a stream (`None`: the default one), each after the one before."""
        for launch, function, block in zip(
            self._launches, self._functions, self._blocks, strict=True
        ):
            arguments = [block.data] if block.data else []
            with self._session.active(described(launch)):
                function.prepared_async_call(
                    launch.groups,
                    launch.group_size,
                    stream,
                    *arguments,
                    shared_size=launch.shared_bytes,
                )

    @property
    def details(self) -> dict[str, Value]:
        """Of the launch with the most threads.

        `registers` and `local_bytes` (spills, and arrays that found no registers) of a thread;
        `shared_bytes` of a block, static and dynamic; `occupancy`, the threads that a
        multiprocessor runs at once over those that it could hold.
        """
        launch, function = max(zip(self._launches, self._functions, strict=True), key=_threads)
        details: dict[str, Value] = {
            "registers": self._attribute(function, "NUM_REGS"),
            "local_bytes": self._attribute(function, "LOCAL_SIZE_BYTES"),
            "shared_bytes": self._attribute(function, "SHARED_SIZE_BYTES") + launch.shared_bytes,
        }
        most = self._session.attribute("MAX_THREADS_PER_MULTIPROCESSOR")
        blocks = self._facts_of(launch).blocks_per_unit
        if most and blocks is not None:
            details["occupancy"] = blocks * math.prod(launch.group_size) / most
        return details

    def release(self) -> None:
        """Unload. Idempotent."""
        self._descriptors.release()
        self._functions = []
        module, self._module = self._module, None
        if module is not None:
            with suppress(DeviceError), self._session.active("unloading"):
                del module

    def _function(self, launch: Launch) -> Any:
        with self._session.active(f"kernel {launch.kernel}"):
            function = self._module.get_function(launch.kernel)
        threads = math.prod(launch.group_size)
        limit = self._attribute(function, "MAX_THREADS_PER_BLOCK")
        if threads > limit:
            raise DeviceError(
                f"{described(launch)}: {threads} threads in a block, "
                f"this kernel runs with at most {limit}"
            )
        return function

    def _allow_shared_memory(self) -> None:
        """More than the 48 KiB that a block may have unasked; two launches may share a kernel."""
        needed: dict[str, int] = {}
        for launch in self._launches:
            needed[launch.kernel] = max(needed.get(launch.kernel, 0), launch.shared_bytes)
        attribute = self._session.cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
        for launch, function in zip(self._launches, self._functions, strict=True):
            if needed[launch.kernel]:
                with self._session.active(described(launch)):
                    function.set_attribute(attribute, needed[launch.kernel])

    def _attribute(self, function: Any, name: str) -> int:
        with self._session.active(f"asking for {name}"):
            which = getattr(self._session.cuda.function_attribute, name)
            return int(function.get_attribute(which))

    def _facts_of(self, launch: Launch) -> KernelFacts:
        if launch not in self._facts:
            threads = math.prod(launch.group_size)
            with self._session.active(f"asking about {launch.kernel}"):
                self._facts[launch] = self._session.native.facts(
                    self._binary, launch.kernel, threads, launch.shared_bytes
                )
        return self._facts[launch]

    def _check_layout(self, launch: Launch, block: Block) -> None:
        """The driver copies parameters blindly: one too few, and a kernel reads a wild pointer."""
        takes = self._facts_of(launch).parameters
        if takes is not None and takes != block.layout:
            raise DeviceError(
                f"kernel {launch.kernel} takes {_sizes(takes)}, its launch gives "
                f"{_sizes(block.layout)} for {', '.join(launch.arguments) or 'nothing'}"
            )


def described(launch: Launch) -> str:
    groups = "x".join(map(str, launch.groups))
    group_size = "x".join(map(str, launch.group_size))
    shared = f", {launch.shared_bytes} bytes of shared memory" if launch.shared_bytes else ""
    return f"launch of {launch.kernel}, {groups} blocks of {group_size} threads{shared}"


def _threads(pair: tuple[Launch, Any]) -> int:
    launch, _ = pair
    return math.prod(launch.groups) * math.prod(launch.group_size)


def _sizes(layout: Iterable[tuple[int, int]]) -> str:
    sizes = [str(size) for _, size in layout]
    return f"{len(sizes)} parameters of {', '.join(sizes)} bytes" if sizes else "no parameters"


def _refuse_foreign(binary: bytes) -> None:
    """The driver is handed a bare pointer, so it would read past the end of what is cut short."""
    if not binary.startswith(_ELF) or len(binary) < _elf_bytes(binary):
        raise DeviceError("this is no CUDA binary, or a part of one: compile the source again")


def _elf_bytes(binary: bytes) -> int:
    """Where the headers of segments and sections end, one of which stands last in a cubin."""

    def number(start: int, size: int) -> int:
        return int.from_bytes(binary[start : start + size], "little")

    segments = number(0x20, 8) + number(0x36, 2) * number(0x38, 2)
    sections = number(0x28, 8) + number(0x3A, 2) * number(0x3C, 2)
    return max(_ELF_HEADER_BYTES, segments, sections)
