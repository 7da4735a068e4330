"""Runs CUDA kernels on the CPU, without a GPU: the rendered text itself, one fibre a thread.

`emulate` gives a kernel source's outputs. The text is compiled by g++ as C++ with
`cuda_emulation.h` above it; every `asm` statement becomes a call of an interpreter of PTX
(`cuda_emulation.cpp`), so that the wrappers around instructions are tested with the rest: matrix
products and loads (`mma.sync`, `ldmatrix`) act for a whole warp, `cp.async` copies arrive at once
or, with `late`, only when they are waited for. A warp runs as far ahead of the others as it gets;
with `reversed` the last thread and the last block go first. A kernel that gives the same right
result both ways hardly lacks a barrier. Also seen: accesses beyond the end of an array, writes
around it, addresses that are not aligned, threads that wait for ever, collective instructions that
a part of a warp skips. A further instruction is a function and a line in the table `INSTRUCTIONS`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from search_spaces.kernel import KernelSource, Launch

Arrays = Mapping[str, npt.NDArray[Any]]

_HERE = Path(__file__).parent
_COMPILER = ("g++", "-std=c++20", "-w", f"-I{_HERE}")
_CHECKS = ("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")
_ASM = re.compile(r"\basm\s*(?:volatile\s*)?\(")
_DYNAMIC = re.compile(r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];")
_OPERAND = re.compile(r'\s*"([=+]?)\w"\s*\(')


class EmulationError(AssertionError):
    """The kernel did what no kernel may do; the message says what."""


def emulate(
    source: KernelSource,
    inputs: Arrays,
    directory: Path,
    *,
    reversed: bool = False,
    late: bool = False,
) -> dict[str, npt.NDArray[Any]]:
    """The outputs of one run, from poisoned outputs and scratch.

    The program is kept in `directory`, so that a second run of the same source is quick. Raises
    `EmulationError`; skips the test where there is no g++.
    """
    program = _built(source, directory)
    for array in source.arrays:
        if array.role != "output":
            inputs[array.name].tofile(directory / array.name)
    settings = {"EMULATION_REVERSED": reversed, "EMULATION_LATE": late}
    done = subprocess.run(
        [program],
        cwd=directory,
        env={name: str(int(value)) for name, value in settings.items()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        reasons = {-11: "an access beyond an array", -4: "a misaligned access"}
        raise EmulationError(done.stderr or reasons.get(done.returncode, str(done.returncode)))
    return {
        array.name: np.fromfile(directory / array.name, array.storage).reshape(array.storage_shape)
        for array in source.arrays
        if array.role == "output"
    }


def _built(source: KernelSource, directory: Path) -> Path:
    program = directory / f"kernel-{source.digest}"
    if not program.exists():
        text = directory / f"{program.name}.cpp"
        text.write_text(_translated(source.text) + _main(source))
        optimised = ("-O1", "-fno-strict-aliasing", *_CHECKS)
        _compile(*optimised, str(text), str(_runtime()), "-o", str(program))
    return program


def _compile(*arguments: str) -> None:
    try:
        done = subprocess.run([*_COMPILER, *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs g++")
    if done.returncode != 0:
        raise EmulationError(done.stderr[:4000])


_KEPT: list[TemporaryDirectory[str]] = []  # until the process ends


@cache
def _runtime() -> Path:
    _KEPT.append(TemporaryDirectory())
    result = Path(_KEPT[-1].name) / "runtime.o"
    _compile("-O1", "-c", str(_HERE / "cuda_emulation.cpp"), "-o", str(result))
    return result


# ---- From CUDA C++ to C++


def _translated(text: str) -> str:
    dynamic = _DYNAMIC.sub(r"\1 *const \2 = (\1 *)emulation::dynamic_shared;", text)
    return '#include "cuda_emulation.h"\n' + "".join(_without_assembly(dynamic))


def _without_assembly(text: str) -> Iterator[str]:
    """`asm("text" : outputs : inputs : clobbers)` as `PTX("text", operands)`."""
    at = 0
    for found in _ASM.finditer(text):
        yield text[at : found.start()]
        at = _closing(text, found.end())
        template, *lists = _split(text[found.end() : at - 1], ":")
        operands = [
            _operand(each) for part in lists[:2] for each in _split(part, ",") if each.strip()
        ]
        yield "PTX(" + ", ".join([" ".join(template.split("\n")), *operands]) + ")"
    yield text[at:]


def _operand(text: str) -> str:
    found = _OPERAND.match(text)
    assert found, text
    return f"emulation::{'out' if found[1] else 'in'}{text[found.end() - 1 :].strip()}"


def _closing(text: str, at: int) -> int:
    """Just after the parenthesis that closes the one before `at`."""
    depth, quoted = 1, False
    while depth:
        character = text[at]
        quoted ^= character == '"'
        depth += 0 if quoted else {"(": 1, ")": -1}.get(character, 0)
        at += 1
    return at


def _split(text: str, separator: str) -> list[str]:
    """At separators outside of quotes and brackets, where `::` is two of them."""
    parts, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == separator and not quoted and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


# ---- The program


def _main(source: KernelSource) -> str:
    lines = ["", "int main() {"]
    for array in source.arrays:
        given = str(array.role != "output").lower()
        lines.append(
            f'void *{array.name}_ = emulation::array("{array.name}", {array.size_bytes}, {given});'
        )
        pointer = f"{array.name}_" if array.role == "scalar" else f"&{array.name}_"
        lines.append(f"void *{array.name}_argument = {pointer};")
    for scratch in source.scratch:
        lines.append(
            f'void *{scratch.name}_ = emulation::array("{scratch.name}", {scratch.bytes}, false);'
        )
        lines.append(f"void *{scratch.name}_argument = &{scratch.name}_;")
    lines += [_launch(launch) for launch in source.launches]
    names = [*(array.name for array in source.arrays), *(each.name for each in source.scratch)]
    lines += [f'emulation::finish("{name}");' for name in names]
    return "\n".join([*lines, "}", ""])


def _launch(launch: Launch) -> str:
    groups, group_size = (", ".join(map(str, each)) for each in (launch.groups, launch.group_size))
    arguments = ", ".join(f"{name}_argument" for name in launch.arguments)
    return (
        f"{{ void *arguments[] = {{{arguments}}}; emulation::launch({launch.kernel}, "
        f"{{{groups}}}, {{{group_size}}}, {launch.shared_bytes}, arguments); }}"
    )
