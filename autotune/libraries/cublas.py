"""cuBLAS and cuBLASLt, as PyTorch calls them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from autotune.libraries.base import Inputs, operands
from autotune.libraries.torch_device import TorchExecution, to_tensor
from autotune.libraries.torch_groups import one_after_the_other
from autotune.libraries.torch_products import Tensors, is_one_call, product, tensor_type
from autotune.libraries.torch_weights import dequantised
from records.canonical import Value
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.matmul.parameters import ACCUMULATORS, Parameters

_LT_ONLY = ("float8_e4m3", "int8")  # PyTorch has these through cuBLASLt alone
_FLOAT8_ALIGNMENT = 16  # of n and k, elements
_INT8_ALIGNMENT = 8
_INT8_LEAST_ROWS = 17  # of `_int_mm`


class CublasMatmul:
    """One of the two, by PyTorch's name: the algorithm is the library's own choice.

    Sums of 16-bit types may not be reduced in 16 bits, as PyTorch allows by default: the workload
    asks for float32, and such a result would not pass the check. Sums of float8 are cuBLASLt's
    fast ones, which tensor cores accumulate as ours do. Neither multiplies by quantised weights:
    the rival is the product with weights that were dequantised beforehand, which reads more
    memory. Groups of rows are as many calls. The details of a record say so.
    """

    op = "matmul"

    def __init__(self, name: str) -> None:
        self.name = name

    def rejects(self, workload: Workload, target: Target) -> str:
        if reason := torch_reason(target):
            return reason
        given = Parameters.of(workload)
        if reason := _rejected_groups(given):
            return reason
        if given.accumulate != ACCUMULATORS[given.dtype][0]:
            return f"sums in {given.accumulate} are not compared with PyTorch"
        if given.out_dtype.startswith("float8"):
            return f"PyTorch's products are not stored in {given.out_dtype} here"
        if given.dtype in _LT_ONLY and self.name != "cublaslt":
            return f"PyTorch multiplies {given.dtype} by cuBLASLt alone"
        return _rejected_float8(given) or _rejected_int8(given)

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> TorchExecution:
        import torch

        given = Parameters.of(workload)
        on = torch.device(device)
        torch.cuda.set_device(on)
        compute, how = computation(torch, workload, tensors_of(torch, workload, inputs, on))
        versions = {"torch": str(torch.__version__), "cuda": str(torch.version.cuda)}
        return TorchExecution(
            torch,
            on,
            compute,
            given.out_dtype,
            {**versions, **how},
            lambda: self._configure(torch, given),
        )

    def _configure(self, torch: Any, given: Parameters) -> None:
        torch.backends.cuda.preferred_blas_library(self.name)
        torch.set_float32_matmul_precision("high" if given.dtype == "tf32" else "highest")
        settings = torch.backends.cuda.matmul
        settings.allow_fp16_reduced_precision_reduction = False
        settings.allow_bf16_reduced_precision_reduction = False


def computation(
    torch: Any, workload: Workload, tensors: Tensors
) -> tuple[Callable[[], Any], dict[str, Value]]:
    """What returns C, and what is not one call on the arrays of the workload, in words.

    Weights that are quantised become numbers here, before anything is timed.
    """
    given, how = Parameters.of(workload), dict[str, Value]()
    if given.quantised:
        tensors = {**tensors, "b": dequantised(torch, given, tensors)}
        how["weights"] = "dequantised beforehand"
    a, b = operands(workload, tensors)
    if given.groups:
        return one_after_the_other(torch, given, a, b), how | {"groups": "one call each"}
    if not is_one_call(given):
        how["epilogue"] = "PyTorch's kernels, one a step"
    return product(torch, given, a, b, tensors), how


def torch_reason(target: Target) -> str:
    """`""`, or why PyTorch does not compute on the target's device."""
    if target.backend != "cuda":
        return "computes on NVIDIA GPUs through CUDA only"
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed: pip install torch"
    return ""


def tensors_of(torch: Any, workload: Workload, inputs: Inputs, device: Any) -> dict[str, Any]:
    """Every input on the device."""
    types = {array.name: array.dtype for array in registry.op(workload.op).arrays(workload)}
    return {name: to_tensor(torch, types[name], array, device) for name, array in inputs.items()}


def _rejected_groups(given: Parameters) -> str:
    if not given.groups:
        return ""
    plain = not given.epilogue and given.scale == "none"
    if not plain or tensor_type(given.out_dtype) != tensor_type(given.dtype):
        return "of groups of rows only plain products are compared with PyTorch"
    return ""


def _rejected_float8(given: Parameters) -> str:
    if not given.dtype.startswith("float8"):
        return ""
    if given.dtype != "float8_e4m3":
        return f"cuBLASLt does not multiply {given.dtype} by {given.dtype}"
    if given.layout != "nt" or given.batch > 1:
        return "cuBLASLt multiplies float8 of layout nt, one product at a time"
    if given.n % _FLOAT8_ALIGNMENT or given.k % _FLOAT8_ALIGNMENT:
        return f"cuBLASLt needs n and k of float8 to be multiples of {_FLOAT8_ALIGNMENT}"
    if given.scale == "row_column" and (given.epilogue or given.out_dtype != "bfloat16"):
        return "cuBLASLt scales rows and columns of float8 only where C is bfloat16"
    return ""


def _rejected_int8(given: Parameters) -> str:
    if given.dtype != "int8":
        return ""
    if given.batch > 1 or given.m < _INT8_LEAST_ROWS:
        return f"PyTorch multiplies int8 from {_INT8_LEAST_ROWS} rows on, one product at a time"
    if given.n % _INT8_ALIGNMENT or given.k % _INT8_ALIGNMENT:
        return f"cuBLASLt needs n and k of int8 to be multiples of {_INT8_ALIGNMENT}"
    return ""
