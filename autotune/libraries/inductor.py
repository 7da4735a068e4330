"""An autotuned Triton matmul: Inductor's templates, none of a library's."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from autotune.libraries.base import Inputs, operands
from autotune.libraries.cublas import tensors_of, torch_reason
from autotune.libraries.torch_device import TorchExecution
from records.canonical import Value
from records.target import Target
from records.workload import Workload
from search_spaces.matmul.parameters import Parameters

_DTYPES = ("float16", "bfloat16", "tf32")
_ONLY_TRITON = {"max_autotune": True, "max_autotune_gemm_backends": "TRITON"}


class TritonMatmul:
    """`torch.compile` with max-autotune and Triton's templates alone; plain products only.

    The first launch tunes, which takes up to minutes.
    """

    name = "triton"
    op = "matmul"

    def rejects(self, workload: Workload, target: Target) -> str:
        if reason := torch_reason(target):
            return reason
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed: pip install triton"
        given = Parameters.of(workload)
        is_plain = given.out_dtype == ("float32" if given.dtype == "tf32" else given.dtype)
        if given.dtype not in _DTYPES or not is_plain or given.epilogue:
            return f"only plain products of {', '.join(_DTYPES)} are compared with Triton"
        if given.quantised or given.groups or given.accumulate != "float32":
            return "only products of one size, summed in float32, are compared with Triton"
        return ""

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> TorchExecution:
        import torch

        on = torch.device(device)
        torch.cuda.set_device(on)
        a, b = operands(workload, tensors_of(torch, workload, inputs, on))
        multiply = torch.compile(torch.matmul, dynamic=False, options=_ONLY_TRITON)
        precision = "high" if workload["dtype"] == "tf32" else "highest"
        details: dict[str, Value] = {
            "torch": str(torch.__version__),
            "triton": importlib.metadata.version("triton"),
        }
        return TorchExecution(
            torch,
            on,
            lambda: multiply(a, b),
            Parameters.of(workload).out_dtype,
            details,
            lambda: torch.set_float32_matmul_precision(precision),
        )
