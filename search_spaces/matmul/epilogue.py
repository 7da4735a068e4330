"""The steps of an epilogue as kernel text: parameters and a macro, spliced into any template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from records.workload import Workload
from search_spaces.dialect import Dialect
from search_spaces.matmul.steps import STEPS
from search_spaces.matmul.workload import EPILOGUE_DTYPES


@dataclass(frozen=True)
class EpilogueCode:
    """Text to stand between a dialect's prelude and a kernel.

    It defines `EPILOGUE_PARAMETERS`, the further parameters of the kernel that applies it, each
    after a comma; a launch passes `arguments` for them. `EPILOGUE(value, row, column)` gives the
    result for one sum, both in `dtype`; `row` counts through the whole batch (batch element × m +
    row) and may be `size_t`. With `lanes` > 1 there is `EPILOGUE_VEC(value, row, column)` too, for
    an OpenCL vector of that many neighbours in a row, the first at `column`; all must lie inside
    the matrix, and none need be aligned.
    """

    text: str
    arguments: tuple[str, ...]
    dtype: str


_EXPRESSIONS = {  # {x} is the value so far, {name} an element of that array
    "alpha": "{x} * alpha",
    "beta": "{x} + beta * {c_in}",
    "bias": "{x} + {bias}",
    "residual": "{x} + {residual}",
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


def epilogue_code(workload: Workload, dialect: Dialect, lanes: int = 1) -> EpilogueCode:
    """The epilogue of a workload in a dialect. Pure: equal arguments give equal text."""
    dtype = EPILOGUE_DTYPES[workload["dtype"]]
    forms = [_Form(workload, dialect.scalar(dtype), 1)]
    if lanes > 1:
        forms.append(_Form(workload, dialect.scalar(dtype), lanes))
    parameters = _parameters(workload, dialect, dialect.scalar(dtype))
    lines = [f"#define EPILOGUE_PARAMETERS {''.join(parameters.values())}".rstrip()]
    for form in forms:
        lines += [*form.functions(), form.macro()]
    return EpilogueCode("\n".join(lines) + "\n", tuple(parameters), dtype)


def _parameters(workload: Workload, dialect: Dialect, value: str) -> Mapping[str, str]:
    """The declaration of each parameter, a comma before it."""
    stored = dialect.stored(workload["dtype"])
    declarations: dict[str, str] = {}
    for step in (STEPS[name] for name in workload["epilogue"]):
        declarations |= {name: f", const {value} {name}" for name in step.scalars}
        for name in (*step.matrices, *step.vectors):
            declarations[name] = f", GLOBAL const {stored} *RESTRICT {name}"
    return declarations


@dataclass(frozen=True)
class _Form:
    """The scalar form of an epilogue, or that over vectors of `lanes` values."""

    workload: Workload
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
            for name in dict.fromkeys(self.workload["epilogue"])
            if name in _FUNCTIONS
        ]

    def _body(self, name: str) -> str:
        literal = "f" if self.scalar == "float" else ""
        return _FUNCTIONS[name].replace("{type}", self.type).replace("@", literal)

    def macro(self) -> str:
        expression = "(value)"
        for name in self.workload["epilogue"]:
            filled = _EXPRESSIONS[name].format(
                x=expression, suffix=self.suffix, **self._elements(name)
            )
            expression = filled if name in _FUNCTIONS else f"({filled})"
        return f"#define EPILOGUE{self.suffix.upper()}(value, row, column) {expression}"

    def _elements(self, name: str) -> dict[str, str]:
        step = STEPS[name]
        matrix = f"(size_t)(row) * {self.workload['n']} + (column)"
        return {operand: self._element(operand, matrix) for operand in step.matrices} | {
            operand: self._element(operand, "(column)") for operand in step.vectors
        }

    def _element(self, array: str, index: str) -> str:
        half = self.workload["dtype"] == "float16"
        if self.lanes == 1:
            return f"half_to_float({array}[{index}])" if half else f"{array}[{index}]"
        address = f"{array} + {index}"
        if half:
            return f"vload_half{self.lanes}(0, (GLOBAL const half *)({address}))"
        return f"vload{self.lanes}(0, {address})"
