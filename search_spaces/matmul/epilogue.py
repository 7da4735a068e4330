"""What follows the sums as kernel text: parameters and macros, spliced into any template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.kernel import Array
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.parameters import Parameters
from search_spaces.matmul.steps import STEPS


@dataclass(frozen=True)
class EpilogueCode:
    """Text to stand between a dialect's prelude and a kernel.

    It defines `EPILOGUE_PARAMETERS`, the further parameters of the kernel that applies it, each
    after a comma; a launch passes `arguments` for them. `EPILOGUE(value, row, column)` gives the
    result for one sum, both in `dtype` (int32 for the plain sums of int8); the scales of float8
    and int8 are part of it. `row` counts through the whole batch (batch element × m + row), or
    through all groups, and may be `size_t`. With `lanes` > 1 there is
    `EPILOGUE_VEC(value, row, column)` too, for an OpenCL vector of that many neighbours in a row,
    the first at `column`; all must lie inside the matrix, and none need be aligned.

    Where the scale of a column differs between groups of rows, a kernel that knows the group may
    define `EPILOGUE_GROUP(row)` above this text; otherwise it is found from the row.
    """

    text: str
    arguments: tuple[str, ...]
    dtype: str


_EXPRESSIONS = {  # {x} is the value so far, {name} an element of that array
    "alpha": "{x} * alpha",
    "beta": "{x} + beta * {c_in}",
    "bias": "{x} + {bias}",
    "residual": "{x} + {residual}",
    "row_scale": "{x} * {row_scale}",
    "column_scale": "{x} * {column_scale}",
    "relu": "relu{suffix}({x})",
    "gelu": "gelu{suffix}({x})",
    "gelu_tanh": "gelu_tanh{suffix}({x})",
    "silu": "silu{suffix}({x})",
}
# relu passes NaN on, which fmax would not; erfc keeps gelu's digits where 1 + erf would cancel.
_FUNCTIONS = {  # @ ends a literal: f in float32, nothing in float64
    "relu": "return x < 0.0@ ? ({type})(0.0@) : x;",
    "gelu": "return 0.5@ * x * erfc(-0.70710678118654752@ * x);",
    "gelu_tanh": (
        "return 0.5@ * x * (1.0@ + tanh(0.79788456080286536@ * (x + 0.044715@ * x * x * x)));"
    ),
    "silu": "return x / (1.0@ + exp(-x));",
}


_LOADS = {"float16": "half_to_float", "bfloat16": "bfloat16_to_float"}
_SCALES = ("a_scale", "b_scale")
_STORES = {  # format of C -> one value, and a pair, to its bits
    "float16": ("float_to_half", "floats_to_halfx2"),
    "bfloat16": ("float_to_bfloat16", "floats_to_bfloat16x2"),
    "float8_e4m3": ("float_to_float8_e4m3", "floats_to_float8_e4m3x2"),
    "float8_e5m2": ("float_to_float8_e5m2", "floats_to_float8_e5m2x2"),
}


def epilogue_code(workload: Workload, dialect: Dialect, lanes: int = 1) -> EpilogueCode:
    """The epilogue of a workload in a dialect. Pure: equal arguments give equal text.

    `ValueError` where the dialect has no conversion of the operands' format.
    """
    given = Parameters.of(workload)
    operands = _operands(workload)
    forms = [_Form(given, operands, dialect.scalar(given.epilogue_dtype), 1)]
    if lanes > 1:
        forms.append(_Form(given, operands, dialect.scalar(given.epilogue_dtype), lanes))
    lines = _formats(operands, dialect)
    declarations = "".join(_declaration(array, dialect) for array in operands.values())
    lines += [f"#define EPILOGUE_PARAMETERS {declarations}".rstrip()]
    if given.groups and given.scale == "row_column":
        lines += _group_of_row(given)
    for form in forms:
        lines += [*form.functions(), form.macro()]
    dtype = "int32" if given.out_dtype == "int32" else given.epilogue_dtype
    return EpilogueCode("\n".join(lines) + "\n", tuple(operands), dtype)


def store_code(workload: Workload, dialect: Dialect) -> str:
    """How C is stored, for dialects with conversions (CUDA): text to stand after the prelude.

    `C_TYPE` is the type of an element in memory, `VALUE_TO_C(x)` turns a result of the epilogue
    into it, and `VALUES_TO_C2(x, y)` two neighbours, for types of at most 16 bits, into one
    unsigned integer of twice the size, the first in its lower half.
    """
    given = Parameters.of(workload)
    lines = [dialect.formats, f"#define C_TYPE {dialect.stored(given.out_dtype)}"]
    if given.out_dtype not in _STORES:
        return "\n".join([*lines, "#define VALUE_TO_C(x) (x)"]) + "\n"
    one, pair = _STORES[given.out_dtype]
    lines += [f"#define VALUE_TO_C(x) {one}(x)", f"#define VALUES_TO_C2(x, y) {pair}(x, y)"]
    return "\n".join(lines) + "\n"


def _operands(workload: Workload) -> Mapping[str, Array]:
    """The arrays that the epilogue takes, by name; a quantised B's belong to the products."""
    given = Parameters.of(workload)
    others = ("a", "b", "c", *(("b_scale", "b_zero") if given.quantised else ()))
    return {array.name: array for array in MATMUL.arrays(workload) if array.name not in others}


