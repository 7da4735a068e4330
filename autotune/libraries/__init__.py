"""The vendors' libraries as rivals: what a user would call if there were no tuned kernel.

A library is timed in a child process whose environment is clean (`clean_environment`): settings
such as `OPENBLAS_CORETYPE` would make the rival slower than it is, and the comparison a lie.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from autotune.libraries.attention_cuda import CUDNN, EFFICIENT, FLASH
from autotune.libraries.attention_flex import FlexAttention
from autotune.libraries.attention_host import NumpyAttention, SdpaAttention
from autotune.libraries.attention_varlen import VarlenAttention
from autotune.libraries.base import Library
from autotune.libraries.cublas import CublasMatmul
from autotune.libraries.host import NumpyMatmul, TorchMatmul
from autotune.libraries.inductor import TritonMatmul
from autotune.libraries.special_products import GROUPED, INT4
from records.target import Target
from records.workload import Workload

__all__ = ["LIBRARIES", "ON_REQUEST", "Library", "clean_environment", "libraries", "library"]

LIBRARIES: tuple[Library, ...] = (
    NumpyMatmul(),
    TorchMatmul(),
    CublasMatmul("cublas"),
    CublasMatmul("cublaslt"),
    INT4,
    GROUPED,
    SdpaAttention(),
    NumpyAttention(),
    CUDNN,
    FLASH,
    EFFICIENT,
    VarlenAttention(),
)

ON_REQUEST: tuple[Library, ...] = (TritonMatmul(), FlexAttention())
"""Those that take minutes to prepare: rivals only where they are named."""

_THREAD_SETTINGS = ("OPENBLAS_", "GOTO_", "MKL_", "OMP_", "KMP_", "BLIS_", "NVPL_")


@contextlib.contextmanager
def clean_environment() -> Iterator[None]:
    """Without the variables that slow a BLAS down; child processes started inside inherit that."""
    saved = {
        name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_THREAD_SETTINGS)
    }
    try:
        yield
    finally:
        os.environ.update(saved)


def libraries(workload: Workload, target: Target) -> list[Library]:
    """The libraries that can do a workload on a target, but for those on request."""
    return [
        library
        for library in LIBRARIES
        if library.op == workload.op and not library.rejects(workload, target)
    ]


def library(name: str) -> Library:
    return next(library for library in (*LIBRARIES, *ON_REQUEST) if library.name == name)
