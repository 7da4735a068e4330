"""CUDA C++ to machine code. Needs no GPU, no driver and no context.

NVRTC through `cuda-bindings`, which only this module imports; where that is not installed, nvcc.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from autotune.backends.cuda import headers
from records.errors import CompileError, DeviceError, MissingComponentError
from search_spaces.kernel import KernelSource

INSTALL = "pip install cuda-bindings nvidia-cuda-nvrtc"
_NVCC_PLACES = ("/usr/local/cuda/bin/nvcc",)
_HEADER_MISSING = re.compile(r'(open source file "?|fatal error: )[\w/]*(cuda[_/]|nv/|crt/)')


class Compiler(Protocol):
    @property
    def version(self) -> str:
        """Name and version: a binary's circumstances."""

    def architectures(self) -> tuple[str, ...]:
        """What it generates code for, without suffixes: `("sm_80", "sm_90", …)`."""

    def cubin(self, text: str, options: Sequence[str]) -> bytes:
        """Machine code. Raises `CompileError` with the log."""


def compile_for(source: KernelSource, arch: str) -> bytes:
    """A cubin for `arch`, suffix kept (`"sm_90a"`), by the compiler at hand, on any machine.

    Raises `CompileError` with the compiler's log, `MissingComponentError` where there is no
    compiler.
    """
    found = compiler()
    try:
        return found.cubin(source.text, [f"--gpu-architecture={arch}", *source.options])
    except CompileError as error:
        raise CompileError(f"{error}{_remedy(found, arch, str(error))}") from None


@cache
def compiler() -> Compiler:
    """NVRTC, else nvcc; raises `MissingComponentError` where neither is there."""
    reasons = []
    for kind in (Nvrtc, Nvcc):
        try:
            return kind()
        except MissingComponentError as error:
            reasons.append(str(error))
    raise MissingComponentError(f"no CUDA compiler ({'; '.join(reasons)}): {INSTALL}")


class Nvrtc:
    """NVIDIA's compiler as a library."""

    def __init__(self) -> None:
        try:
            self._nvrtc = importlib.import_module("cuda.bindings.nvrtc")
            status, *numbers = self._nvrtc.nvrtcVersion()
        except (ImportError, RuntimeError) as error:  # no package, or no library for it
            raise MissingComponentError(f"NVRTC: {error}") from None
        self._refuse(status)
        self._version = ".".join(map(str, numbers))

    @property
    def version(self) -> str:
        return f"nvrtc {self._version}"

    def architectures(self) -> tuple[str, ...]:
        status, numbers = self._nvrtc.nvrtcGetSupportedArchs()
        self._refuse(status)
        return tuple(f"sm_{number}" for number in numbers)

    def cubin(self, text: str, options: Sequence[str]) -> bytes:
        nvrtc = self._nvrtc
        status, program = nvrtc.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], [])
        self._refuse(status)
        try:
            every = [*options, *(f"-I{path}" for path in headers.include_directories())]
            encoded = [option.encode() for option in every]
            (status,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
            if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
                raise CompileError(self._log(program) or f"{self.version}: {status.name}")
            return self._bytes(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
        finally:
            nvrtc.nvrtcDestroyProgram(program)

    def _log(self, program: Any) -> str:
        raw = self._bytes(
            self._nvrtc.nvrtcGetProgramLogSize, self._nvrtc.nvrtcGetProgramLog, program
        )
        return raw.rstrip(b"\0").decode(errors="replace").strip()

    def _bytes(self, size_of: Any, copy: Any, program: Any) -> bytes:
        status, size = size_of(program)
        self._refuse(status)
        raw = bytearray(size)
        self._refuse(copy(program, raw)[0])
        return bytes(raw)

    def _refuse(self, status: Any) -> None:
        if status != self._nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise DeviceError(f"NVRTC: {status.name}")


class Nvcc:
    """The toolkit's compiler as a program."""

    def __init__(self) -> None:
        path = shutil.which("nvcc") or next(filter(Path.exists, map(Path, _NVCC_PLACES)), None)
        if path is None:
            raise MissingComponentError("nvcc: not in PATH")
        self._path = str(path)
        told = re.search(r"release [\d.]+, V([\d.]+)", self._run(["--version"]).stdout)
        self._version = told[1] if told else "unknown"

    @property
    def version(self) -> str:
        return f"nvcc {self._version}"

    def architectures(self) -> tuple[str, ...]:
        return tuple(self._run(["--list-gpu-code"]).stdout.split())

    def cubin(self, text: str, options: Sequence[str]) -> bytes:
        with tempfile.TemporaryDirectory(prefix="autotune-nvcc-") as directory:
            written, made = Path(directory, "kernel.cu"), Path(directory, "kernel.cubin")
            written.write_text(text)
            done = self._run(["-cubin", *options, "-o", str(made), str(written)])
            if done.returncode:
                log = (done.stderr + done.stdout).replace(f"{directory}/", "").strip()
                raise CompileError(log or f"{self.version}: exit status {done.returncode}")
            return made.read_bytes()

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        command = [self._path, *arguments]
        return subprocess.run(command, capture_output=True, text=True, errors="replace")


def _remedy(found: Compiler, arch: str, log: str) -> str:
    """What to do about a compiler that lacks headers, or is too old for the device."""
    if _HEADER_MISSING.search(log):
        return f"\nCUDA's headers are not there: {headers.INSTALL}"
    plain = re.sub(r"\D+$", "", arch)
    if "architecture" in log and plain not in found.architectures():
        return f"\n{found.version} knows no {arch}: pip install --upgrade nvidia-cuda-nvrtc"
    return ""
