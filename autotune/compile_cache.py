"""Compiled kernels kept between runs, so that loading one does not wait for a compiler.

One file an entry in a directory that is safe to delete. Processes share it without locks: a file
appears whole, by a rename, and an entry that cannot be read is a miss.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from autotune.backends.base import Backend
from autotune.cache import cache_directory, write_atomically
from records.canonical import canonical_json
from search_spaces.kernel import KernelSource

_SCHEMA = 1  # of the entries and of what their key covers
_SUFFIX = ".bin"
_DIGEST_BYTES = hashlib.sha256().digest_size
DEFAULT_MAX_BYTES = 256 << 20


class CompileCache:
    """Binaries by what reaches the compiler and by the circumstances that decide what it makes.

    `directory` defaults to `compiled/` in the user's cache (`XDG_CACHE_HOME` is respected). When
    the entries exceed `max_bytes`, those that were not used for longest are removed. Problems of
    the file system cost a compilation, never an error.
    """

    def __init__(
        self, directory: Path | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        self._directory = directory if directory is not None else cache_directory("compiled")
        self._max_bytes = max_bytes

    def binary(self, backend: Backend, source: KernelSource, *, fresh: bool = False) -> bytes:
        """The binary that `backend.compile(source)` gives, compiled only if not kept.

        `fresh` compiles in any case, and replaces what was kept: for a binary that the driver
        does not take. Raises `CompileError` as `compile` does; failures are not kept.
        """
        path = self._directory / f"{_key(backend, source)}{_SUFFIX}"
        kept = None if fresh else _read(path)
        if kept is not None:
            return kept
        binary = backend.compile(source)
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, hashlib.sha256(binary).digest() + binary)
            self._prune()
        return binary

    def _prune(self) -> None:
        entries = []
        for path in self._directory.glob(f"*{_SUFFIX}*"):  # what a killed writer left, too
            with suppress(OSError):  # another process may prune too
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._max_bytes:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


def _key(backend: Backend, source: KernelSource) -> str:
    """The environment covers driver and compiler versions; clocks in it only cost a miss."""
    parts = [
        _SCHEMA,
        source.dialect,
        source.text,
        list(source.options),
        backend.target.to_json(),
        dict(backend.environment),
    ]
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def _read(path: Path) -> bytes | None:
    """An entry's binary, marked as used now; `None` where it is absent or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, binary = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(binary).digest() != digest:
        return None
    with suppress(OSError):
        os.utime(path)
    return binary
