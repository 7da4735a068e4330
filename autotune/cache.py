"""Where facts about this machine are kept between runs: a directory per user, safe to delete."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

_NAME = "autotune-kernels"


def cache_directory(*parts: str) -> Path:
    """A writable directory below the user's cache, created where it is not there.

    `$XDG_CACHE_HOME/autotune-kernels`, else `~/.cache/autotune-kernels`; where neither can be
    written (a read-only home), a directory of the user's own below the system's temporary one.
    """
    directory = _root(os.environ.get("XDG_CACHE_HOME", "")).joinpath(*parts)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@cache
def _root(xdg_cache_home: str) -> Path:
    wanted = Path(xdg_cache_home or Path.home() / ".cache") / _NAME
    return wanted if _is_writable(wanted) else _temporary()


def _is_writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def _temporary() -> Path:
    """`/tmp/autotune-kernels-<uid>`, unless it is somebody else's: then one for this process."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    shared = Path(tempfile.gettempdir()) / f"{_NAME}-{user}"
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        if shared.stat().st_uid == user and not shared.is_symlink() and _is_writable(shared):
            return shared
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix=f"{_NAME}-"))


def write_atomically(path: Path, data: bytes) -> None:
    """Readers see the old file or the whole new one, however many processes write at once."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
