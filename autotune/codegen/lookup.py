"""`autotune_find_<op>(…)`: C lookups of a kernel by the parameters of its workload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autotune.codegen import c_text
from autotune.codegen.manifest import ManifestKernel
from autotune.codegen.naming import text_of
from records.canonical import Value
from search_spaces.filled import filled

# The order in which a C caller passes parameters; those not listed follow by name, where some
# workload of the build names them.
_ORDER: Mapping[str, tuple[str, ...]] = {
    "matmul": ("m", "n", "k", "batch", "dtype", "accumulate", "layout", "epilogue", "out_dtype"),
    "attention": (
        *("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim", "v_dim"),
        *("dtype", "causal", "layout"),
    ),
}


@dataclass(frozen=True)
class Column:
    """A parameter of a lookup: its C type follows from the values that the build has."""

    name: str
    values: tuple[Value, ...]

    @property
    def is_text(self) -> bool:
        return any(isinstance(value, (str, tuple)) for value in self.values)

    @property
    def declaration(self) -> str:
        if self.is_text:
            return f"const char *{self.name}"
        if all(isinstance(value, bool) for value in self.values):
            return f"int {self.name}"
        whole = all(isinstance(value, int) and value >= 0 for value in self.values)
        return f"size_t {self.name}" if whole else f"double {self.name}"

    @property
    def literals(self) -> list[str]:
        if self.is_text:
            return [c_text.string(text_of(value)) for value in self.values]
        return [repr(int(v) if isinstance(v, bool) else v) for v in self.values]

    def equals(self, entry: str) -> str:
        """The C expression that compares the argument with the field of an entry."""
        if self.is_text:
            return f"autotune_same_text({self.name}, {entry}->{self.name})"
        return f"{entry}->{self.name} == {self.name}"


def lookup_text(kernels: Iterable[ManifestKernel]) -> Iterator[str]:
    """A table and a function for every op of the build."""
    by_op: dict[str, list[ManifestKernel]] = {}
    for kernel in kernels:
        by_op.setdefault(kernel.workload.op, []).append(kernel)
    for op, members in sorted(by_op.items()):
        columns = _columns(op, members)
        yield _table(op, members, columns)
        yield _function(op, columns)


def _columns(op: str, kernels: Sequence[ManifestKernel]) -> list[Column]:
    every = [filled(kernel.workload) for kernel in kernels]
    named = {name for kernel in kernels for name in kernel.workload.values}
    first = [name for name in _ORDER.get(op, ()) if any(name in values for values in every)]
    ordered = [*first, *sorted(named.difference(first))]
    return [Column(name, _values(name, every)) for name in ordered]


def _values(name: str, every: Sequence[Mapping[str, Value]]) -> tuple[Value, ...]:
    """A parameter of each kernel: 0 or "" for workloads that do not have it."""
    given = [values.get(name) for values in every]
    has_text = any(isinstance(value, (str, tuple)) for value in given)
    return tuple(value if value is not None else ("" if has_text else 0) for value in given)


def _table(op: str, kernels: Sequence[ManifestKernel], columns: Sequence[Column]) -> str:
    fields = "".join(f"    {column.declaration};\n" for column in columns)
    rows = zip(*(column.literals for column in columns), strict=True)
    entries = ",\n    ".join(
        c_text.braces([*row, f"&{kernel.name}"]) for row, kernel in zip(rows, kernels, strict=True)
    )
    return (
        f"typedef struct autotune_{op}_entry {{\n{fields}"
        f"    const autotune_kernel *kernel;\n}} autotune_{op}_entry;\n\n"
        f"static const autotune_{op}_entry autotune_{op}_entries[] = {{\n    {entries}\n}};\n"
    )


def _function(op: str, columns: Sequence[Column]) -> str:
    parameters = ",\n    ".join(column.declaration for column in columns)
    condition = "\n            && ".join(column.equals("entry") for column in columns)
    return f"""\
/* The kernel of this {op}, or NULL where the build has none. NULL for a text matches any. */
static inline const autotune_kernel *autotune_find_{op}(
    {parameters})
{{
    size_t i;
    for (i = 0; i < sizeof autotune_{op}_entries / sizeof *autotune_{op}_entries; ++i) {{
        const autotune_{op}_entry *entry = &autotune_{op}_entries[i];
        if ({condition})
            return entry->kernel;
    }}
    return NULL;
}}
"""
