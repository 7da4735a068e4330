"""The kernels that probe an NVIDIA GPU's peaks: its tensor cores, its FMA units, its memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from autotune.backends.cuda.target import capability_of
from autotune.backends.probes import CopyProbe, FlopsProbe, copy_groups
from records.target import Target
from search_spaces.kernel import Array, KernelSource, Launch

_GROUP = 256
_CHAINS = 16  # independent sums of a thread: a latency of 4 cycles, with some to spare
_WAVES = 8  # groups of the FMA probe on each unit
_MMA_SYNC_TILES = 8  # sums of a warp, each of 16 by 8
_C_TYPES = {"float32": "float", "float64": "double"}
_COPY_VECTORS = 4  # of 16 bytes, under way in a thread at once

_FMA_TEXT = """
extern "C" __global__ void __launch_bounds__(GROUP)
multiply_add(int iterations, T x, T *out)
{
    T sums[CHAINS];
    #pragma unroll
    for (int chain = 0; chain < CHAINS; ++chain)
        sums[chain] = x + (T)chain;
    const T term = x * x;
    for (int i = 0; i < iterations; ++i) {
        #pragma unroll
        for (int chain = 0; chain < CHAINS; ++chain)
            sums[chain] = fma(sums[chain], x, term);
    }
    T sum = 0;
    #pragma unroll
    for (int chain = 0; chain < CHAINS; ++chain)
        sum += sums[chain];
    out[blockIdx.x * GROUP + threadIdx.x] = sum;
}
"""

# Operands are small positive numbers in every type, with random bits: power, and with it the
# clock, depends on how many bits change.
_OPERANDS_TEXT = """
__device__ __forceinline__ unsigned operand(unsigned index)
{
    return (index * 2654435761u ^ index * 40503u << 7) & 0x3F3F3F3Fu;
}
"""

# mma.sync is all there is up to 8.9; on 9.0 and later it reaches some 60 % of the tensor cores.
_MMA_SYNC_TEXT = (
    _OPERANDS_TEXT
    + """
extern "C" __global__ void __launch_bounds__(GROUP)
tensor_core(int iterations, T *out)
{
    T sums[TILES][4];
    unsigned a[4], b[TILES][2];
    for (int i = 0; i < 4; ++i)
        a[i] = operand(threadIdx.x * 4 + i);
    #pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
        b[tile][0] = operand(threadIdx.x + 512 * tile);
        b[tile][1] = operand(threadIdx.x + 512 * tile + 256);
        for (int i = 0; i < 4; ++i)
            sums[tile][i] = 0;
    }
    for (int i = 0; i < iterations; ++i) {
        #pragma unroll
        for (int tile = 0; tile < TILES; ++tile)
            asm volatile(
                "mma.sync.aligned.INSTRUCTION {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+C"(sums[tile][0]), "+C"(sums[tile][1]), "+C"(sums[tile][2]),
                  "+C"(sums[tile][3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[tile][0]), "r"(b[tile][1]));
    }
    T sum = 0;
    #pragma unroll
    for (int tile = 0; tile < TILES; ++tile)
        sum += sums[tile][0] + sums[tile][1] + sums[tile][2] + sums[tile][3];
    out[blockIdx.x * GROUP + threadIdx.x] = sum;
}
"""
)

# One block a unit, two warpgroups, each 64 by 256 sums; operands of 128 bytes a row in shared
# memory, 128-byte swizzle, four instructions along them. Descriptor: PTX ISA, "Matrix descriptor".
_WGMMA_TEXT = (
    _OPERANDS_TEXT
    + """
__device__ __forceinline__ unsigned long long descriptor(const void *tile)
{
    const unsigned long long address = __cvta_generic_to_shared(tile);
    return (address & 0x3FFFF) >> 4 | 1ull << 16 | (1024ull >> 4) << 32 | 1ull << 62;
}

