"""A quantised B as numbers: what a library that knows no such weights is given."""

from __future__ import annotations

from typing import Any

from autotune.libraries.torch_device import tensor_dtype
from autotune.libraries.torch_products import Tensors
from search_spaces.matmul.parameters import Parameters


def dequantised(torch: Any, given: Parameters, tensors: Tensors) -> Any:
    """B in the dtype of A and its own layout: (b - zero) times scale, rounded once."""
    along_k = given.layout[1] == "t"
    values = codes(torch, given, tensors["b"]).float()
    per_group = values.unflatten(-1 if along_k else -2, (-1, given.group_size))
    scale = _beside(tensors["b_scale"], along_k)
    if given.zero_point:
        per_group -= _beside(tensors["b_zero"], along_k)
    per_group *= scale
    return per_group.reshape(values.shape).to(tensor_dtype(torch, given.dtype))


def codes(torch: Any, given: Parameters, b: Any) -> Any:
    """The integers of B as int8, one an element."""
    signed = b.view(torch.int8)
    if given.b_dtype != "int4":
        return signed
    low, high = (signed << 4) >> 4, signed >> 4  # shifts to the right copy the sign
    return torch.stack((low, high), dim=-1).flatten(-2)


def _beside(scales: Any, along_k: bool) -> Any:
    """(…, groups, n) as it broadcasts to B with its k split into groups."""
    floats = scales.float()
    return floats.swapaxes(-1, -2).unsqueeze(-1) if along_k else floats.unsqueeze(-2)
