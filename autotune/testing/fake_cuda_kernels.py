"""The kernels of the backends' conformance kit, and addition, in Python for `FakeCuda`."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from autotune.testing.fake_cuda import Call, FakeCuda
from search_spaces import dtypes

_SIZE = re.compile(r"i < (\d+)")
_STRAY = re.compile(r"(\w)\[(-?\d+)\] = 1\.0f;")
_SCALED = re.compile(r"const (\w+) \*x")
_DTYPES = {
    "__nv_bfloat16": "bfloat16",
    "half": "float16",
    "float": "float32",
    "double": "float64",
}


def install(fake: FakeCuda) -> None:
    """Teach a device every kernel of `backend_kernels` and `addition` in `autotune.testing`."""
    actions: Mapping[str, Callable[[FakeCuda, Call], None]] = {
        "scaled": _scaled,
        "plus": _plus,
        "reverse": _reverse,
        "twice": _twice,
        "stray": _stray,
        "reveal": _reveal,
        "add": _add,
    }
    fake.kernels |= {name: partial(action, fake) for name, action in actions.items()}


def _n(call: Call) -> int:
    found = _SIZE.search(call.text)
    assert found, "kernels of the kit loop to a constant"
    return int(found[1])


def _vectors(fake: FakeCuda, call: Call, dtype: str = "float32") -> list[npt.NDArray[Any]]:
    """What each of a kernel's parameters points at, as `n` elements."""
    addresses = struct.unpack(f"<{len(call.parameters) // 8}Q", call.parameters)
    size = _n(call) * np.dtype(dtype).itemsize
    return [fake.at(address, size).view(dtype) for address in addresses]


def _scaled(fake: FakeCuda, call: Call) -> None:
    """(pointer x, factor, int shift, pointer y), as C aligns them."""
    named = _SCALED.search(call.text)
    assert named
    dtype = _DTYPES[named[1]]
    storage = dtypes.storage(dtype)
    factor = np.frombuffer(call.parameters, storage, 1, 8)
    at = -(-(8 + storage.itemsize) // 4) * 4
    (shift,) = struct.unpack_from("<i", call.parameters, at)
    pointer = -(-(at + 4) // 8) * 8
    size = _n(call) * storage.itemsize
    x, y = (
        fake.at(struct.unpack_from("<Q", call.parameters, offset)[0], size).view(storage)
        for offset in (0, pointer)
    )
    product = dtypes.decode(dtype, x) * dtypes.decode(dtype, factor)
    y[:] = dtypes.encode(dtype, product + shift)


def _plus(fake: FakeCuda, call: Call) -> None:
    x, t = _vectors(fake, call)
    t[:] = x + 1


def _reverse(fake: FakeCuda, call: Call) -> None:
    t, u = _vectors(fake, call)
    u[:] = t[::-1]


def _twice(fake: FakeCuda, call: Call) -> None:
    t, u, y = _vectors(fake, call)
    y[:] = 2 * t * u[::-1]


def _stray(fake: FakeCuda, call: Call) -> None:
    x, t, y = _vectors(fake, call)
    t[:] = x
    y[:] = t
    found = _STRAY.search(call.text)
    assert found
    position = {"x": 0, "t": 1, "y": 2}[found[1]]
    (base,) = struct.unpack_from("<Q", call.parameters, 8 * position)
    fake.at(base + 4 * int(found[2]), 4).view(np.float32)[:] = 1.0


def _reveal(fake: FakeCuda, call: Call) -> None:
    t, y, _ = _vectors(fake, call)
    y[:] = t


def _add(fake: FakeCuda, call: Call) -> None:
    size = 4 * call.grid[0] * call.block[0]
    addresses = struct.unpack("<3Q", call.parameters)
    a, b, c = (fake.at(address, size).view(np.float32) for address in addresses)
    c[:] = a + b
