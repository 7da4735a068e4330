"""Hopper's warpgroups: the instruction of the tensor cores, by dtype, its operands as text, and the
registers of a block in which one warpgroup loads and others, its consumers, multiply."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SLICE_BYTES = 32  # of k that one instruction multiplies, whatever the dtype
ROWS = 64  # of the left operand in one instruction
WARPGROUP = 128  # threads
UNIT_REGISTERS = 64 << 10  # of a streaming multiprocessor of compute capability 9.0
MAX_REGISTERS = 240  # that setmaxnreg gives here, in steps of 8


@dataclass(frozen=True)
class Instruction:
    """One kind of `wgmma.mma_async` (PTX ISA, "Asynchronous warpgroup level matrix instructions").

    `type` and `sum_type` are names in PTX; `element_bytes` of the operands. Only operands of 16
    bits may lie with k as the slow axis: the others have no bits for transposing
    (`transposes`). Floating types may negate an operand: a factor of 1 or -1 each (`scales`).
    """

    type: str
    sum_type: str
    element_bytes: int
    transposes: bool = False
    scales: bool = True

    @property
    def sum_scalar(self) -> str:
        """The type of a sum in CUDA C++."""
        return "int" if self.sum_type == "s32" else "float"

    def name(self, columns: int) -> str:
        depth = SLICE_BYTES // self.element_bytes
        types = f"{self.sum_type}.{self.type}.{self.type}"
        return f"wgmma.mma_async.sync.aligned.m{ROWS}n{columns}k{depth}.{types}"

    def defines(
        self,
        columns: int,
        left_along_k: bool,
        right_along_k: bool,
        *,
        prefix: str = "WGMMA",
        left_in_registers: bool = False,
    ) -> str:
        """Macros for `columns` columns of sums, named after `prefix`.

        Operands of the text are the sums, the left operand, the descriptor of the right one, and
        whether to keep the sums. The left operand is a descriptor, or four registers.
        """
        sums = columns // 2
        right = sums + (4 if left_in_registers else 1)
        left = ", ".join(f"%{index}" for index in range(sums, right))
        factors = ["1", "1"] if self.scales else []
        if self.transposes:
            slow = (
                [not right_along_k] if left_in_registers else [not left_along_k, not right_along_k]
            )
            factors += [str(int(each)) for each in slow]
        tail = ", ".join([f"{{{left}}}" if left_in_registers else left, f"%{right}", "p", *factors])
        constraint = "+r" if self.sum_scalar == "int" else "+f"
        operands = [f'"{line}"' for line in _lines(f"%{index}" for index in range(sums))]
        operands = ['"{"', *operands, f'"}}, {tail};"']
        registers = _lines(f'"{constraint}"(d[{index}])' for index in range(sums))
        return (
            f'#define {prefix} "{self.name(columns)}"\n'
            f"#define {prefix}_OPERANDS {_continued(operands)}"
            f'#define {prefix}_KEEP "%{right + 1}"\n'
            f"#define {prefix}_SUMS(d) {_continued(registers)}"
        )


def _lines(items: Iterable[str]) -> list[str]:
    return textwrap.wrap(", ".join(items), 88)


def _continued(lines: Iterable[str]) -> str:
    return "".join(f"\\\n    {line} " for line in lines).rstrip() + "\n"


INSTRUCTIONS: Mapping[str, Instruction] = {
    "float16": Instruction("f16", "f32", 2, transposes=True),
    "bfloat16": Instruction("bf16", "f32", 2, transposes=True),
    "tf32": Instruction("tf32", "f32", 4),
    "float8_e4m3": Instruction("e4m3", "f32", 1),
    "float8_e5m2": Instruction("e5m2", "f32", 1),
    "int8": Instruction("s8", "s32", 1, scales=False),
}


def threads(consumers: int) -> int:
    return WARPGROUP * (1 + consumers)


def launch_registers(consumers: int, resident: int) -> int:
    """Registers of each thread at launch, by which the compiler is bound: a multiple of 8."""
    return min(255, UNIT_REGISTERS // (threads(consumers) * resident) // 8 * 8)


def consumer_registers(consumers: int, resident: int, loader_registers: int) -> int:
    """Of each of a consumer's threads, when the loader keeps `loader_registers` and gives the rest.

    0 where nothing is to be gained: the launch already gives as many as the compiler may use.
    """
    launched = launch_registers(consumers, resident)
    if launched >= MAX_REGISTERS:
        return 0
    surplus = launched - loader_registers
    return min(MAX_REGISTERS, (launched + surplus // consumers) // 8 * 8)
