"""Workloads, and so many of a thing, as people name them."""

from __future__ import annotations

from records.canonical import Value
from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces import registry
from search_spaces.filled import filled

_SIZES = {"matmul": ("m", "n", "k"), "attention": ("batch", "heads", "q_len", "head_dim")}
_LISTED = 6  # numbers of a parameter; of more only how many there are, and between what


def counted(count: int, noun: str) -> str:
    """`1 trial`, `2,000 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def title(workload: Workload) -> str:
    """`matmul 1024×1024×1024 float32 +bias`; every parameter that is not its default is said."""
    values, every = workload.values, filled(workload)
    try:
        main = {each: every[each] for each in (*_SIZES[workload.op], "dtype")}
        usual = registry.op(workload.op).workload(**main).values
    except (InvalidInputError, KeyError, TypeError):  # another op, or a form not known here
        return str(workload)
    *sizes, dtype = map(str, main.values())
    others = (
        _parameter(each, value)
        for each, value in values.items()
        if each not in main and usual.get(each) != value
    )
    return " ".join([workload.op, "×".join(sizes), dtype, *others])


def _parameter(name: str, value: Value) -> str:
    if name == "layout":
        return str(value)
    if name == "epilogue" and isinstance(value, tuple):
        return f"+{'+'.join(map(str, value))}"
    if value is True:
        return name
    if isinstance(value, tuple) and len(value) > _LISTED:
        return f"{name} {len(value)} from {min(value)} to {max(value)}"
    listed = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return f"{name} {listed}"
