"""What a kernel finds in its parameters: scalars, pointers, descriptors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from autotune.backends.cuda import backend as cuda_backend
from autotune.backends.cuda import driver
from autotune.backends.cuda.backend import CudaBackend
from autotune.backends.cuda.parameters import packed
from autotune.testing.fake_cuda import FakeCuda
from autotune.testing.fake_libcuda import DESCRIPTOR
from records.errors import DeviceError, InvalidInputError
from search_spaces.kernel import Array, KernelSource, Launch, Scratch
from search_spaces.tensor_map import TensorMap


@pytest.fixture
def backend(fake: FakeCuda) -> Iterator[CudaBackend]:
    opened = cuda_backend.open_device("cuda:0")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("values", "data", "layout"),
    [
        ([], b"", ()),
        ([np.float32(1)], b"\0\0\x80?", ((0, 4),)),
        ([np.float32(1), 5], b"\0\0\x80?" + bytes(4) + b"\5" + bytes(7), ((0, 4), (8, 8))),
        ([np.int8(-1), np.float64(1)], b"\xff" + bytes(13) + b"\xf0?", ((0, 1), (8, 8))),
        ([np.uint16(1), np.int32(2), np.int8(3)], b"\1\0\0\0\2\0\0\0\3", ((0, 2), (4, 4), (8, 1))),
        (
            [7, np.float16(1), np.float32(1)],
            b"\7" + bytes(8) + b"<\0\0\0\0\x80?",
            ((0, 8), (8, 2), (12, 4)),
        ),
    ],
)
def test_parameters_lie_as_in_a_c_struct(
    values: list[Any], data: bytes, layout: tuple[tuple[int, int], ...]
) -> None:
    block = packed(values)
    assert block.data == data
    assert block.layout == layout


def tiled(tensor_maps: tuple[TensorMap, ...], shared_bytes: int = 0) -> KernelSource:
    """A kernel that takes descriptors, a pointer and scalars of several sizes."""
    text = """
extern "C" __global__ void tiled(const void *ma, float alpha, const void *mt, double beta, float *c)
{ c[threadIdx.x] = alpha * (float)beta * (ma != mt); }
"""
    return KernelSource(
        "cuda",
        text,
        (
            Launch(
                "tiled", (2, 3, 1), (128, 1, 1), ("ma", "alpha", "mt", "beta", "c"), shared_bytes
            ),
        ),
        (
            Array("a", (96, 64), "bfloat16", "input"),
            Array("alpha", (), "float32", "scalar"),
            Array("beta", (), "float64", "scalar"),
            Array("c", (128,), "float32", "output"),
        ),
        (Scratch("t", 4 * 8 * 32 * 48),),
        tensor_maps=tensor_maps,
    )


MAPS = (
    TensorMap("ma", "a", "bfloat16", (96, 64), (32, 64), swizzle_bytes=128),
    TensorMap(
        "mt",
        "t",
        "float32",
        (8, 32, 40),
        (1, 16, 8),
        (32 * 48, 48, 1),
        swizzle_bytes=32,
        l2_promotion_bytes=256,
        fill="nan",
    ),
)
INPUTS: dict[str, npt.NDArray[Any]] = {
    "a": np.zeros((96, 64), np.uint16),
    "alpha": np.array(1.5, np.float32),
    "beta": np.array(2.5, np.float64),
}


def launched(
    backend: CudaBackend, fake: FakeCuda, source: KernelSource
) -> tuple[bytes, dict[str, tuple[int, ...]]]:
    """The parameter block of a launch, and the descriptors in it by name."""
    execution = backend.prepare(source, backend.compile(source), INPUTS)
    execution.launch()
    parameters = fake.launches("tiled")[-1].parameters
    fake.depth += 1
    found = {}
    for name, offset in (("ma", 0), ("mt", 16)):
        address = int.from_bytes(parameters[offset : offset + 8], "little")
        assert address % 64 == 0
        found[name] = DESCRIPTOR.unpack(fake.at(address, 128)[: DESCRIPTOR.size].tobytes())
    fake.depth -= 1
    execution.close()
    return parameters, found


def test_a_kernel_gets_pointers_to_descriptors_of_its_arrays(
    fake: FakeCuda, backend: CudaBackend
) -> None:
    parameters, found = launched(backend, fake, tiled(MAPS))
    assert len(parameters) == 40
    assert parameters[8:12] == np.float32(1.5).tobytes()
    assert parameters[24:32] == np.float64(2.5).tobytes()
    data_type, rank, address, *rest = found["ma"]
    assert (data_type, rank) == (9, 2)
    assert address % 256 == 0
    assert rest == [
        *(64, 96, 0, 0, 0),  # the contiguous dimension first
        *(128, 0, 0, 0),  # strides of the others, in bytes
        *(64, 32, 0, 0, 0),
        *(1, 1, 0, 0, 0),
        *(0, 3, 2, 0),  # no interleave, swizzle 128, promotion 128, zeros
    ]
    data_type, rank, _, *rest = found["mt"]
    assert (data_type, rank) == (7, 3)
    assert rest == [
        *(40, 32, 8, 0, 0),
        *(192, 6144, 0, 0),
        *(8, 16, 1, 0, 0),
        *(1, 1, 1, 0, 0),
        *(0, 1, 3, 1),
    ]


def test_a_launchers_descriptors_follow_its_arrays_and_are_made_once(
    fake: FakeCuda, backend: CudaBackend
) -> None:
    source = tiled(MAPS)
    launcher = backend.launcher(source, backend.compile(source))
    for _ in range(3):
        launcher(INPUTS)
    assert fake.library.names().count("cuTensorMapEncodeTiled") == 2
    first = fake.launches("tiled")[0].parameters
    assert all(call.parameters == first for call in fake.launches("tiled"))


def test_an_address_of_descriptors_does_not_soon_hold_others(
    fake: FakeCuda, backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [launched(backend, fake, tiled(MAPS))[0][:8] for _ in range(10)]
    assert len(set(seen)) == 10
    before = len(fake.allocations)
    monkeypatch.setattr(driver, "_MOST_RETIRED", 4)
    launched(backend, fake, tiled(MAPS))
    assert len(fake.allocations) == before - 6
    backend.close()
    assert not fake.allocations


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (replace(MAPS[0], name="c"), "c has the name of an array"),
        (replace(MAPS[0], array="b"), "no array or scratch 'b'"),
        (replace(MAPS[0], shape=(97, 64)), "spans 12416 bytes; a has 12288"),
    ],
)
def test_a_map_of_what_is_not_there_is_refused(
    backend: CudaBackend, tensor: TensorMap, message: str
) -> None:
    source = tiled((tensor, MAPS[1]))
    with pytest.raises(InvalidInputError, match=message):
        backend.prepare(source, backend.compile(source), INPUTS)


def test_a_driver_without_the_tma_is_told(fake: FakeCuda, backend: CudaBackend) -> None:
    fake.library.missing.add("cuTensorMapEncodeTiled")
    source = tiled(MAPS)
    with pytest.raises(DeviceError, match="has no cuTensorMapEncodeTiled: update"):
        backend.prepare(source, backend.compile(source), INPUTS)


def test_a_large_block_gets_its_shared_memory_and_a_larger_one_a_reason(
    fake: FakeCuda, backend: CudaBackend
) -> None:
    launched(backend, fake, tiled(MAPS, shared_bytes=200 << 10))
    assert fake.launches("tiled")[-1].shared_bytes == 200 << 10
    with pytest.raises(DeviceError, match="262144 bytes of shared memory"):
        launched(backend, fake, tiled(MAPS, shared_bytes=256 << 10))