extern "C" __global__ void __launch_bounds__(GROUP, 1)
tensor_core(int iterations, T *out)
{
    __shared__ __align__(1024) unsigned tile[(64 + 256) * 32];
    for (int i = threadIdx.x; i < (64 + 256) * 32; i += GROUP)
        tile[i] = operand(i);
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    const unsigned long long a = descriptor(tile), b = descriptor(tile + 64 * 32);
    T sums[128];
    #pragma unroll
    for (int i = 0; i < 128; ++i)
        sums[i] = 0;
    for (int i = 0; i < iterations; ++i) {
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        #pragma unroll
        for (int k = 0; k < 4; ++k)
            asm volatile(
                "{.reg .pred p; setp.ne.b32 p, 1, 0;"
                "wgmma.mma_async.sync.aligned.INSTRUCTION {NAMES}, %128, %129, pIMMEDIATES;}"
                : SUMS : "l"(a + 2 * k), "l"(b + 2 * k));
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    T sum = 0;
    #pragma unroll
    for (int i = 0; i < 128; ++i)
        sum += sums[i];
    out[blockIdx.x * GROUP + threadIdx.x] = sum;
}
"""
)

_COPY_TEXT = """
extern "C" __global__ void __launch_bounds__(GROUP)
copy(const float4 *from, float4 *to)
{
    const size_t first = (size_t)blockIdx.x * GROUP * VECTORS + threadIdx.x;
    float4 values[VECTORS];
    #pragma unroll
    for (int i = 0; i < VECTORS; ++i)
        values[i] = __ldcs(from + first + i * GROUP);
    #pragma unroll
    for (int i = 0; i < VECTORS; ++i)
        __stcs(to + first + i * GROUP, values[i]);
}
"""


@dataclass(frozen=True)
class _Tensor:
    """A type that tensor cores multiply: `k` of one instruction (32 bytes), names in PTX."""

    k: int
    operands: str
    sums: str = "f32"
    wgmma_immediates: str = ", 1, 1"  # scales of A and B; for 16-bit types also their layouts


_TENSORS: Mapping[str, _Tensor] = {
    "float16": _Tensor(16, "f16", wgmma_immediates=", 1, 1, 0, 0"),
    "bfloat16": _Tensor(16, "bf16", wgmma_immediates=", 1, 1, 0, 0"),
    "tf32": _Tensor(8, "tf32"),
    "float8_e4m3": _Tensor(32, "e4m3"),
    "int8": _Tensor(32, "s8", "s32", wgmma_immediates=""),
}


def flops_probes(target: Target) -> Iterator[FlopsProbe]:
    """FMA for float32 and float64; tensor cores, with the widest sums, for all other types.

    By wgmma on 9.0, else by mma.sync, which is below the peak of what has instructions of its
    own (10.0 and later). Below 8.0 tensor cores are not probed.
    """
    capability = capability_of(target.arch)
    for dtype in target.limit("dtypes", ("float32",)):
        if dtype in _C_TYPES:
            yield _fma_probe(target, dtype)
        elif dtype in _TENSORS and capability == (9, 0):
            yield _wgmma_probe(target, dtype)
        elif dtype in _TENSORS and capability >= (8, 0) and not _is_emulated(capability, dtype):
            yield _mma_sync_probe(target, dtype)


def _is_emulated(capability: tuple[int, int], dtype: str) -> bool:
    """On 10.x and 11.x, mma.sync converts float8 to float16 first (SASS: F2FP, then HMMA)."""
    return capability[0] in (10, 11) and dtype.startswith("float8")


def copy_probe(target: Target) -> CopyProbe:
    group_bytes = _GROUP * _COPY_VECTORS * 16
    groups = copy_groups(target, group_bytes)
    words = groups * group_bytes // 4
    source = KernelSource(
        "cuda",
        _defined({"GROUP": _GROUP, "VECTORS": _COPY_VECTORS}, _COPY_TEXT),
        (Launch("copy", (groups, 1, 1), (_GROUP, 1, 1), ("from", "to")),),
        (Array("from", (words,), "float32", "input"), Array("to", (words,), "float32", "output")),
    )
    return CopyProbe(source, groups * group_bytes)


def _fma_probe(target: Target, dtype: str) -> FlopsProbe:
    groups = target.limit("units", 1) * _WAVES
    text = _defined({"T": _C_TYPES[dtype], "GROUP": _GROUP, "CHAINS": _CHAINS}, _FMA_TEXT)
    arguments = ("iterations", "x", "out")
    source = _looping(text, "multiply_add", groups, arguments, dtype)
    return FlopsProbe(dtype, source, 2.0 * _CHAINS * groups * _GROUP)


def _mma_sync_probe(target: Target, dtype: str) -> FlopsProbe:
    tensor = _TENSORS[dtype]
    groups = 2 * target.limit("units", 1)
    shape, types = f"m16n8k{tensor.k}", (tensor.sums, tensor.operands, tensor.operands, tensor.sums)
    text = _MMA_SYNC_TEXT.replace("INSTRUCTION", f"{shape}.row.col.{'.'.join(types)}")
    source = _tensor_source(tensor, text, groups)
    warps = groups * _GROUP // 32
    return FlopsProbe(dtype, source, 2.0 * 16 * 8 * tensor.k * _MMA_SYNC_TILES * warps)


def _wgmma_probe(target: Target, dtype: str) -> FlopsProbe:
    tensor = _TENSORS[dtype]
    groups = target.limit("units", 1)
    types = ".".join((tensor.sums, tensor.operands, tensor.operands))
    text = (
        _WGMMA_TEXT.replace("INSTRUCTION", f"m64n256k{tensor.k}.{types}")
        .replace("NAMES", ", ".join(f"%{i}" for i in range(128)))
        .replace("SUMS", ", ".join(f'"+C"(sums[{i}])' for i in range(128)))
        .replace("IMMEDIATES", tensor.wgmma_immediates)
    )
    source = _tensor_source(tensor, text, groups)
    warpgroups = groups * _GROUP // 128
    return FlopsProbe(dtype, source, 2.0 * 64 * 256 * tensor.k * 4 * warpgroups)


def _tensor_source(tensor: _Tensor, text: str, groups: int) -> KernelSource:
    is_float = tensor.sums == "f32"
    text = text.replace('"+C"', '"+f"' if is_float else '"+r"')
    defines = {"T": "float" if is_float else "int", "GROUP": _GROUP, "TILES": _MMA_SYNC_TILES}
    dtype = "float32" if is_float else "int32"
    return _looping(_defined(defines, text), "tensor_core", groups, ("iterations", "out"), dtype)


def _looping(
    text: str, kernel: str, groups: int, arguments: tuple[str, ...], dtype: str
) -> KernelSource:
    arrays = {
        "iterations": Array("iterations", (), "int32", "scalar"),
        "x": Array("x", (), dtype, "scalar"),
        "out": Array("out", (groups * _GROUP,), dtype, "output"),
    }
    launch = Launch(kernel, (groups, 1, 1), (_GROUP, 1, 1), arguments)
    return KernelSource("cuda", text, (launch,), tuple(arrays[name] for name in arguments))


def _defined(defines: Mapping[str, object], text: str) -> str:
    return "".join(f"#define {name} {value}\n" for name, value in defines.items()) + text
