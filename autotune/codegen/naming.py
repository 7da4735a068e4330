"""Names of built kernels: readable, unique, and legal in C and in every file system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from records.canonical import Value, digest
from records.workload import Workload
from search_spaces.filled import filled

_LONGEST = 96  # characters of the readable part; file systems stop at 255


def kernel_name(workload: Workload) -> str:
    """The name of a workload's kernel, such as `matmul_64x32x16_float32_nn_bias_0a1b2c3d`.

    It depends on the workload alone, so tuning again changes a file's content, not its name.
    The last part is a digest of the whole workload: what the readable part leaves out, or says
    in the same words, still differs there.
    """
    words = _READERS.get(workload.op, _any_words)(filled(workload))
    readable = _legal("_".join([workload.op, *words]))[:_LONGEST].rstrip("_")
    return f"{readable}_{digest(workload.key)[:8]}"


def text_of(value: Value) -> str:
    """A parameter as a C caller spells it: the scalars of a sequence joined by commas."""
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def _matmul_words(values: Mapping[str, Any]) -> list[str]:
    batch = [f"batch{values['batch']}"] if values.get("batch", 1) != 1 else []
    accumulate = values.get("accumulate", values["dtype"])
    wider = [f"accumulate_{accumulate}"] if accumulate != values["dtype"] else []
    size = "{m}x{n}x{k}".format(**values)
    words = [size, *batch, values["dtype"], *wider, *_special(values), values.get("layout", "")]
    return [word for word in (*words, text_of(values.get("epilogue", ""))) if word]


def _special(values: Mapping[str, Any]) -> Iterator[str]:
    """What only some products have."""
    if groups := values.get("groups"):
        yield f"{len(groups)}_groups"
    if b_dtype := values.get("b_dtype"):
        yield f"b_{b_dtype}_by_{values['group_size']}"
    if scale := values.get("scale"):
        yield f"scaled_by_{scale}"
    if out_dtype := values.get("out_dtype"):
        yield f"to_{out_dtype}"


def _attention_words(values: Mapping[str, Any]) -> list[str]:
    """`values` are filled; a word for what is not usual, lengths told by the digest alone."""
    size = "{batch}x{heads}x{q_len}x{head_dim}".format(**values)
    return [size, values["dtype"], *_special_attention(values)]


def _special_attention(values: Mapping[str, Any]) -> Iterator[str]:
    usual = {"kv_heads": "heads", "kv_len": "q_len", "v_dim": "head_dim", "kv_dtype": "dtype"}
    for name, other in usual.items():
        if values[name] != values[other]:
            yield f"{name}_{values[name]}"
    if values["causal"]:
        yield "causal"
    for name in ("window", "softcap", "page_size"):
        if values[name]:
            yield f"{name}_{values[name]}"
    if values["bias"] != "none":
        yield f"bias_{values['bias']}"
    yield values["layout"]
    if values["kv_lens"]:
        yield "packed" if values["q_lens"] else "lengths"
    if values["lse"]:
        yield "lse"


def _any_words(values: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}{value}" if isinstance(value, (int, float)) else text_of(value)
        for name, value in values.items()
    ]


_READERS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "matmul": _matmul_words,
    "attention": _attention_words,
}


def _legal(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text)
