"""PyTorch's own kernels for products that no BLAS has: int4 weights, groups of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autotune.libraries.base import Inputs, operands
from autotune.libraries.cublas import tensors_of, torch_reason
from autotune.libraries.torch_device import TorchExecution
from autotune.libraries.torch_groups import at_once
from autotune.libraries.torch_products import Tensors
from autotune.libraries.torch_weights import codes
from records.errors import DeviceError
from records.target import Target
from records.workload import Workload
from search_spaces.matmul.parameters import Parameters

_GROUP_SIZES = (32, 64, 128, 256)  # of `_weight_int4pack_mm`
_INNER_K_TILES = 8  # the most that a thread keeps of B: 8 tiles of 16 elements along k
_K_ALIGNMENT = 16 * _INNER_K_TILES
_N_ALIGNMENT = 8
_GROUPED_ALIGNMENT = 8  # of rows of bfloat16, for addresses of 16 bytes

Computation = Callable[[Any, Workload, Tensors], Callable[[], Any]]


class SpecialProduct:
    """A kernel of PyTorch's: `rejected` says which workloads it does not do, `computation` makes
    the call from PyTorch, the workload and its tensors, on any device."""

    op = "matmul"

    def __init__(
        self,
        name: str,
        function: str,
        rejected: Callable[[Parameters], str],
        computation: Computation,
    ) -> None:
        self.name = name
        self._function = function
        self._rejected = rejected
        self.computation = computation

    def rejects(self, workload: Workload, target: Target) -> str:
        return torch_reason(target) or self._rejected(Parameters.of(workload))

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> TorchExecution:
        import torch

        if not hasattr(torch, self._function):
            raise DeviceError(f"PyTorch {torch.__version__} has no {self._function}: update it")
        on = torch.device(device)
        torch.cuda.set_device(on)
        compute = self.computation(torch, workload, tensors_of(torch, workload, inputs, on))
        details = {
            "torch": str(torch.__version__),
            "cuda": str(torch.version.cuda),
            "function": f"torch.{self._function}",
        }
        return TorchExecution(torch, on, compute, Parameters.of(workload).out_dtype, details)


def _rejected_int4(given: Parameters) -> str:
    if given.b_dtype != "int4" or given.dtype != "bfloat16" or given.zero_point:
        return "multiplies bfloat16 by int4 without zero points"
    if given.epilogue or given.out_dtype != "bfloat16" or given.batch > 1 or given.groups:
        return "only plain products of one size are compared with PyTorch's int4 kernel"
    if given.layout[0] != "n":
        return "needs rows of A with k as the fast axis"
    if given.group_size not in _GROUP_SIZES:
        return f"has groups of {', '.join(map(str, _GROUP_SIZES))} weights, not {given.group_size}"
    if given.k % _K_ALIGNMENT or given.n % _N_ALIGNMENT:
        return f"needs k a multiple of {_K_ALIGNMENT}, and n of {_N_ALIGNMENT}"
    return ""


def _int4_product(torch: Any, workload: Workload, tensors: Tensors) -> Callable[[], Any]:
    """A weight is (code - 8) scale + zero there, with codes from 0: ours plus 8, and zero 0.

    Two codes share a byte, the first in the upper half, before the driver's order of tiles.
    """
    given = Parameters.of(workload)
    shifted = (codes(torch, given, tensors["b"]) + 8).to(torch.uint8)
    pairs = (shifted[:, ::2] << 4) | shifted[:, 1::2]
    weights = torch._convert_weight_to_int4pack(pairs, _INNER_K_TILES)
    scale = tensors["b_scale"]
    scale_and_zero = torch.stack((scale, torch.zeros_like(scale)), dim=-1).contiguous()
    a, group_size = tensors["a"], given.group_size
    return lambda: torch._weight_int4pack_mm(a, weights, group_size, scale_and_zero)


def _rejected_grouped(given: Parameters) -> str:
    plain = not given.epilogue and not given.quantised and given.out_dtype == "bfloat16"
    if not given.groups or given.dtype != "bfloat16" or not plain:
        return "multiplies groups of rows of bfloat16, and nothing follows"
    if given.layout[0] != "n":
        return "needs rows of A with k as the fast axis"
    if given.n % _GROUPED_ALIGNMENT or given.k % _GROUPED_ALIGNMENT:
        return f"needs n and k to be multiples of {_GROUPED_ALIGNMENT}"
    return ""


def _grouped_product(torch: Any, workload: Workload, tensors: Tensors) -> Callable[[], Any]:
    return at_once(torch, Parameters.of(workload), *operands(workload, tensors))


INT4 = SpecialProduct("tinygemm", "_weight_int4pack_mm", _rejected_int4, _int4_product)
GROUPED = SpecialProduct("grouped_mm", "_grouped_mm", _rejected_grouped, _grouped_product)
