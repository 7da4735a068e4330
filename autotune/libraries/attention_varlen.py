"""FlashAttention with windows, packed sequences and pages: PyTorch's `varlen_attn`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autotune.libraries.base import Inputs
from autotune.libraries.cublas import tensors_of, torch_reason
from autotune.libraries.torch_device import TorchExecution
from records.canonical import Value
from records.target import Target
from records.workload import Workload
from search_spaces.attention.parameters import Parameters

_MAX_DIM = 256


class VarlenAttention:
    """Rows of all sequences one after another, which is PyTorch's only layout for it.

    Q, K and V of other layouts are brought into that one beforehand, and what lies behind the
    last key, which may be NaN and would spoil its result, is zero there.
    """

    name = "varlen_flash"
    op = "attention"

    def rejects(self, workload: Workload, target: Target) -> str:
        given = Parameters.of(workload)
        if reason := torch_reason(target):
            return reason
        if given.dtype == "float32" or given.scaled_kv:
            return "FlashAttention is for 16 bits, of Q, K and V alike"
        if given.softcap or given.bias != "none":
            return "PyTorch's varlen_attn has no softcap and no bias"
        if given.lse:
            return "logarithms are not compared with PyTorch"
        if given.head_dim != given.v_dim or given.head_dim > _MAX_DIM:
            return f"FlashAttention takes one head_dim up to {_MAX_DIM} for Q, K and V"
        return ""

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> TorchExecution:
        import torch
        from torch.nn.attention.varlen import varlen_attn

        given, on = Parameters.of(workload), torch.device(device)
        torch.cuda.set_device(on)
        tensors = tensors_of(torch, workload, inputs, on)
        details: dict[str, Value] = {
            "torch": str(torch.__version__),
            "cuda": str(torch.version.cuda),
        }
        if given.layout != "bshd":
            details["layout"] = "its own, rows before heads"
        return TorchExecution(
            torch,
            on,
            varlen_call(torch, varlen_attn, given, tensors),
            given.dtype,
            details,
            name="out",
            arranged=lambda out: self.arranged(given, out),
        )

    @staticmethod
    def arranged(given: Parameters, out: Any) -> Any:
        """Rows x heads x dim in the shape of the workload's `out`."""
        if given.packed:
            return out
        out = out.unflatten(0, (given.batch, given.q_len))
        return out.transpose(1, 2).contiguous() if given.layout == "bhsd" else out


def varlen_call(
    torch: Any, varlen_attn: Callable[..., Any], given: Parameters, tensors: Mapping[str, Any]
) -> Callable[[], Any]:
    """The call for a workload; its result has a row for each query of each sequence."""
    q = _rows(given, tensors["q"], keep=given.packed)
    k, v = (_kv_rows(torch, given, tensors[name]) for name in "kv")
    options: dict[str, Any] = {
        "scale": given.scale,
        "window_size": _window(given),
        "enable_gqa": given.kv_heads != given.heads,
    }
    if given.page_size:
        options["block_table"] = tensors["block_table"].clamp(min=0)
    if given.kv_lens and not given.packed_kv:
        options["seqused_k"] = tensors["kv_lengths"]
    q_ends = tensors.get("q_offsets", _ends(torch, given.batch, given.q_len, q))
    k_ends = tensors.get("kv_offsets", _ends(torch, given.batch, given.kv_len, q))
    k_ends = None if given.page_size else k_ends
    return lambda: varlen_attn(q, k, v, q_ends, k_ends, given.q_len, given.kv_len, **options)


def _window(given: Parameters) -> tuple[int, int]:
    """Keys before and after a query's own place; -1 for all."""
    before = given.window - 1 if given.window else -1
    return before, 0 if given.causal else before


def _ends(torch: Any, batch: int, length: int, like: Any) -> Any:
    return torch.arange(batch + 1, dtype=torch.int32, device=like.device) * length


def _rows(given: Parameters, tensor: Any, *, keep: bool) -> Any:
    """Rows x heads x dim; or pages x rows x heads x dim where they are to be kept."""
    if given.layout == "bhsd":
        tensor = tensor.transpose(1, 2).contiguous()
    return tensor if keep else tensor.flatten(0, 1)


def _kv_rows(torch: Any, given: Parameters, tensor: Any) -> Any:
    rows = _rows(given, tensor, keep=given.packed_kv or bool(given.page_size))
    return torch.nan_to_num(rows) if given.kv_lens and not given.packed_kv else rows
