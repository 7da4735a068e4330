"""FlexAttention: a Triton kernel that PyTorch generates for the very mask and scores."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from autotune.libraries.base import Inputs
from autotune.libraries.cublas import tensors_of, torch_reason
from autotune.libraries.torch_device import TorchExecution
from records.canonical import Value
from records.target import Target
from records.workload import Workload
from search_spaces.attention.parameters import Parameters

_DTYPES = ("float16", "bfloat16")


class FlexAttention:
    """`torch.compile` of `flex_attention`, autotuned; the first launch takes up to minutes."""

    name = "flex"
    op = "attention"

    def rejects(self, workload: Workload, target: Target) -> str:
        if reason := torch_reason(target):
            return reason
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed: pip install triton"
        given = Parameters.of(workload)
        if given.dtype not in _DTYPES or given.scaled_kv:
            return f"only {' and '.join(_DTYPES)} are compared with FlexAttention"
        if given.page_size or given.packed or given.kv_lens:
            return "only sequences of one length are compared with FlexAttention"
        if given.lse:
            return "logarithms are not compared with FlexAttention"
        if (given.causal or given.window) and given.q_len > given.kv_len:
            return "queries that see no key are not compared with FlexAttention"
        return ""

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> TorchExecution:
        import torch
        from torch.nn.attention.flex_attention import flex_attention

        given, on = Parameters.of(workload), torch.device(device)
        torch.cuda.set_device(on)
        compiled = torch.compile(flex_attention, dynamic=False, mode="max-autotune-no-cudagraphs")
        tensors = tensors_of(torch, workload, inputs, on)
        details: dict[str, Value] = {
            "torch": str(torch.__version__),
            "triton": importlib.metadata.version("triton"),
        }
        return TorchExecution(
            torch,
            on,
            flex_call(torch, compiled, given, tensors),
            given.dtype,
            details,
            lambda: torch.set_float32_matmul_precision("highest"),
            name="out",
            arranged=lambda out: _heads_first(given, out),
        )


def flex_call(
    torch: Any, flex_attention: Callable[..., Any], given: Parameters, tensors: Mapping[str, Any]
) -> Callable[[], Any]:
    """The call for a workload; the mask of blocks is made here, before anything is timed."""
    from torch.nn.attention.flex_attention import create_block_mask

    q, k, v = (_heads_first(given, tensors[name]) for name in "qkv")
    options: dict[str, Any] = {
        "scale": given.scale,
        "enable_gqa": given.kv_heads != given.heads,
        "score_mod": _scores(torch, given, tensors),
    }
    if given.causal or given.window:
        options["block_mask"] = create_block_mask(
            _mask(given), None, None, given.q_len, given.kv_len, device=q.device
        )
    return lambda: flex_attention(q, k, v, **options)


def _heads_first(given: Parameters, tensor: Any) -> Any:
    return tensor if given.layout == "bhsd" else tensor.transpose(1, 2)


def _mask(given: Parameters) -> Callable[..., Any]:
    shift, window, causal = given.kv_len - given.q_len, given.window, given.causal

    def sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
        ahead = key - query - shift
        if not window:
            return ahead <= 0
        near = ahead > -window
        return near & (ahead <= 0) if causal else near & (ahead < window)

    return sees


def _scores(torch: Any, given: Parameters, tensors: Mapping[str, Any]) -> Any:
    """Softcap, then bias, as the workload wants them; None for neither."""
    shift, cap, kind = given.kv_len - given.q_len, given.softcap, given.bias
    if not cap and kind == "none":
        return None
    added: Any = tensors.get("alibi_slopes" if kind == "alibi" else "bias")

    def modified(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
        if cap:
            score = cap * torch.tanh(score / cap)
        if kind == "alibi":
            return score - added[head] * (key - query - shift).abs()
        if kind == "head":
            return score + added[head, query, key]
        return score + added[batch, head, query, key] if kind == "full" else score

    return modified
