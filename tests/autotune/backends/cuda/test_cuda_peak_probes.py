from __future__ import annotations

import pytest

from autotune import peak_kernels
from autotune.backends import probes
from autotune.backends.cuda import backend as cuda_backend
from autotune.backends.cuda import peak_probes
from autotune.backends.cuda.compiler import compile_for, compiler
from autotune.backends.cuda.target import capability_of, dtypes_of
from autotune.testing.fake_cuda import FakeCuda
from records.target import Target

pytest.importorskip("cuda.bindings.nvrtc")

TENSOR_TYPES = {"float16", "bfloat16", "tf32", "int8"}


def target(arch: str) -> Target:
    limits = {"units": 4, "dtypes": dtypes_of(capability_of(arch))}
    return Target.of("cuda", "a GPU", arch, limits)


@pytest.mark.parametrize(
    ("arch", "probed", "instruction"),
    [
        ("sm_75", {"float32", "float64"}, "none"),
        ("sm_80", {"float32", "float64"} | TENSOR_TYPES, "mma.sync"),
        ("sm_89", {"float32", "float64", "float8_e4m3"} | TENSOR_TYPES, "mma.sync"),
        ("sm_90a", {"float32", "float64", "float8_e4m3"} | TENSOR_TYPES, "wgmma.mma_async"),
        ("sm_100a", {"float32", "float64"} | TENSOR_TYPES, "mma.sync"),
    ],
)
def test_every_probe_compiles(arch: str, probed: set[str], instruction: str) -> None:
    if arch.rstrip("a") not in compiler().architectures():
        pytest.skip(f"{compiler().version} knows no {arch}")
    probes = {probe.dtype: probe for probe in peak_probes.flops_probes(target(arch))}
    assert set(probes) == probed
    for dtype, probe in probes.items():
        assert compile_for(probe.source, arch)
        assert (instruction in probe.source.text) == (dtype not in ("float32", "float64"))
    assert compile_for(peak_probes.copy_probe(target(arch)).source, arch)


def test_flops_count_what_the_instructions_do() -> None:
    probes = {probe.dtype: probe.flops for probe in peak_probes.flops_probes(target("sm_90a"))}
    assert probes["float32"] == 2 * 16 * 256 * 8 * 4
    assert probes["bfloat16"] == 2 * 64 * 256 * 16 * 4 * 2 * 4
    assert probes["tf32"] * 4 == probes["bfloat16"] * 2 == probes["float8_e4m3"]


def test_a_device_is_probed_through_its_backend(
    fake: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.attributes |= {"MULTIPROCESSOR_COUNT": 1, "L2_CACHE_SIZE": 1 << 20}
    monkeypatch.setattr(peak_kernels, "_SEARCH_S", (0.0, 0.0))
    monkeypatch.setattr(peak_kernels, "_RUN_S", 0.0)
    monkeypatch.setattr(probes, "_COPY_BYTES", (1 << 20, 1 << 20))
    backend = cuda_backend.open_device("cuda:0")
    peaks = peak_kernels.measure(backend)
    backend.close()
    assert set(peaks.flops_per_s) == {"float32", "float64", "float8_e4m3"} | TENSOR_TYPES
    assert peaks.copy_bytes_per_s > 0
