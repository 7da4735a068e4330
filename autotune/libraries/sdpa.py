"""Attention as calls of PyTorch's `scaled_dot_product_attention`, on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.attention.parameters import Parameters

Tensors = Mapping[str, Any]

MAX_MASK_ELEMENTS = 2**29


@dataclass(frozen=True)
class Way:
    """One call that computes the workload; `arranged` gives its result the shape of `out`."""

    name: str
    call: Callable[[], Any]
    arranged: Callable[[Any], Any]


def sdpa_reason(given: Parameters, who: str = "PyTorch's function") -> str:
    """`""`, or what `who` does not compute in one call."""
    if given.scaled_kv:
        return f"{who} takes K and V in the type of Q, not {given.kv_dtype}"
    if given.softcap:
        return f"{who} has no softcap"
    if given.lse:
        return f"{who} does not return logarithms"
    if given.page_size:
        return f"{who} takes no pages"
    if given.packed or any(length != given.kv_len for length in given.kv_lens):
        return f"{who} takes sequences of one length"
    if (given.causal or given.window) and given.q_len > given.kv_len:
        return f"{who} is not compared where queries see no key"
    if mask_elements(given) > MAX_MASK_ELEMENTS:
        return f"its mask would have more than {MAX_MASK_ELEMENTS} elements"
    return ""


def mask_elements(given: Parameters) -> int:
    """Of a mask that must be written out; 0 where none is needed."""
    if given.bias == "none" and not _hides(given):
        return 0
    copies = {"none": 1, "full": given.batch * given.heads}.get(given.bias, given.heads)
    return copies * given.q_len * given.kv_len if not _is_square_causal(given) else 0


def ways(torch: Any, given: Parameters, tensors: Tensors) -> Iterator[Way]:
    """Calls that compute the same; which is fastest is for the caller to find out."""
    q, k, v = (_heads_first(given, tensors[name]) for name in "qkv")
    grouped = {"enable_gqa": True} if given.kv_heads != given.heads else {}
    mask = additive_mask(torch, given, tensors)
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def arranged(out: Any) -> Any:
        return _heads_first(given, out)

    if mask is None:
        causal = _hides(given)
        options = {"is_causal": causal, "scale": given.scale, **grouped}
        yield Way("is_causal" if causal else "plain", lambda: sdpa(q, k, v, **options), arranged)
    else:
        options = {"attn_mask": mask, "scale": given.scale, **grouped}
        yield Way("mask", lambda: sdpa(q, k, v, **options), arranged)
    if grouped and (given.layout == "bhsd" or given.q_len == 1):
        yield _folded(torch, given, tensors, arranged)


def lower_right(torch: Any, given: Parameters, tensors: Tensors) -> Way:
    """A causal mask that ends at the last key, which some kernels know without writing it out."""
    from torch.nn.attention.bias import causal_lower_right

    q, k, v = (_heads_first(given, tensors[name]) for name in "qkv")
    bias = causal_lower_right(given.q_len, given.kv_len)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return Way(
        "causal_lower_right",
        lambda: sdpa(
            q, k, v, attn_mask=bias, scale=given.scale, enable_gqa=given.kv_heads != given.heads
        ),
        lambda out: _heads_first(given, out),
    )


def is_causal_alone(given: Parameters) -> bool:
    """Whether a causal mask is all there is, and hides something."""
    return given.causal and _hides(given) and not _is_narrow(given) and given.bias == "none"


def additive_mask(torch: Any, given: Parameters, tensors: Tensors) -> Any:
    """What is added to the scores, minus infinity where a key is not seen; None for no mask.

    None too where `is_causal` says the same: PyTorch aligns that to the first key.
    """
    if not mask_elements(given):
        return None
    q = tensors["q"]
    rows = torch.arange(given.q_len, device=q.device)[:, None] + (given.kv_len - given.q_len)
    ahead = torch.arange(given.kv_len, device=q.device) - rows
    if given.bias == "alibi":
        mask = -tensors["alibi_slopes"][:, None, None] * ahead.abs()
    elif given.bias != "none":
        mask = tensors["bias"].clone()
    else:
        mask = torch.zeros(ahead.shape, dtype=q.dtype, device=q.device)
    return mask.masked_fill_(_hidden(given, ahead), -math.inf)


def _hidden(given: Parameters, ahead: Any) -> Any:
    hidden = ahead > 0 if given.causal else ahead > math.inf
    return hidden | (ahead.abs() >= given.window) if given.window else hidden


def _hides(given: Parameters) -> bool:
    """Whether any key is hidden from any query."""
    return (given.causal and given.q_len > 1) or _is_narrow(given)


def _is_narrow(given: Parameters) -> bool:
    """Whether the window leaves any key out."""
    return 0 < given.window < given.kv_len


def _is_square_causal(given: Parameters) -> bool:
    return is_causal_alone(given) and given.q_len == given.kv_len


def _heads_first(given: Parameters, tensor: Any) -> Any:
    """A view of batch x heads x rows x dim, from the workload's layout or back to it."""
    return tensor if given.layout == "bhsd" else tensor.transpose(1, 2)


def _folded(torch: Any, given: Parameters, tensors: Tensors, arranged: Callable[[Any], Any]) -> Way:
    """Heads that share K and V as more queries of one head: a view, and K is read once."""
    shared, rows = given.queries_per_kv_head, given.q_len
    q, k, v = (_heads_first(given, tensors[name]) for name in "qkv")
    folded = q.reshape(given.batch, given.kv_heads, shared * rows, given.head_dim)
    mask = additive_mask(torch, given, tensors)
    if mask is None and _is_square_causal(given):
        mask = torch.full((rows, rows), -math.inf, dtype=q.dtype, device=q.device).triu(1)
    if mask is not None and mask.dim() == 2:
        mask = mask.repeat(shared, 1)
    elif mask is not None:
        mask = mask.reshape(-1, given.kv_heads, shared * rows, given.kv_len)
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def unfolded(out: Any) -> Any:
        return arranged(out.reshape(given.batch, given.heads, rows, given.v_dim))

    return Way("folded", lambda: sdpa(folded, k, v, attn_mask=mask, scale=given.scale), unfolded)