def _formats(operands: Mapping[str, Array], dialect: Dialect) -> list[str]:
    converted = any(array.dtype == "bfloat16" for array in operands.values())
    return [dialect.formats] if converted else []


def _declaration(array: Array, dialect: Dialect) -> str:
    """A parameter, a comma before it."""
    if array.role == "scalar":
        return f", const {dialect.scalar(array.dtype)} {array.name}"
    return f", GLOBAL const {dialect.stored(array.dtype)} *RESTRICT {array.name}"


def _group_of_row(given: Parameters) -> list[str]:
    """A row belongs to the group after all those that end at or before it."""
    ends = list(accumulate(given.groups))[:-1]
    count = " + ".join(f"(row >= {end})" for end in ends) or "0"
    return [
        "#ifndef EPILOGUE_GROUP",
        f"FUNCTION int group_of_row(int row) {{ return {count}; }}",
        "#define EPILOGUE_GROUP(row) group_of_row(row)",
        "#endif",
    ]


@dataclass(frozen=True)
class _Form:
    """The scalar form of an epilogue, or that over vectors of `lanes` values."""

    given: Parameters
    operands: Mapping[str, Array]
    scalar: str
    lanes: int

    @property
    def suffix(self) -> str:
        return "_vec" if self.lanes > 1 else ""

    @property
    def type(self) -> str:
        return f"{self.scalar}{self.lanes}" if self.lanes > 1 else self.scalar

    def functions(self) -> list[str]:
        """A function for each activation that occurs."""
        return [
            f"FUNCTION {self.type} {name}{self.suffix}({self.type} x) {{ {self._body(name)} }}"
            for name in dict.fromkeys(self.given.epilogue)
            if name in _FUNCTIONS
        ]

    def _body(self, name: str) -> str:
        literal = "f" if self.scalar == "float" else ""
        return _FUNCTIONS[name].replace("{type}", self.type).replace("@", literal)

    def macro(self) -> str:
        expression = "(value)"
        if self.given.scale != "none":
            factors = [self._element(self.operands[name]) for name in _SCALES]
            expression = f"({' * '.join([expression, *factors])})"
        for name in self.given.epilogue:
            filled = _EXPRESSIONS[name].format(
                x=expression, suffix=self.suffix, **self._elements(name)
            )
            expression = filled if name in _FUNCTIONS else f"({filled})"
        return f"#define EPILOGUE{self.suffix.upper()}(value, row, column) {expression}"

    def _elements(self, name: str) -> dict[str, str]:
        step = STEPS[name]
        return {
            operand: self._element(self.operands[operand])
            for operand in (*step.matrices, *step.vectors, *step.scales)
        }

    def _element(self, array: Array) -> str:
        """What the operand holds for one row and column, or for `lanes` columns."""
        if array.role == "scalar":
            return array.name
        if array.name in ("a_scale", "row_scale"):
            return f"{array.name}[{self._index(array.name)}]"
        index = self._index(array.name)
        load = _LOADS.get(array.dtype)
        if self.lanes == 1:
            return f"{load}({array.name}[{index}])" if load else f"{array.name}[{index}]"
        address = f"{array.name} + {index}"
        if load:
            return f"vload_half{self.lanes}(0, (GLOBAL const half *)({address}))"
        return f"vload{self.lanes}(0, {address})"

    def _index(self, name: str) -> str:
        m, n = self.given.m, self.given.n
        match name:
            case "a_scale":
                return "row"
            case "row_scale":
                return f"(row) % {m}" if self.given.batch > 1 else "row"
            case "b_scale" if self.given.groups:
                return f"(size_t)EPILOGUE_GROUP(row) * {n} + (column)"
            case "b_scale" if self.given.batch > 1:
                return f"(size_t)((row) / {m}) * {n} + (column)"
            case "b_scale" | "column_scale" | "bias":
                return "(column)"
        return f"(size_t)(row) * {n} + (column)"
