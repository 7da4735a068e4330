"""The vendors' libraries as rivals: what a user would call if there were no tuned kernel.

A library is timed in a child process whose environment is clean (`clean_environment`): settings
such as `OPENBLAS_CORETYPE` would make the rival slower than it is, and the comparison a lie.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from records.canonical import Value
from records.target import Target
from records.workload import Workload
from search_spaces.matmul.plain import plain_reason

Inputs = Mapping[str, npt.NDArray[Any]]

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


class Library(Protocol):
    """One library routine for one op.

    `rejects` is `""` or why the library cannot do this workload on this target (not installed,
    no such type). `prepare` returns a function that does the whole computation once, into memory
    allocated beforehand, and returns the output; only its calls are timed. `details` says what
    ran: version, threads, kernel architecture; ask after the first call.
    """

    @property
    def name(self) -> str: ...

    @property
    def op(self) -> str: ...

    def rejects(self, workload: Workload, target: Target) -> str: ...

    def prepare(self, workload: Workload, inputs: Inputs) -> Callable[[], npt.NDArray[Any]]: ...

    def details(self) -> dict[str, Value]: ...


class NumpyMatmul:
    """numpy's BLAS with the epilogue as numpy calls in place, as a numpy user would write it."""

    name = "numpy"
    op = "matmul"

    def rejects(self, workload: Workload, target: Target) -> str:
        if not _is_host(target):
            return "numpy computes on the host's CPU only"
        if reason := plain_reason(workload):
            return f"numpy: {reason}"
        if workload["dtype"] not in ("float32", "float64"):
            return f"numpy has no BLAS for {workload['dtype']}"
        return ""

    def prepare(self, workload: Workload, inputs: Inputs) -> Callable[[], npt.NDArray[Any]]:
        a, b = _operands(workload, inputs)
        output = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
        spare = np.empty_like(output)
        steps = [_numpy_step(name, inputs, spare) for name in workload["epilogue"]]

        def run() -> npt.NDArray[Any]:
            np.matmul(a, b, out=output)
            for step in steps:
                step(output)
            return output

        return run

    def details(self) -> dict[str, Value]:
        details: dict[str, Value] = {"numpy": np.__version__}
        if importlib.util.find_spec("threadpoolctl") is None:
            return details
        import threadpoolctl

        for pool in threadpoolctl.threadpool_info():
            if pool.get("user_api") == "blas" and "numpy" in str(pool.get("filepath", "")):
                details["blas"] = f"{pool['internal_api']} {pool.get('version') or ''}".strip()
                details["architecture"] = str(pool.get("architecture", ""))
                details["threads"] = int(pool["num_threads"])
        return details


class TorchMatmul:
    """PyTorch's matmul (oneDNN or MKL inside) on the CPU."""

    name = "torch"
    op = "matmul"

    def rejects(self, workload: Workload, target: Target) -> str:
        if not _is_host(target):
            return "timed on the host's CPU only"
        if importlib.util.find_spec("torch") is None:
            return "PyTorch is not installed: pip install torch"
        if workload["epilogue"] or plain_reason(workload):
            return "only plain products are compared with PyTorch"
        return ""

    def prepare(self, workload: Workload, inputs: Inputs) -> Callable[[], npt.NDArray[Any]]:
        import torch

        a, b = (torch.from_numpy(operand) for operand in _operands(workload, inputs))
        output = torch.empty((*a.shape[:-1], b.shape[-1]), dtype=a.dtype)

        def run() -> npt.NDArray[Any]:
            torch.matmul(a, b, out=output)
            result: npt.NDArray[Any] = output.numpy()
            return result

        return run

    def details(self) -> dict[str, Value]:
        import torch

        return {"torch": str(torch.__version__), "threads": int(torch.get_num_threads())}


LIBRARIES: tuple[Library, ...] = (
    NumpyMatmul(),
    TorchMatmul(),
)


def libraries(workload: Workload, target: Target) -> list[Library]:
    """The libraries that can do a workload on a target."""
    return [
        library
        for library in LIBRARIES
        if library.op == workload.op and not library.rejects(workload, target)
    ]


def library(name: str) -> Library:
    return next(library for library in LIBRARIES if library.name == name)


def _is_host(target: Target) -> bool:
    return target.backend == "opencl" and target.is_cpu


def _operands(workload: Workload, inputs: Inputs) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A as (…, m, k) and B as (…, k, n): transposed layouts as views, as BLAS takes them."""
    return (
        inputs["a"].swapaxes(-1, -2) if workload["layout"][0] == "t" else inputs["a"],
        inputs["b"].swapaxes(-1, -2) if workload["layout"][1] == "t" else inputs["b"],
    )


def _numpy_step(
    name: str, inputs: Inputs, spare: npt.NDArray[Any]
) -> Callable[[npt.NDArray[Any]], object]:
    """One epilogue step as numpy calls in place; `spare` is memory of the output's shape."""
    match name:
        case "alpha":
            return lambda x: np.multiply(x, inputs["alpha"], out=x)
        case "beta":
            return lambda x: np.add(
                x, np.multiply(inputs["c_in"], inputs["beta"], out=spare), out=x
            )
        case "bias" | "residual":
            return lambda x: np.add(x, inputs[name], out=x)
        case "row_scale":
            return lambda x: np.multiply(x, inputs[name][:, None], out=x)
        case "column_scale":
            return lambda x: np.multiply(x, inputs[name], out=x)
        case "relu":
            return lambda x: np.maximum(x, 0, out=x)
        case "silu":
            return lambda x: np.divide(x, _one_plus_exp_of_minus(x, spare), out=x)
        case "gelu_tanh":
            return lambda x: np.divide(x, _one_plus_exp_of_minus(_tanh_inner(x), spare), out=x)
        case "gelu":
            from scipy.special import erf

            return lambda x: np.multiply(
                x, np.add(erf(x * np.sqrt(0.5).astype(x.dtype), out=spare), 1, out=spare) / 2, out=x
            )
    raise NotImplementedError(f"epilogue step {name!r} in numpy")


def _tanh_inner(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """2·√(2/π)·(x + 0.044715·x³), since (1 + tanh(z)) / 2 = 1 / (1 + exp(-2z))."""
    scaled: npt.NDArray[Any] = x * (1 + x.dtype.type(0.044715) * x * x)
    scaled *= x.dtype.type(2 * np.sqrt(2 / np.pi))
    return scaled


def _one_plus_exp_of_minus(x: npt.NDArray[Any], spare: npt.NDArray[Any]) -> npt.NDArray[Any]:
    np.exp(np.negative(x, out=spare), out=spare)
    spare += 1
    return spare
