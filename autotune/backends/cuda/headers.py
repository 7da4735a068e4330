"""Where the headers of CUDA's device types lie (cuda_fp16.h, cuda_bf16.h, cuda_fp8.h)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

INSTALL = "pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl"
_MARK = "cuda_fp16.h"
_TOOLKIT_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT")
_TOOLKIT = Path("/usr/local/cuda")


def include_directories() -> tuple[Path, ...]:
    """The first place that has them: the wheels beside NVRTC's, a toolkit; else none."""
    for directory in _candidates():
        if (directory / _MARK).is_file():
            libraries = directory / "cccl"  # where toolkits since 13.0 keep <nv/target>
            return (directory, libraries) if libraries.is_dir() else (directory,)
    return ()


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations or () if spec else ():
        yield from sorted(Path(root).glob("cu[0-9]*/include"), reverse=True)  # since CUDA 13
        yield Path(root) / "cuda_runtime" / "include"
    for variable in _TOOLKIT_VARIABLES:
        if os.environ.get(variable):
            yield Path(os.environ[variable]) / "include"
    yield _TOOLKIT / "include"
