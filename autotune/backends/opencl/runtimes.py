"""Makes an OpenCL runtime that pip installed visible to PyOpenCL, without root.

The `.icd` files in Intel's wheel hold a path of the machine that built them, and PyOpenCL's
bundled loader (ocl-icd) reads no list of libraries, only a directory of `.icd` files. So we
write such a directory: Intel's library by its absolute path, beside copies of the system's own
files, which the loader would no longer read.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from pathlib import Path

from autotune.cache import cache_directory, write_atomically
from records.canonical import canonical_json, digest

SYSTEM_VENDORS = Path("/etc/OpenCL/vendors")
USER_SETTINGS = ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES", "OPENCL_VENDOR_PATH")
_DISTRIBUTION = "intel-opencl-rt"
_LIBRARY = "libintelocl.so"


def make_visible(system_vendors: Path = SYSTEM_VENDORS) -> None:
    """Point the loader at every runtime there is. Call before the first list of platforms.

    Does nothing where the user has chosen (one of `USER_SETTINGS`), where no runtime came by
    pip, and when called again.
    """
    if any(os.environ.get(name) for name in USER_SETTINGS):
        return
    library = pip_runtime()
    if library is not None:
        os.environ["OCL_ICD_VENDORS"] = str(_vendors(_icds(library, system_vendors)))


def pip_runtime() -> Path | None:
    """Intel's OpenCL library for CPUs as pip installed it, or `None`."""
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate())).resolve()
        if file.name == _LIBRARY and path.exists():
            return path
    return None


def loading_problem() -> str:
    """Why the runtime that pip should have installed is not among the platforms, and the remedy.

    `""` where it could be: then the user's own settings keep it out.
    """
    library = pip_runtime()
    if library is None:
        return 'no OpenCL platform found: pip install "autotune-kernels[cpu]", or a driver'
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return f"{_DISTRIBUTION} does not load ({error}): pip install intel-cmplr-lib-rt"
    return ""


def settings() -> str:
    """What the loader was told, ours or the user's, as one would type it."""
    pairs = ((name, os.environ.get(name)) for name in USER_SETTINGS)
    return " ".join(f"{name}={value}" for name, value in pairs if value)


def _icds(library: Path, system_vendors: Path) -> dict[str, str]:
    """Text of each `.icd` file by its name. A system's own Intel runtime goes before pip's."""
    icds: dict[str, str] = {}
    for path in sorted(system_vendors.glob("*.icd")):
        try:
            icds[path.name] = path.read_text()
        except (OSError, UnicodeDecodeError):
            continue
    if not any(_LIBRARY in text for text in icds.values()):
        icds["autotune-intel-cpu.icd"] = f"{library}\n"
    return icds


def _vendors(icds: dict[str, str]) -> Path:
    """A directory with exactly these files; its name is their digest, so it never changes."""
    directory = cache_directory("opencl-vendors", digest(canonical_json(icds)))
    for name, text in icds.items():
        path = directory / name
        if not path.exists():
            write_atomically(path, text.encode())
    return directory
