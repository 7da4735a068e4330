"""Libraries on the host's CPU."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.disturbance import on_this_host
from autotune.libraries.base import Inputs, operands
from records.canonical import Value
from records.target import Target
from records.workload import Workload
from search_spaces.matmul.plain import plain_reason
from search_spaces.op import Arrays


class HostExecution:
    """`autotune.backends.base.Execution` of a function that writes `output`, host memory.

    `name` is that of the op's output.
    """

    def __init__(
        self,
        run: Callable[[], object],
        output: npt.NDArray[Any],
        details: Callable[[], Mapping[str, Value]],
        name: str = "c",
    ) -> None:
        self._run = run
        self._name = name
        self._output = output
        self._details = details

    @property
    def details(self) -> Mapping[str, Value]:
        return self._details()

    def poison(self) -> None:
        self._output.fill(np.nan)

    def launch(self) -> float:
        started_s = time.perf_counter()
        self._run()
        return time.perf_counter() - started_s

    def flush(self, flush_bytes: int) -> None:
        if flush_bytes > 0:
            np.empty(flush_bytes, np.uint8).fill(1)

    def outputs(self) -> Arrays:
        return {self._name: self._output.copy()}

    def damage(self) -> str:
        return ""

    def close(self) -> None:
        pass


class NumpyMatmul:
    """numpy's BLAS with the epilogue as numpy calls in place, as a numpy user would write it."""

    name = "numpy"
    op = "matmul"

    def rejects(self, workload: Workload, target: Target) -> str:
        if not on_this_host(target):
            return "numpy computes on the host's CPU only"
        if reason := plain_reason(workload):
            return f"numpy: {reason}"
        if workload["dtype"] not in ("float32", "float64"):
            return f"numpy has no BLAS for {workload['dtype']}"
        return ""

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> HostExecution:
        a, b = operands(workload, inputs)
        output = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
        spare = np.empty_like(output)
        steps = [_numpy_step(name, inputs, spare) for name in workload["epilogue"]]

        def run() -> None:
            np.matmul(a, b, out=output)
            for step in steps:
                step(output)

        return HostExecution(run, output, self._details)

    def _details(self) -> dict[str, Value]:
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
        if not on_this_host(target):
            return "timed on the host's CPU only"
        if importlib.util.find_spec("torch") is None:
            return "PyTorch is not installed: pip install torch"
        if workload["epilogue"] or plain_reason(workload):
            return "only plain products are compared with PyTorch"
        return ""

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> HostExecution:
        import torch

        a, b = (torch.from_numpy(operand) for operand in operands(workload, inputs))
        output = torch.empty((*a.shape[:-1], b.shape[-1]), dtype=a.dtype)

        facts: dict[str, Value] = {
            "torch": str(torch.__version__),
            "threads": int(torch.get_num_threads()),
        }
        return HostExecution(lambda: torch.matmul(a, b, out=output), output.numpy(), lambda: facts)


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
