"""`autotune_kernels_cuda.h`: launching the kernels of a build through the CUDA driver API."""

from __future__ import annotations

from importlib import resources

CUDA_FILE = "autotune_kernels_cuda.h"


def cuda_text() -> str:
    """The whole header; the same for every build."""
    return resources.files("autotune.codegen").joinpath(CUDA_FILE).read_text()
