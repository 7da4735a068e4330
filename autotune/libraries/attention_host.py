"""Attention by libraries on the host's CPU."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from autotune.disturbance import on_this_host
from autotune.libraries.base import Inputs
from autotune.libraries.cublas import tensors_of
from autotune.libraries.host import HostExecution
from autotune.libraries.sdpa import Way, sdpa_reason, ways
from autotune.libraries.torch_device import to_array
from records.canonical import Value
from records.target import Target
from records.workload import Workload
from search_spaces.attention.parameters import Parameters, visible_bounds
from search_spaces.op import Arrays

_TRIALS = 3  # of each way of calling the function, of which the fastest is the rival
_MAX_SCORES_BYTES = 2**30


class SdpaAttention:
    """PyTorch's `scaled_dot_product_attention` on the CPU, called in the way that is fastest."""

    name = "sdpa"
    op = "attention"

    def rejects(self, workload: Workload, target: Target) -> str:
        if not on_this_host(target):
            return "timed on the host's CPU only"
        if importlib.util.find_spec("torch") is None:
            return "PyTorch is not installed: pip install torch"
        return sdpa_reason(Parameters.of(workload))

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> TensorExecution:
        import torch

        given = Parameters.of(workload)
        tensors = tensors_of(torch, workload, inputs, "cpu")
        found = list(ways(torch, given, tensors))
        way = found[0] if len(found) == 1 else min(found, key=_quickest_s)
        facts: dict[str, Value] = {
            "torch": str(torch.__version__),
            "threads": int(torch.get_num_threads()),
            "call": way.name,
        }
        return TensorExecution(torch, way, given.dtype, facts)


def _quickest_s(way: Way) -> float:
    return min(_timed_s(way) for _ in range(_TRIALS))


def _timed_s(way: Way) -> float:
    started_s = time.perf_counter()
    way.call()
    return time.perf_counter() - started_s


class TensorExecution:
    """`autotune.backends.base.Execution` of a function that returns a tensor on the host."""

    def __init__(self, torch: Any, way: Way, dtype: str, details: Mapping[str, Value]) -> None:
        self._torch, self._way, self._dtype = torch, way, dtype
        self._details = dict(details)
        self._result: Any = None

    @property
    def details(self) -> Mapping[str, Value]:
        return self._details

    def poison(self) -> None:
        if self._result is not None:
            self._result.fill_(math.nan)
            self._result = None

    def launch(self) -> float:
        self._result = None  # so that its memory can be had again
        started_s = time.perf_counter()
        self._result = self._way.call()
        return time.perf_counter() - started_s

    def flush(self, flush_bytes: int) -> None:
        if flush_bytes > 0:
            np.empty(flush_bytes, np.uint8).fill(1)

    def outputs(self) -> Arrays:
        result = self._way.arranged(self._result).contiguous()
        return {"out": to_array(self._torch, self._dtype, result)}

    def damage(self) -> str:
        return ""

    def close(self) -> None:
        self._way = Way("", lambda: None, lambda out: out)
        self._result = None


class NumpyAttention:
    """As a numpy user writes it, with all scores at once; the rival where PyTorch is missing."""

    name = "numpy_attention"
    op = "attention"

    def rejects(self, workload: Workload, target: Target) -> str:
        if not on_this_host(target):
            return "numpy computes on the host's CPU only"
        if importlib.util.find_spec("torch") is not None:
            return "PyTorch is compared instead"
        given = Parameters.of(workload)
        if given.dtype != "float32":
            return f"numpy has no BLAS for {given.dtype}"
        if 4 * given.batch * given.heads * given.q_len * given.kv_len > _MAX_SCORES_BYTES:
            return f"its scores would take more than {_MAX_SCORES_BYTES >> 20} MiB"
        return sdpa_reason(given, "numpy's way here")

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> HostExecution:
        given = Parameters.of(workload)
        q, k, v = (_by_kv_head(given, inputs[name]) for name in "qkv")
        output = np.empty(given.out_shape, np.float32)
        scores = np.empty((*q.shape[:-1], given.kv_len), np.float32)
        mask = _mask(given, inputs)
        scale = np.float32(given.scale)

        def run() -> None:
            np.matmul(q, k.swapaxes(-1, -2), out=scores)
            np.multiply(scores, scale, out=scores)
            if mask is not None:
                np.add(scores, mask, out=scores)
            np.subtract(scores, scores.max(axis=-1, keepdims=True), out=scores)
            np.exp(scores, out=scores)
            np.divide(scores, scores.sum(axis=-1, keepdims=True), out=scores)
            np.matmul(scores, v, out=_by_kv_head(given, output))

        return HostExecution(run, output, lambda: {"numpy": np.__version__}, name="out")


def _by_kv_head(given: Parameters, array: Any) -> Any:
    """A view of batch x heads of K x heads that share one x rows x dim."""
    array = array if given.layout == "bhsd" else array.swapaxes(1, 2)
    shared = array.shape[1] // given.kv_heads
    return array.reshape(array.shape[0], given.kv_heads, shared, *array.shape[2:])


def _mask(given: Parameters, inputs: Inputs) -> Any:
    """What is added to the scores, in their shape but for the batch; None for nothing."""
    if given.bias == "none" and not given.causal and not given.window:
        return None
    (sequence, *_) = given.sequences
    first, end = visible_bounds(given, sequence, slice(0, given.q_len))
    key = np.arange(given.kv_len)
    hidden = (key < first[:, None]) | (key >= end[:, None])
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
    shape = (given.kv_heads, given.queries_per_kv_head, given.q_len, given.kv_len)
    if given.bias == "alibi":
        position = np.arange(given.q_len)[:, None] + given.kv_len - given.q_len
        slopes = inputs["alibi_slopes"][:, None, None]
        return (mask - slopes * np.abs(position - key).astype(np.float32)).reshape(shape)
    if given.bias == "none":
        return mask
    return (mask + inputs["bias"]).reshape(-1, *shape)
