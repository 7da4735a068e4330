"""Attention on NVIDIA GPUs as PyTorch calls it: cuDNN, FlashAttention, memory-efficient."""

from __future__ import annotations

from typing import Any

from autotune.libraries.base import Inputs
from autotune.libraries.cublas import tensors_of, torch_reason
from autotune.libraries.sdpa import (
    Tensors,
    Way,
    is_causal_alone,
    lower_right,
    mask_elements,
    sdpa_reason,
    ways,
)
from autotune.libraries.torch_device import TorchExecution
from records.canonical import Value
from records.target import Target
from records.workload import Workload
from search_spaces.attention.parameters import Parameters

_FLASH_MAX_DIM = 256


class SdpaOnDevice:
    """`scaled_dot_product_attention` held to one of its backends, a name of `SDPBackend`.

    Where PyTorch's own rules leave the backend out, the first launch says so. Settings that all
    three share, such as TF32, do not concern 16 bits; float32 is multiplied as float32.
    """

    op = "attention"

    def __init__(self, name: str, backend: str) -> None:
        self.name, self._backend = name, backend

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        reason = torch_reason(target) or sdpa_reason(given)
        if reason:
            return reason
        if given.dtype == "float32" and self._backend != "EFFICIENT_ATTENTION":
            return f"{self._noun} is for 16 bits"
        if given.bias == "alibi" and given.dtype != "float32":
            return "PyTorch would round the distances of ALiBi to 16 bits"
        if self._backend == "FLASH_ATTENTION":
            return _flash_reason(given)
        if self._backend == "EFFICIENT_ATTENTION" and self._needs_groups(given):
            return "the memory-efficient backend takes as many heads of K as of Q"
        return ""

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> TorchExecution:
        import torch

        given, on = Parameters.of(workload), torch.device(device)
        torch.cuda.set_device(on)
        way = self.way(torch, given, tensors_of(torch, workload, inputs, on))
        details: dict[str, Value] = {
            "torch": str(torch.__version__),
            "cuda": str(torch.version.cuda),
            "call": way.name,
        }
        if self._backend == "CUDNN_ATTENTION":
            details["cudnn"] = int(torch.backends.cudnn.version() or 0)
        return TorchExecution(
            torch,
            on,
            self.alone(torch, way),
            given.dtype,
            details,
            lambda: torch.set_float32_matmul_precision("highest"),
            name="out",
            arranged=way.arranged,
        )

    def way(self, torch: Any, given: Parameters, tensors: Tensors) -> Way:
        """The one call that this backend serves best."""
        knows_the_end = self._backend != "CUDNN_ATTENTION"
        if is_causal_alone(given) and given.q_len != given.kv_len and knows_the_end:
            return lower_right(torch, given, tensors)
        found = list(ways(torch, given, tensors))
        folds = self._backend == "EFFICIENT_ATTENTION" and given.kv_heads != given.heads
        return found[-1] if folds else found[0]

    def alone(self, torch: Any, way: Way) -> Any:
        """The call, with every other backend forbidden."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        backend = getattr(SDPBackend, self._backend)

        def call() -> Any:
            with sdpa_kernel([backend]):
                return way.call()

        return call

    @property
    def _noun(self) -> str:
        return "cuDNN" if self._backend == "CUDNN_ATTENTION" else "FlashAttention"

    def _needs_groups(self, given: Parameters) -> bool:
        """Whether heads of K must be shared by more than a view of Q can express."""
        can_fold = given.q_len == 1 and not mask_elements(given)
        return given.kv_heads != given.heads and not can_fold


def _flash_reason(given: Parameters) -> str:
    if mask_elements(given) and not is_causal_alone(given):
        return "PyTorch's FlashAttention takes no mask but a causal one"
    if given.head_dim != given.v_dim or given.head_dim > _FLASH_MAX_DIM:
        return f"FlashAttention takes one head_dim up to {_FLASH_MAX_DIM} for Q, K and V"
    return ""


CUDNN = SdpaOnDevice("sdpa_cudnn", "CUDNN_ATTENTION")
FLASH = SdpaOnDevice("sdpa_flash", "FLASH_ATTENTION")
EFFICIENT = SdpaOnDevice("sdpa_efficient", "EFFICIENT_ATTENTION")
