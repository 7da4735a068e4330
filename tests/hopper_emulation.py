"""Runs kernels for Hopper on the CPU: `cuda_emulation` with `hopper_emulation.cpp` in its runtime.

The same rendered text, its barriers, its copies by TMA through the source's own tensor maps, its
warpgroup products through their descriptors. Clusters run one after the other.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cuda_emulation
import numpy.typing as npt
from cuda_emulation import Arrays

from search_spaces.kernel import KernelSource, Launch
from search_spaces.tensor_map import TensorMap

_MOST_AXES = 5  # of a tensor that TMA copies
_HERE = Path(__file__).parent
_MACRO = re.compile(r"^#define (?:.*\\\n)*.*$", re.M)
_REGISTERS = re.compile(r'"[+]\w"\((d\[\d+\])\)')  # in the list of sums, a macro
_SETTLE = re.compile(r'asm volatile\("" : WGMMA_SUMS[^;]*;')
_PRODUCT = re.compile(r'asm volatile\(("\{[^:]*?" \}")\s*: (\w+_SUMS)\(sums\)\s*: ([^;]*)\);')
_INPUT = re.compile(r'"\w"\(')
_KEPT: list[TemporaryDirectory[str]] = []  # until the process ends


def emulate(
    source: KernelSource,
    inputs: Arrays,
    directory: Path,
    *,
    reversed: bool = False,
    late: bool = False,
) -> dict[str, npt.NDArray[Any]]:
    """The outputs of one run; as `cuda_emulation.emulate`, which see."""
    _build(source, directory)
    return cuda_emulation.emulate(source, inputs, directory, reversed=reversed, late=late)


@cache
def _runtime() -> Path:
    _KEPT.append(TemporaryDirectory())
    result = Path(_KEPT[-1].name) / "hopper.o"
    runtime = str(_HERE / "hopper_emulation.cpp")
    cuda_emulation._compile("-O2", "-c", runtime, "-o", str(result))
    return result


def _build(source: KernelSource, directory: Path) -> None:
    """The program where `cuda_emulation` looks for one before it builds its own."""
    program = directory / f"kernel-{source.digest}"
    text = directory / f"{program.name}.cpp"
    if not program.exists():
        kernel = cuda_emulation._translated(_without_macros(source.text))
        main = cuda_emulation._main(replace(source, tensor_maps=()))
        declared = "".join(map(_declared, source.tensor_maps))
        main = main.replace("{ void *arguments[]", f"{declared}{{ void *arguments[]", 1)
        for launch in source.launches:
            call, blocks = f"emulation::launch({launch.kernel}", _cluster(source, launch)
            main = main.replace(call, f"emulation::cluster_blocks = {blocks}; {call}")
        text.write_text(f'#include "hopper_emulation.h"\n{kernel}{main}')
        options = ("-O1", "-fno-strict-aliasing")
        cuda_emulation._compile(*options, str(text), str(_runtime()), "-o", str(program))


def _cluster(source: KernelSource, launch: Launch) -> int:
    """Blocks of a cluster, from the macros of the first kernel, or of kernels that copy by TMA."""
    found = re.search(r"^#define CLUSTER (\d+)$", source.text, re.M)
    if found and launch is source.launches[0]:
        return int(found[1])
    if not {tensor.name for tensor in source.tensor_maps} & set(launch.arguments):
        return 1
    return math.prod(map(int, re.findall(r"^#define CLUSTER_[MN] (\d+)$", source.text, re.M)))


def _without_macros(text: str) -> str:
    """Lists of registers that are macros, which the translation of asm does not look into."""
    text = _MACRO.sub(lambda macro: _REGISTERS.sub(r"emulation::out(\1)", macro[0]), text)
    text = _SETTLE.sub("", text)
    return _PRODUCT.sub(_product, text)


def _product(found: re.Match[str]) -> str:
    inputs = _INPUT.sub("emulation::in(", found[3])
    return f"PTX({found[1]}, {found[2]}(sums), {inputs});"


def _declared(tensor: TensorMap) -> str:
    missing = _MOST_AXES - len(tensor.shape)
    numbers = (
        tensor.shape[::-1] + (1,) * missing,
        tuple(stride * tensor.element_bytes for stride in tensor.strides[-2::-1]) + (0,) * missing,
        tensor.box[::-1] + (1,) * missing,
    )
    shape, strides, box = ("{" + ", ".join(map(str, each)) + "}" for each in numbers)
    return (
        f"emulation::TensorMap {tensor.name}_ = {{(unsigned char *){tensor.array}_, {shape}, "
        f"{strides}, {box}, {tensor.element_bytes}, {tensor.swizzle_bytes}}};\n"
        f"void *{tensor.name}_pointer = &{tensor.name}_;\n"
        f"void *{tensor.name}_argument = &{tensor.name}_pointer;\n"
    )
