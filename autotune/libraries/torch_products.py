"""A matmul as calls of PyTorch, which uses cuBLAS and cuBLASLt on a CUDA device.

Where one call does the whole workload, that is what is called. Any other epilogue follows on
float32 sums as calls of their own, one a step, as a user without a fused kernel writes it:
rounding to the output's type in between would be another computation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autotune.libraries.torch_device import tensor_dtype
from search_spaces.matmul.parameters import Parameters

Tensors = Mapping[str, Any]

_ONE_CALL = ((), ("bias",), ("alpha",), ("beta",), ("alpha", "beta"))  # of `addmm`


def is_one_call(given: Parameters) -> bool:
    """Whether PyTorch fuses the epilogue into the product."""
    if given.dtype == "int8":
        return given.out_dtype == "int32"
    if given.dtype.startswith("float8"):
        return not given.epilogue
    plain = tensor_type(given.out_dtype) == tensor_type(given.dtype)
    return not given.epilogue or (plain and given.epilogue in _ONE_CALL and given.batch == 1)


def tensor_type(dtype: str) -> str:
    return "float32" if dtype == "tf32" else dtype


def product(torch: Any, given: Parameters, a: Any, b: Any, tensors: Tensors) -> Callable[[], Any]:
    """What returns C. `a` is (…, m, k) and `b` (…, k, n); `tensors` hold all inputs by name."""
    if is_one_call(given):
        if given.epilogue:
            return _fused(torch, given.epilogue, a, b, tensors)
        return _sums(torch, given, a, b, tensors, given.out_dtype)
    sums = _sums(torch, given, a, b, tensors, given.epilogue_dtype)
    steps = [_step(torch, name, tensors) for name in given.epilogue]
    if given.dtype == "int8" and given.scale != "none":
        steps.insert(0, _scaled(given, tensors))
    out = tensor_dtype(torch, given.out_dtype)

    def run() -> Any:
        result = sums()
        for step in steps:
            result = step(result)
        return result.to(out)

    return run


def _sums(
    torch: Any, given: Parameters, a: Any, b: Any, tensors: Tensors, dtype: str
) -> Callable[[], Any]:
    """The sums in a type; those of float8 are scaled, those of int8 are not."""
    out = tensor_dtype(torch, dtype)
    if given.dtype.startswith("float8"):
        a_scale, b_scale = _float8_scales(torch, given, tensors, a.device)
        return lambda: torch._scaled_mm(a, b, a_scale, b_scale, out_dtype=out, use_fast_accum=True)
    if given.dtype == "int8":
        return lambda: torch._int_mm(a, b) if dtype == "int32" else torch._int_mm(a, b).to(out)
    if out == a.dtype:
        return lambda: torch.matmul(a, b)
    multiply = torch.bmm if given.batch > 1 else torch.mm
    return lambda: multiply(a, b, out_dtype=out)


def _float8_scales(torch: Any, given: Parameters, tensors: Tensors, device: Any) -> tuple[Any, Any]:
    if given.scale == "none":
        one = torch.ones((), dtype=torch.float32, device=device)
        return one, one
    if given.scale == "row_column":
        return tensors["a_scale"].view(-1, 1), tensors["b_scale"].view(1, -1)
    return tensors["a_scale"], tensors["b_scale"]


def _fused(
    torch: Any, epilogue: tuple[str, ...], a: Any, b: Any, tensors: Tensors
) -> Callable[[], Any]:
    if epilogue == ("bias",):
        return lambda: torch.addmm(tensors["bias"], a, b)
    alpha = float(tensors["alpha"]) if "alpha" in epilogue else 1.0
    if "beta" not in epilogue:
        nothing = torch.zeros((), dtype=a.dtype, device=a.device)
        return lambda: torch.addmm(nothing, a, b, beta=0.0, alpha=alpha)
    beta = float(tensors["beta"])
    return lambda: torch.addmm(tensors["c_in"], a, b, beta=beta, alpha=alpha)


def _scaled(given: Parameters, tensors: Tensors) -> Callable[[Any], Any]:
    a_scale, b_scale = tensors["a_scale"], tensors["b_scale"]
    if given.scale == "row_column":
        a_scale, b_scale = a_scale.unsqueeze(-1), b_scale.unsqueeze(-2)
    return lambda x: x.mul_(a_scale).mul_(b_scale)


def _step(torch: Any, name: str, tensors: Tensors) -> Callable[[Any], Any]:
    """One step of an epilogue on sums in float32 (float64 for float64)."""
    match name:
        case "alpha":
            return lambda x: x.mul_(tensors["alpha"])
        case "beta":
            return lambda x: x.add_(tensors["c_in"].to(x.dtype) * tensors["beta"])
        case "bias" | "residual":
            return lambda x: x.add_(tensors[name])
        case "row_scale":
            return lambda x: x.mul_(tensors[name].unsqueeze(-1))
        case "column_scale":
            return lambda x: x.mul_(tensors[name])
        case "relu":
            return lambda x: x.relu_()
        case "silu":
            return lambda x: torch.nn.functional.silu(x, inplace=True)
        case "gelu":
            return lambda x: torch.nn.functional.gelu(x)
        case "gelu_tanh":
            return lambda x: torch.nn.functional.gelu(x, approximate="tanh")
    raise NotImplementedError(f"epilogue step {name!r} in PyTorch")
