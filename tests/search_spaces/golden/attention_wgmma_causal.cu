// Neutral names of the portable kernels, in CUDA C++. Needs no header of the CUDA toolkit.

typedef unsigned short ushort;

#define KERNEL extern "C" __global__
#define GROUP_SIZE(x, y, z) __launch_bounds__((x) * (y) * (z))
#define FUNCTION __device__ __forceinline__
#define GLOBAL
#define LOCAL
#define LOCAL_ARRAY(type, name, count) __shared__ __align__(16) type name[count]
#define RESTRICT __restrict__
#define BARRIER() __syncthreads()
#define GROUP_ID(axis) GROUP_ID_##axis
#define GROUP_ID_0 ((int)blockIdx.x)
#define GROUP_ID_1 ((int)blockIdx.y)
#define GROUP_ID_2 ((int)blockIdx.z)
#define LOCAL_ID(axis) LOCAL_ID_##axis
#define LOCAL_ID_0 ((int)threadIdx.x)
#define LOCAL_ID_1 ((int)threadIdx.y)
#define LOCAL_ID_2 ((int)threadIdx.z)
#define FMA(x, y, z) fma(x, y, z)

// A vector of 2 or 4 elements with members x, y (z, w). CUDA's own are not there for every type.
template <typename T> struct __align__(2 * sizeof(T)) Vector2 { T x, y; };
template <typename T> struct __align__(sizeof(T) < 8 ? 4 * sizeof(T) : 16) Vector4 { T x, y, z, w; };
#define VECTOR2(type) Vector2<type>
#define VECTOR4(type) Vector4<type>

// float16 is kept as its bits in a ushort.
FUNCTION float half_to_float(ushort bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
FUNCTION ushort float_to_half(float value)
{
    ushort bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Arithmetic in float16: what sums need, and no more.
struct half {
    ushort bits;
    __device__ __forceinline__ half() {}
    __device__ __forceinline__ half(float value) : bits(float_to_half(value)) {}
    __device__ __forceinline__ operator float() const { return half_to_float(bits); }
};
FUNCTION half half_of_bits(ushort bits)
{
    half value;
    value.bits = bits;
    return value;
}
FUNCTION half fma(half x, half y, half z)
{
    ushort bits;
    asm("fma.rn.f16 %0, %1, %2, %3;" : "=h"(bits) : "h"(x.bits), "h"(y.bits), "h"(z.bits));
    return half_of_bits(bits);
}
#define HALF_OF_BITS(bits) half_of_bits(bits)

// Conversions of bfloat16 and float8, kept as their bits, in CUDA C++ after cuda.h. Needs no header
// of the CUDA toolkit. All round once, to nearest, ties to even; float8 saturates. Conversions to
// bfloat16 need sm_80, those of float8 sm_89. In a pair the first value is the lower half.
#ifndef CUDA_FORMATS
#define CUDA_FORMATS

FUNCTION float bfloat16_to_float(ushort bits) { return __uint_as_float((unsigned)bits << 16); }
FUNCTION ushort float_to_bfloat16(float value)
{
    ushort bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
FUNCTION unsigned floats_to_bfloat16x2(float x, float y)
{
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION unsigned floats_to_halfx2(float x, float y)
{
    return (unsigned)float_to_half(x) | (unsigned)float_to_half(y) << 16;
}

FUNCTION ushort floats_to_float8_e4m3x2(float x, float y)
{
    ushort bits;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION ushort floats_to_float8_e5m2x2(float x, float y)
{
    ushort bits;
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION unsigned char float_to_float8_e4m3(float value)
{
    return (unsigned char)floats_to_float8_e4m3x2(value, 0.0f);
}
FUNCTION unsigned char float_to_float8_e5m2(float value)
{
    return (unsigned char)floats_to_float8_e5m2x2(value, 0.0f);
}
FUNCTION float float8_e4m3_to_float(unsigned char bits)
{
    unsigned halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((ushort)bits));
    return half_to_float((ushort)halves);
}
FUNCTION float float8_e5m2_to_float(unsigned char bits) { return half_to_float((ushort)(bits << 8)); }

#endif

#define BATCH 4
#define HEADS 16
#define KV_HEADS 16
#define Q_LEN 4096
#define KV_LEN 4096
#define HEAD_DIM 128
#define V_DIM 128
#define TOTAL_Q 16384
#define SCALE 0.08838834764831843f
#define CAUSAL 1
#define WINDOW 0
#define SOFTCAP 0.0f
#define HAS_SOFTCAP 0
#define ALIBI 0
#define BIAS 0
#define PACKED 0
#define PACKED_KV 0
#define KV_LENGTHS 0
#define LSE 0
#define SCALED_KV 0
#define PAGE_SIZE 0
#define PAGES_PER_SEQUENCE 0
#define K_PAGE_STRIDE 0
#define V_PAGE_STRIDE 0
#define Q_BATCH_STRIDE 8388608
#define Q_HEAD_STRIDE 524288
#define Q_ROW_STRIDE 128
#define OUT_BATCH_STRIDE 8388608
#define OUT_HEAD_STRIDE 524288
#define OUT_ROW_STRIDE 128
#define K_BATCH_STRIDE 8388608
#define K_HEAD_STRIDE 524288
#define K_ROW_STRIDE 128
#define V_BATCH_STRIDE 8388608
#define V_HEAD_STRIDE 524288
#define V_ROW_STRIDE 128
#define OFFSET int
#define STORED ushort
#define STORED_KV ushort
#define STORED_BYTES 2
#define STORED_KV_BYTES 2
#define STORED_TO_FLOAT(x) bfloat16_to_float(x)
#define FLOAT_TO_STORED(x) float_to_bfloat16(x)
#define KV_TO_FLOAT(x) bfloat16_to_float(x)
#define INPUT_PARAMETERS
#define INPUT_ARGUMENTS
#define LSE_PARAMETER
#define LSE_ARGUMENT

#define TILE_N 128
#define STAGES 2
#define SPLITS 1
#define OVERLAP 1
#define PINGPONG 1
#define LAZY 0
#define POLYNOMIALS 0
#define BUFFERS 1
#define CONSUMERS 2
#define RESIDENT 1
#define PACK 1
#define TOGETHER 16
#define CLUSTER_M 1
#define CLUSTER_N 1
#define CLUSTERS 132
#define QUERY_REGISTERS 0
#define STORE_TMA 1
#define LOADER_REGISTERS 24
#define CONSUMER_REGISTERS 240
#define PAGE_ROWS 0
#define PAGES 0
#define PAIR(x, y) floats_to_bfloat16x2(x, y)

#define QK "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16"
#define QK_OPERANDS \
    "{" \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18," \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35," \
    "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52," \
    "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63" \
    "}, %64, %65, p, 1, 1, 0, 0;"
#define QK_KEEP "%66"
#define QK_SUMS(d) \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
    "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), \
    "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), \
    "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), \
    "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), \
    "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), \
    "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), \
    "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
    "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), \
    "+f"(d[62]), "+f"(d[63])
#define PV "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16"
#define PV_OPERANDS \
    "{" \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18," \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35," \
    "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52," \
    "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63" \
    "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;"
#define PV_KEEP "%69"
#define PV_SUMS(d) \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
    "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), \
    "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), \
    "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), \
    "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), \
    "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), \
    "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), \
    "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
    "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), \
    "+f"(d[62]), "+f"(d[63])

// Barriers, clusters, the copy engine and warpgroup products of Hopper, a function an instruction.
//
// For sm_90a, of sm_90 all but the last two sections. Stands after cuda.h. Addresses are those of
// the shared window, 32 bits. PTX ISA 8.5: mbarrier, cp.async.bulk.tensor, wgmma, setmaxnreg.

#ifndef HOPPER_H
#define HOPPER_H

// ---- Barriers in shared memory

FUNCTION void barrier_init(unsigned barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

FUNCTION void barrier_expect(unsigned barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

// Returns once the barrier has completed the phase; a new barrier counts as past phase 1.
FUNCTION void barrier_wait(unsigned barrier, int phase)
{
    asm volatile(
        "{ .reg .pred done;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again; }" ::"r"(barrier),
        "r"(phase)
        : "memory");
}

FUNCTION void barrier_arrive(unsigned barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// At the same barrier of another block of the cluster. Without .release.cluster, which would be a
// barrier of the whole GPU's memory: for those who only read shared memory before.
FUNCTION void barrier_arrive_at(unsigned barrier, int rank)
{
    asm volatile(
        "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [remote]; }" ::"r"(barrier),
        "r"(rank)
        : "memory");
}

// Makes new barriers known to the copy engine and to the cluster, before all its threads meet.
FUNCTION void barriers_publish()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// ---- Clusters

FUNCTION int cluster_rank()
{
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// All threads of the cluster meet. Relaxed: it does not make earlier writes visible.
FUNCTION void cluster_meet()
{
    asm volatile("barrier.cluster.arrive.relaxed; barrier.cluster.wait.acquire;" ::: "memory");
}

// ---- Copies by TMA: boxes of a tensor of three dimensions, coordinates from the contiguous one on

struct __align__(64) TensorMap {
    char bytes[128];
};

// Before this thread's first use of a map: it lies in global memory, where another may have lain
// that the copy engine still keeps.
FUNCTION void map_acquire(const TensorMap *map)
{
    asm volatile("fence.proxy.tensormap::generic.acquire.sys [%0], 128;" ::"l"(map) : "memory");
}

FUNCTION void tma_load(unsigned to, const TensorMap *map, unsigned barrier, int x, int y, int z)
{
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
        : "memory");
}

// To the same address, and barrier, in each block of the cluster whose bit is set in `blocks`.
FUNCTION void tma_multicast(unsigned to, const TensorMap *map, unsigned barrier, int x, int y,
                            int z, unsigned short blocks)
{
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
        "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "h"(blocks)
        : "memory");
}

FUNCTION void tma_store(const TensorMap *map, unsigned from, int x, int y, int z)
{
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];\n"
        "cp.async.bulk.commit_group;" ::"l"(map),
        "r"(from), "r"(x), "r"(y), "r"(z)
        : "memory");
}

// Once at most PENDING of this thread's stores, the latest ones, still read shared memory.
template <int PENDING> FUNCTION void tma_await_reads()
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// Makes this thread's writes to shared memory visible to the copy engine.
FUNCTION void tma_publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- Products of a warpgroup, asynchronous: groups of them are begun, committed and awaited

FUNCTION void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

FUNCTION void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int PENDING> FUNCTION void products_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// ---- Registers: from a warpgroup that needs few of them to those that need many

template <int COUNT> FUNCTION void registers_give()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT> FUNCTION void registers_take()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

#endif

// What attention needs of Hopper beside hopper.h, a function an instruction: copies of boxes of four
// and five dimensions, barriers of some warpgroups, products of a warpgroup, fast exponentials.
//
// Stands after hopper.h. PTX ISA 8.5: cp.async.bulk.tensor, bar, wgmma, ex2, rcp, stmatrix.

#ifndef WGMMA_INSTRUCTIONS_H
#define WGMMA_INSTRUCTIONS_H

// ---- Copies by TMA, coordinates from the contiguous one on

FUNCTION void tma_load(unsigned to, const TensorMap *map, unsigned barrier, int x, int y, int z,
                       int w)
{
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
        : "memory");
}

FUNCTION void tma_load(unsigned to, const TensorMap *map, unsigned barrier, int x, int y, int z,
                       int w, int v)
{
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v)
        : "memory");
}

// To the same address, and barrier, in each block of the cluster whose bit is set in `blocks`.
FUNCTION void tma_multicast(unsigned to, const TensorMap *map, unsigned barrier, int x, int y,
                            int z, int w, unsigned short blocks)
{
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
        "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "h"(blocks)
        : "memory");
}

FUNCTION void tma_store(const TensorMap *map, unsigned from, int x, int y, int z, int w, int v)
{
    asm volatile(
        "cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5, %6}], [%1];\n"
        "cp.async.bulk.commit_group;" ::"l"(map),
        "r"(from), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v)
        : "memory");
}

// ---- Barriers by number, 1 to 15: of so many threads, of which those that only arrive go on

FUNCTION void named_barrier_meet(int barrier, const int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

FUNCTION void named_barrier_arrive(int barrier, const int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// As barrier_wait, once `value` is known: a way to have the compiler compute it before what follows.
FUNCTION void barrier_wait_after(unsigned barrier, int phase, float value)
{
    const unsigned no_result = 0xFFFFFFFE;  // of any addition
    asm volatile(
        "{ .reg .pred done, never;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "setp.eq.b32 never, %2, %3;\n"
        "or.pred done, done, never;\n"
        "@!done bra again; }" ::"r"(barrier),
        "r"(phase), "r"(__float_as_uint(value)), "r"(no_result)
        : "memory");
}

// ---- Products: 64 rows of sums (+)= left right, 16 steps at a time
//
// The macros are written for the number of columns: QK of scores, whose left operand may lie in
// registers, PV of the output, whose left operand always does and whose right one has neighbouring
// columns side by side.

#ifndef QUERY_REGISTERS
#define QUERY_REGISTERS 0  // 1: consumers keep their rows of Q in registers
#endif
#ifndef QK
#define QK "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16"
#define PV QK
#define SUMS_OF_64                                                                           \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
#define QK_OPERANDS SUMS_OF_64 "%32, %33, p, 1, 1, 0, 0;"
#define QK_KEEP "%34"
#define PV_OPERANDS SUMS_OF_64 "{%32, %33, %34, %35}, %36, p, 1, 1, 1;"
#define PV_KEEP "%37"
#define QK_SUMS(d)                                                                        \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),       \
    "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),   \
    "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), \
    "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), \
    "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define PV_SUMS(d) QK_SUMS(d)
#endif

typedef unsigned long long Descriptor;

// Of a tile with 128-byte swizzle, at 16 bytes times the lower 14 bits of `low`; 1024 bytes from
// one group of 8 lines to the next. The upper half of `low`: from a panel to the next, across lines.
FUNCTION Descriptor descriptor(unsigned low)
{
    return (Descriptor)(1 << 30 | 1024 >> 4) << 32 | low;
}

#if QUERY_REGISTERS
template <int COUNT>
FUNCTION void multiply_scores(float (&sums)[COUNT], const unsigned *left, Descriptor right,
                              int keep)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " QK_KEEP ", 0;\n" QK " " QK_OPERANDS " }"
                 : QK_SUMS(sums)
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(keep));
}
#else
template <int COUNT>
FUNCTION void multiply_scores(float (&sums)[COUNT], Descriptor left, Descriptor right, int keep)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " QK_KEEP ", 0;\n" QK " " QK_OPERANDS " }"
                 : QK_SUMS(sums)
                 : "l"(left), "l"(right), "r"(keep));
}
#endif

template <int COUNT>
FUNCTION void multiply_out(float (&sums)[COUNT], const unsigned *left, Descriptor right, int keep)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " PV_KEEP ", 0;\n" PV " " PV_OPERANDS " }"
                 : PV_SUMS(sums)
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(keep));
}

// Cost nothing, but neither reads nor writes of these registers move across.
template <int COUNT> FUNCTION void settle(float (&values)[COUNT])
{
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(values[i])::"memory");
}

template <int COUNT> FUNCTION void settle(unsigned (&values)[COUNT])
{
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+r"(values[i])::"memory");
}

// ---- Matrices of 8 x 8 elements of 16 bits, four at a time

FUNCTION void load_matrices(unsigned *to, unsigned address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

FUNCTION void store_matrices(unsigned address, const unsigned (&pairs)[4])
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]), "r"(pairs[3])
                 : "memory");
}

// ---- Arithmetic within 2 units of the last place of float32

FUNCTION float fast_exp2(float x)
{
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

FUNCTION float fast_reciprocal(float x)
{
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

// The absolute error is what counts in a score.
FUNCTION float fast_tanh(float x)
{
    return 1.0f - 2.0f * fast_reciprocal(1.0f + fast_exp2(2.885390081777927f * x));
}

// Two to the power of x, at most 0, by polynomial: relative error 1.0e-4, below what 16 bits keep.
// Exactly 0 at minus infinity. It leaves the unit of special functions, of which there are 16 for
// 128 lanes, to other elements (as FlashAttention-4 does; Cody and Waite's reduction).
FUNCTION float polynomial_exp2(float x)
{
    x = fmaxf(x, -127.0f);
    const float shifted = x + 12582912.0f;  // 1.5 * 2^23: rounds to an integer in the low bits
    const float rest = x - (shifted - 12582912.0f);  // -0.5 to 0.5
    float power = FMA(0.05500895f, rest, 0.24221101f);
    power = FMA(power, rest, 0.69328293f);
    power = FMA(power, rest, 1.0f);
    return __uint_as_float(__float_as_uint(power) + (__float_as_uint(shifted) << 23));
}

FUNCTION unsigned floats_to_float16x2(float x, float y)
{
    unsigned bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(y), "f"(x));
    return bits;
}

#define EXP2(x) fast_exp2(x)
#define TANH(x) fast_tanh(x)

#endif

// Where the rows of an attention lie, which keys a query sees, and what a score is: the workload's
// side of every kernel of attention, in the neutral macros of the preludes. What the workload lacks
// compiles away. The macros that describe it stand above, written by defines.py.
//
// In a kernel with the parameters q, k, v INPUT_PARAMETERS and out LSE_PARAMETER:
//
//   Sequence s = SEQUENCE(b);                   sequence b: s.queries, s.keys, and where they lie
//   q[q_offset(s, head, query) + x]             x < HEAD_DIM; offsets are OFFSET, in elements
//   k[k_offset(s, head / HEADS_PER_KV_HEAD, key) + x], v_offset; out_offset; lse[lse_offset(...)]
//   first_key(s, query), end_key(s, query)      the keys that a query sees: first <= key < end
//
// Both grow with the query: queries a to b together see keys from first_key(s, a) to
// end_key(s, b), and all of them see those from first_key(s, b) to end_key(s, a). Rows given to
// the offsets must exist: query < s.queries, key < s.keys.
//
//   x = SCORE_FACTOR * (sum of q k)             with the scales of float8, in the kernel itself
//   x = score(x, BIAS_OF(s, head), s, query, key)   in units of log2: its weight is exp2(x)
//   out = VALUE_FACTOR * (sum of weights v) / (sum of weights); 0 where no key is seen
//   lse = natural_lse(largest score, sum of exp2(score - largest))
//
// Where SCORE_IS_LINEAR, score() changes nothing: SCORE_FACTOR may then be applied as late as in
// the exponent, exp2(fma(sum, SCORE_FACTOR, -largest)). score() reads the bias of that query and
// key, which must exist. It is capped(x) + bias_at(...), for kernels that want these apart.

#ifndef SEQUENCE_H
#define SEQUENCE_H

#ifndef HEAD_DIM  // by itself: float32, one sequence of 1024 queries and keys, 8 heads of 64
#define BATCH 1
#define HEADS 8
#define KV_HEADS 8
#define Q_LEN 1024   // the longest sequence's, where they differ
#define KV_LEN 1024
#define HEAD_DIM 64  // of Q and K
#define V_DIM 64
#define SCALE 0.125f
#define CAUSAL 0
#define WINDOW 0     // keys seen from a query on, itself included; 0: all
#define SOFTCAP 0.0f
#define HAS_SOFTCAP 0
#define ALIBI 0      // 1: slopes
#define BIAS 0       // 1: of heads x queries x keys; 2: for each sequence too
#define PACKED 0     // 1: queries of all sequences follow one another: q_offsets
#define PACKED_KV 0  // 1: keys too: kv_offsets
#define KV_LENGTHS 0  // 1: kv_lengths
#define PAGE_SIZE 0  // keys of a page; 0: no pages
#define PAGES_PER_SEQUENCE 0  // columns of block_table
#define TOTAL_Q 1024  // rows of Q, of all sequences
#define LSE 0        // 1: a second output
#define SCALED_KV 0  // 1: K and V are float8
#define Q_BATCH_STRIDE 524288  // in elements
#define Q_HEAD_STRIDE 65536
#define Q_ROW_STRIDE 64
#define OUT_BATCH_STRIDE 524288
#define OUT_HEAD_STRIDE 65536
#define OUT_ROW_STRIDE 64
#define K_BATCH_STRIDE 524288
#define K_HEAD_STRIDE 65536
#define K_ROW_STRIDE 64
#define K_PAGE_STRIDE 0
#define V_BATCH_STRIDE 524288
#define V_HEAD_STRIDE 65536
#define V_ROW_STRIDE 64
#define V_PAGE_STRIDE 0
#define OFFSET int       // size_t where an array has more elements
#define STORED float     // an element of Q, of the bias and of the output
#define STORED_KV float  // of K and V
#define STORED_BYTES 4
#define STORED_KV_BYTES 4
#define STORED_TO_FLOAT(x) (x)
#define FLOAT_TO_STORED(x) (x)
#define KV_TO_FLOAT(x) (x)
#define INPUT_PARAMETERS  // further inputs, each after a comma
#define INPUT_ARGUMENTS   // the same to pass on
#define LSE_PARAMETER     // lse, after a comma
#define LSE_ARGUMENT
#endif

#ifndef FUNCTION  // plain C, for tests
#define FUNCTION static inline
#define GLOBAL
#define FMA(x, y, z) ((x) * (y) + (z))
#endif

#ifndef EXP2
#define EXP2(x) exp2(x)  // of softcap; a template may set a faster one
#endif

#define HEADS_PER_KV_HEAD (HEADS / KV_HEADS)
#define MASKED (CAUSAL || WINDOW)  // whether a query may not see every key
#define VARLEN_Q PACKED            // whether s.queries may differ from Q_LEN,
#define VARLEN_KV (PACKED_KV || KV_LENGTHS)  // and s.keys from KV_LEN
#define SCORE_IS_LINEAR (!HAS_SOFTCAP && !ALIBI && !BIAS)

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f
#ifdef __OPENCL_VERSION__
#define MINUS_INFINITY (-INFINITY)
#else
#define MINUS_INFINITY __int_as_float(0xFF800000)
#endif

// ---- Sequences

typedef struct {
    int index;                // in the batch
    int queries, keys;        // how many
    int first_query;          // rows of packed Q before it
    int first_key;            // rows of packed K before it
    GLOBAL const int *pages;  // its row of the block table
} Sequence;

#if PACKED
#define SEQUENCE_QUERIES(b) q_offsets[(b) + 1] - q_offsets[b]
#define SEQUENCE_FIRST_QUERY(b) q_offsets[b]
#else
#define SEQUENCE_QUERIES(b) Q_LEN
#define SEQUENCE_FIRST_QUERY(b) 0
#endif
#if PACKED_KV
#define SEQUENCE_KEYS(b) kv_offsets[(b) + 1] - kv_offsets[b]
#define SEQUENCE_FIRST_KEY(b) kv_offsets[b]
#else
#define SEQUENCE_FIRST_KEY(b) 0
#if KV_LENGTHS
#define SEQUENCE_KEYS(b) kv_lengths[b]
#else
#define SEQUENCE_KEYS(b) KV_LEN
#endif
#endif
#if PAGE_SIZE
#define SEQUENCE_PAGES(b) (block_table + (OFFSET)(b) * PAGES_PER_SEQUENCE)
#else
#define SEQUENCE_PAGES(b) 0
#endif

FUNCTION Sequence sequence_of(int index, int queries, int keys, int first_query, int first_key,
                              GLOBAL const int *pages)
{
    Sequence s;
    s.index = index, s.queries = queries, s.keys = keys;
    s.first_query = first_query, s.first_key = first_key, s.pages = pages;
    return s;
}

// In the kernel itself, or where its parameters are known by their names.
#define SEQUENCE(b)                                                                    \
    sequence_of(b, SEQUENCE_QUERIES(b), SEQUENCE_KEYS(b), SEQUENCE_FIRST_QUERY(b),     \
                SEQUENCE_FIRST_KEY(b), SEQUENCE_PAGES(b))

// ---- Where rows lie

FUNCTION OFFSET q_offset(Sequence s, int head, int query)
{
    return (OFFSET)s.index * Q_BATCH_STRIDE + (OFFSET)head * Q_HEAD_STRIDE +
           (OFFSET)(s.first_query + query) * Q_ROW_STRIDE;
}

FUNCTION OFFSET out_offset(Sequence s, int head, int query)
{
    return (OFFSET)s.index * OUT_BATCH_STRIDE + (OFFSET)head * OUT_HEAD_STRIDE +
           (OFFSET)(s.first_query + query) * OUT_ROW_STRIDE;
}

// Heads before queries, in both layouts.
FUNCTION OFFSET lse_offset(Sequence s, int head, int query)
{
    if (PACKED) return (OFFSET)head * TOTAL_Q + s.first_query + query;
    return ((OFFSET)s.index * HEADS + head) * Q_LEN + query;
}

#if PAGE_SIZE
#define KV_OFFSET(name)                                                              \
    ((OFFSET)s.pages[(unsigned)key / PAGE_SIZE] * name##_PAGE_STRIDE +               \
     (OFFSET)((unsigned)key % PAGE_SIZE) * name##_ROW_STRIDE + (OFFSET)kv_head * name##_HEAD_STRIDE)
#else
#define KV_OFFSET(name)                                                              \
    ((OFFSET)s.index * name##_BATCH_STRIDE + (OFFSET)kv_head * name##_HEAD_STRIDE +  \
     (OFFSET)(s.first_key + key) * name##_ROW_STRIDE)
#endif

FUNCTION OFFSET k_offset(Sequence s, int kv_head, int key) { return KV_OFFSET(K); }
FUNCTION OFFSET v_offset(Sequence s, int kv_head, int key) { return KV_OFFSET(V); }

// ---- What a query sees: the last query stands at the last key

FUNCTION int query_position(Sequence s, int query) { return query + s.keys - s.queries; }

FUNCTION int first_key(Sequence s, int query)
{
    const int first = WINDOW ? query_position(s, query) - WINDOW + 1 : 0;
    return first > 0 ? first : 0;
}

FUNCTION int end_key(Sequence s, int query)
{
    const int end = query_position(s, query) + (CAUSAL ? 1 : WINDOW);
    if (!MASKED || end > s.keys) return s.keys;
    return end > 0 ? end : 0;
}

// ---- Scores, in units of log2

typedef struct {
    float slope;                 // of ALiBi, in units of log2
    GLOBAL const STORED *first;  // of this head's additive bias
} Bias;

FUNCTION Bias bias_of(float slope, GLOBAL const STORED *first)
{
    Bias bias;
    bias.slope = slope, bias.first = first;
    return bias;
}

// In the kernel itself, as SEQUENCE.
#if ALIBI
#define BIAS_OF(s, head) bias_of(alibi_slopes[head] * LOG2_E, 0)
#elif BIAS
#define BIAS_OF(s, head) \
    bias_of(0.0f, bias + ((OFFSET)(BIAS == 2 ? (s).index : 0) * HEADS + (head)) * Q_LEN * KV_LEN)
#else
#define BIAS_OF(s, head) bias_of(0.0f, 0)
#endif

#if SCALED_KV
#define K_FACTOR k_scale
#define VALUE_FACTOR v_scale
#else
#define K_FACTOR 1.0f
#define VALUE_FACTOR 1.0f
#endif
#if HAS_SOFTCAP
#define SCORE_FACTOR (SCALE / SOFTCAP * K_FACTOR)
#else
#define SCORE_FACTOR (SCALE * LOG2_E * K_FACTOR)
#endif

FUNCTION float bias_at(Bias bias, Sequence s, int query, int key)
{
#if ALIBI
    const float distance = (float)(query_position(s, query) - key);
    return -bias.slope * (distance < 0.0f ? -distance : distance);
#elif BIAS
    return STORED_TO_FLOAT(bias.first[(OFFSET)query * KV_LEN + key]) * LOG2_E;
#else
    return 0.0f;
#endif
}

#ifndef TANH
#define TANH(x) accurate_tanh(x)  // of softcap; a template may set a faster one
#endif

// Within 3 * 2^-24 of itself: a polynomial fitted below 0.6, where 1 - 2 / (1 + exp(2 x)) cancels.
FUNCTION float accurate_tanh(float x)
{
    const float size = x < 0.0f ? -x : x, square = x * x;
    const float far = 1.0f - 2.0f / (1.0f + EXP2(2.0f * LOG2_E * size));
    float sum = FMA(0.0156126330f, square, -0.0522118067f);
    sum = FMA(sum, square, 0.133131161f);
    sum = FMA(sum, square, -0.333325982f);
    return size < 0.6f ? FMA(sum * square, x, x) : x < 0.0f ? -far : far;
}

FUNCTION float capped(float x)
{
    return HAS_SOFTCAP ? SOFTCAP * LOG2_E * TANH(x) : x;
}

FUNCTION float score(float x, Bias bias, Sequence s, int query, int key)
{
    return SCORE_IS_LINEAR ? x : capped(x) + bias_at(bias, s, query, key);
}

// ---- Logarithm of the sum of exponentials; minus infinity where no key is seen

FUNCTION float natural_lse(float largest, float sum)
{
    return sum > 0.0f ? (largest + log2(sum)) * LN_2 : MINUS_INFINITY;
}

#endif

// Which queries of which head are whose turn, which keys they see, and which stage of shared memory
// holds them: integers only, so that this part compiles as plain C too, and can be tested on any
// machine. Stands after sequence.h.
//
// A unit of work is a tile of TILE_M rows of one line, or a part of its keys. A line is a head of a
// sequence; with PACK, the PACK heads of Q that share a head of K and V, and a row is then one of
// these heads of a query. Lines are taken in sections of TOGETHER, whose K and V stay in L2 while
// the tiles of a section are worked on; under a causal mask the longest tiles come first. Blocks of a
// cluster take neighbouring tiles of a line and walk the same keys, so that they share the loads.

#ifndef WGMMA_TILES_H
#define WGMMA_TILES_H

#ifndef CONSUMERS
#define CONSUMERS 2  // warpgroups that multiply, 64 rows of a tile each: 1 to 3
#endif
#ifndef TILE_N
#define TILE_N 64  // keys of a tile: 16 to 256 by 16
#endif
#ifndef STAGES
#define STAGES 2  // tiles of K, and of V, in shared memory
#endif
#ifndef PACK
#define PACK 1  // heads of Q in a tile: 1, or all that share a head of K and V
#endif
#ifndef TOGETHER
#define TOGETHER 1  // lines whose tiles are taken in turn
#endif
#ifndef SPLITS
#define SPLITS 1  // parts of the keys
#endif
#ifndef CLUSTER_M
#define CLUSTER_M 1  // blocks of a cluster: 1 or 2
#endif
#ifndef CLUSTERS
#define CLUSTERS 132  // launched; each takes one unit after another
#endif

#define CEIL_DIVIDE(extent, size) (((extent) + (size)-1) / (size))
#define TILE_M (64 * CONSUMERS)
#define LINE_HEADS (HEADS / PACK)
#define LINES (BATCH * LINE_HEADS)
#define CLUSTER_ROWS (CLUSTER_M * TILE_M)
#define ROW_TILES CEIL_DIVIDE(Q_LEN * PACK, CLUSTER_ROWS)  // of clusters, in the longest sequence
#define UNITS (LINES * ROW_TILES * SPLITS)  // for a cluster

struct Unit {
    int batch, head;  // of the line: head of Q, or of K and V with PACK
    int row;          // first of the tile, in the line,
    int cluster_row;  // and of all tiles of the cluster
    int part;         // of the keys
};

struct Span {
    int first, end;  // tiles of keys
};

struct Slot {
    int stage;
    int phase;  // 0 and 1 in turn, each time round
};

FUNCTION int smaller(int x, int y) { return x < y ? x : y; }

// The number of a cluster's unit; UNITS or more where it has had its last one. To and fro, as the
// longest come first: who took the longest of a round takes the shortest of the next.
FUNCTION int unit_index(int cluster, int turn)
{
    return turn * CLUSTERS + (turn % 2 ? CLUSTERS - 1 - cluster : cluster);
}

// That unit, for the block of that rank.
FUNCTION struct Unit unit_of(int index, int rank)
{
    const int place = index / SPLITS;
    const int section = place / (TOGETHER * ROW_TILES);
    const int lines = smaller(TOGETHER, LINES - section * TOGETHER);
    const int inside = place % (TOGETHER * ROW_TILES);
    const int line = section * TOGETHER + inside % lines, tile = inside / lines;
    struct Unit unit;
    unit.batch = line / LINE_HEADS;
    unit.head = line % LINE_HEADS;
    unit.cluster_row = (CAUSAL ? ROW_TILES - 1 - tile : tile) * CLUSTER_ROWS;
    unit.row = unit.cluster_row + rank * TILE_M;
    unit.part = index % SPLITS;
    return unit;
}

FUNCTION int query_of(struct Unit unit, int row) { return (unit.row + row) / PACK; }

FUNCTION int head_of(struct Unit unit, int row)
{
    return PACK > 1 ? unit.head * PACK + row % PACK : unit.head;
}

FUNCTION int kv_head_of(struct Unit unit)
{
    return PACK > 1 ? unit.head : unit.head / HEADS_PER_KV_HEAD;
}

// Tiles of keys that any query of the cluster sees, or its part of them; none without queries.
FUNCTION struct Span span_of(struct Unit unit, Sequence s)
{
    const int first = unit.cluster_row / PACK;
    const int last = smaller((unit.cluster_row + CLUSTER_ROWS - 1) / PACK, s.queries - 1);
    struct Span span = {0, 0};
    if (first >= s.queries || end_key(s, last) <= first_key(s, first)) return span;
    const int begin = first_key(s, first) / TILE_N;
    const int tiles = CEIL_DIVIDE(end_key(s, last), TILE_N) - begin;
    span.first = begin + (int)((long long)tiles * unit.part / SPLITS);
    span.end = begin + (int)((long long)tiles * (unit.part + 1) / SPLITS);
    return span;
}

// Tiles of which rows `row` to `row` + `rows` - 1 see every key; the other ones need a mask.
FUNCTION struct Span whole_of(struct Unit unit, Sequence s, int row, int rows)
{
    const struct Span whole = {CEIL_DIVIDE(first_key(s, query_of(unit, row + rows - 1)), TILE_N),
                               end_key(s, query_of(unit, row)) / TILE_N};
    return whole;
}

FUNCTION struct Slot next_slot(struct Slot slot)
{
    const int wraps = slot.stage + 1 == STAGES;
    slot.stage = wraps ? 0 : slot.stage + 1;
    slot.phase ^= wraps;
    return slot;
}

#endif

// From scores to weights, in the registers of a warp: masks, the running maximum and sum.
//
// Stands after wgmma_tiles.h. Of 64 rows of sums a lane of warp w has, for every 8 columns, two
// neighbours of row 16 w + lane / 4, columns lane % 4 * 2 and on, then of the row 8 further down.

#ifndef WGMMA_SOFTMAX_H
#define WGMMA_SOFTMAX_H

#ifndef PAIR
#include "../dialects/cuda_formats.h"
#define PAIR(x, y) floats_to_bfloat16x2(x, y)  // two neighbours of 16 bits, the first one lower
#endif
#ifndef POLYNOMIALS
#define POLYNOMIALS 0  // of 16 exponentials, how many by polynomial
#endif
#ifndef LAZY
#define LAZY 0  // 1: earlier sums are rescaled only where they would be by a factor above 2^LAZINESS
#endif

#define LAZINESS 8.0f  // weights up to 256 lose nothing in float32, and stay far below 65504
#define SCORES (TILE_N / 2)
#define WEIGHTS (TILE_N / 4)
#define ROW_OF(i) ((i) / 2 % 2)              // which of a lane's two rows sum i belongs to,
#define COLUMN_OF(i) ((i) / 4 * 8 + (i) % 2)  // and how far from its first column
#define NEVER_HIDDEN (!MASKED && !VARLEN_KV && KV_LEN % TILE_N == 0)
#define EXPONENT (SCORE_IS_LINEAR ? SCORE_FACTOR : 1.0f)

// What a lane knows of its two rows.
struct Rows {
    int query[2];  // below the number of queries
    int first[2], end[2];  // keys that each sees
    Bias bias[2];
};

struct Softmax {
    float highest[2];  // scores, in the units of the products
    float total[2];    // of this lane's weights
    float factor[2];   // for the sums before the last step
    bool raised;       // whether they need it; the same in all lanes

    FUNCTION Softmax() : raised(false)
    {
        highest[0] = highest[1] = MINUS_INFINITY;
        total[0] = total[1] = 0.0f;
    }
};

// Caps, biases and masks the scores of a lane's rows and the tile of keys from `key` on.
FUNCTION void finish_scores(float (&scores)[SCORES], const Rows &rows, const Sequence &s, int key,
                            bool whole INPUT_PARAMETERS)
{
    const int first_column = key + threadIdx.x % 4 * 2;
#if !SCORE_IS_LINEAR
#pragma unroll
    for (int i = 0; i < SCORES; i++) {
        const int r = ROW_OF(i), at = smaller(first_column + COLUMN_OF(i), s.keys - 1);
        scores[i] = score(SCORE_FACTOR * scores[i], rows.bias[r], s, rows.query[r], at);
    }
#endif
    if (NEVER_HIDDEN || whole) return;
    const int end[2] = {rows.end[0] - first_column, rows.end[1] - first_column};
    const int first[2] = {rows.first[0] - first_column, rows.first[1] - first_column};
#pragma unroll
    for (int i = 0; i < SCORES; i++) {
        const int r = ROW_OF(i), column = COLUMN_OF(i);
        if (column >= end[r] || (WINDOW && column < first[r])) scores[i] = MINUS_INFINITY;
    }
}

FUNCTION float of_quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFF, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xFFFFFFFF, x, 2));
}

FUNCTION float of_quad_sum(float x)
{
    x += __shfl_xor_sync(0xFFFFFFFF, x, 1);
    return x + __shfl_xor_sync(0xFFFFFFFF, x, 2);
}

// The highest scores with this tile's; what that does to earlier sums.
FUNCTION void raise(Softmax &softmax, const float (&scores)[SCORES])
{
    float top[4] = {softmax.highest[0], softmax.highest[1], scores[4], scores[6]};
#pragma unroll
    for (int i = 0; i < SCORES; i++) {
        float &most = top[ROW_OF(i) + i / 4 % 2 * 2];
        most = fmaxf(most, scores[i]);
    }
    bool far = false;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        top[r] = of_quad_max(fmaxf(top[r], top[r + 2]));
        far |= (top[r] - softmax.highest[r]) * EXPONENT > LAZINESS;  // not if both are -infinity
    }
    softmax.raised = !LAZY || __any_sync(0xFFFFFFFF, far);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const float base = top[r] == MINUS_INFINITY ? 0.0f : top[r];
        softmax.factor[r] =
            softmax.raised ? fast_exp2((softmax.highest[r] - base) * EXPONENT) : 1.0f;
        softmax.highest[r] = softmax.raised ? top[r] : softmax.highest[r];
        softmax.total[r] *= softmax.factor[r];
    }
}

// Scores become weights, in place.
FUNCTION void weigh(Softmax &softmax, float (&scores)[SCORES])
{
    float base[2];
#pragma unroll
    for (int r = 0; r < 2; r++)
        base[r] = softmax.highest[r] == MINUS_INFINITY ? 0.0f : softmax.highest[r] * EXPONENT;
#pragma unroll
    for (int i = 0; i < SCORES; i++) {
        const float power = FMA(scores[i], EXPONENT, -base[ROW_OF(i)]);
        scores[i] = i * 7 % 16 < POLYNOMIALS ? polynomial_exp2(power) : fast_exp2(power);
        softmax.total[ROW_OF(i)] += scores[i];
    }
}

// As the left operand of the next product: for 16 keys, rows 0 and 8 of the first 8, then the last.
FUNCTION void pack(unsigned (&weights)[WEIGHTS], const float (&scores)[SCORES])
{
#pragma unroll
    for (int i = 0; i < WEIGHTS; i++) weights[i] = PAIR(scores[2 * i], scores[2 * i + 1]);
}

template <int COUNT> FUNCTION void rescale(float (&sums)[COUNT], const Softmax &softmax)
{
    if (!softmax.raised) return;
#pragma unroll
    for (int i = 0; i < COUNT; i++) sums[i] *= softmax.factor[ROW_OF(i)];
}

#endif

// How the rows of a warp reach the output: through shared memory and TMA, or from registers; or,
// of a part of the keys, the scratch that combine.h merges.
//
// Stands after wgmma_softmax.h.

#ifndef WGMMA_STORE_H
#define WGMMA_STORE_H

#ifndef STORE_TMA
#define STORE_TMA 1  // 1: through shared memory and TMA; 0: straight from registers
#endif
#ifndef BUFFERS
#define BUFFERS 1  // pieces of the output that a warp may have on the way through shared memory
#endif

#define V_PANELS CEIL_DIVIDE(V_DIM, 64)
#define OUTS (V_DIM / 2)
#define PIECE_BYTES (16 * 128)  // 16 rows of 64 columns
#define STAGING_BYTES (STORE_TMA ? CONSUMERS * 4 * BUFFERS * PIECE_BYTES : 0)

// 16 rows from registers; `row` is this lane's first in the unit's tile.
FUNCTION void store_direct(const float (&sums)[OUTS], const float (&factor)[2], const Unit &unit,
                           const Sequence &s, int row, STORED *out)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int query = query_of(unit, row + 8 * r), head = head_of(unit, row + 8 * r);
        if (query >= s.queries) continue;
        STORED *to = out + out_offset(s, head, query) + threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 2 * r; i < OUTS; i += 4)
            *(unsigned *)(to + COLUMN_OF(i)) = PAIR(sums[i] * factor[r], sums[i + 1] * factor[r]);
    }
}

// Sums, highest scores and sums of weights of a part of the keys: see combine.h.
FUNCTION void store_partial(const float (&sums)[OUTS], const float (&highest)[2],
                            const float (&total)[2], const Unit &unit, const Sequence &s, int row,
                            float *partial_out, float *partial_sums)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int query = query_of(unit, row + 8 * r), head = head_of(unit, row + 8 * r);
        if (query >= s.queries) continue;
        const size_t place = (size_t)lse_offset(s, head, query) * SPLITS + unit.part;
        float *to = partial_out + place * V_DIM + threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 2 * r; i < OUTS; i += 4)
            *(Vector2<float> *)(to + COLUMN_OF(i)) = {sums[i], sums[i + 1]};
        if (threadIdx.x % 4 == 0)
            *(Vector2<float> *)(partial_sums + place * 2) = {highest[r], total[r]};
    }
}

// Bytes from the beginning of a piece to 16-byte unit `unit` of a row, swizzled as TMA expects it.
FUNCTION unsigned staged(int row, int unit) { return row * 128 + (unit ^ row % 8) * 16; }

// 16 rows of 64 columns, or fewer, from column `first` of the sums on.
FUNCTION void stage_piece(const float (&sums)[OUTS], const float (&factor)[2], const int first,
                          unsigned piece)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int at = 0; at < 64 && first + at < V_DIM; at += 16) {
        unsigned pairs[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int sum = (first + at) / 2 + 2 * i;
            const bool inside = sum + 1 < OUTS;  // of 8 columns alone, V_DIM being no multiple of 16
            const float x = inside ? sums[inside ? sum : 0] * factor[i % 2] : 0.0f;
            const float y = inside ? sums[inside ? sum + 1 : 0] * factor[i % 2] : 0.0f;
            pairs[i] = PAIR(x, y);
        }
        store_matrices(piece + staged(lane % 16, at / 8 + lane / 16), pairs);
    }
}

// The same by TMA; `buffers` are the warp's pieces of shared memory, `row` its first row.
FUNCTION void store_staged(const float (&sums)[OUTS], const float (&factor)[2], const Unit &unit,
                           const Sequence &s, int row, const TensorMap *map, unsigned buffers)
{
    const int query = s.first_query + query_of(unit, row);
#pragma unroll
    for (int panel = 0; panel < V_PANELS; panel++) {
        const unsigned piece = buffers + panel % BUFFERS * PIECE_BYTES;
        if (threadIdx.x % 32 == 0) tma_await_reads<BUFFERS - 1>();
        __syncwarp();
        stage_piece(sums, factor, panel * 64, piece);
        tma_publish();
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            tma_store(map, piece, panel * 64, 0, query, unit.head, PACKED ? 0 : s.index);
    }
}

#endif

// The warpgroup that loads: tiles of Q, K and V on their way to shared memory by TMA.
//
// Stands after wgmma_store.h. A tile is made of panels, 64 columns or 128 bytes across, of as many
// lines as it has rows; TMA swizzles the 16-byte units of a line by eights of lines, and what lies
// outside of the arrays arrives as zeros.

#ifndef WGMMA_LOAD_H
#define WGMMA_LOAD_H

#ifndef OVERLAP
#define OVERLAP 1  // 1: the next scores are computed beside the product with the values
#endif
#ifndef PAGE_ROWS
#define PAGE_ROWS 0  // rows of a page that one copy loads
#define PAGES 0      // of K, and of V
#endif

#define LINE_BYTES 128
#define Q_PANELS CEIL_DIVIDE(HEAD_DIM, 64)
#define QUERY_BYTES (Q_PANELS * TILE_M * LINE_BYTES)
#define KEY_BYTES (Q_PANELS * TILE_N * LINE_BYTES)
#define VALUE_BYTES (V_PANELS * TILE_N * LINE_BYTES)
#define LOADING_LANES (PAGE_SIZE ? 32 : 1)  // pages are looked up side by side

// ---- Shared memory

struct Ring {
    unsigned tiles, full, empty;  // addresses of the first of each

    FUNCTION unsigned full_of(Slot slot) const { return full + 8 * slot.stage; }
    FUNCTION unsigned empty_of(Slot slot) const { return empty + 8 * slot.stage; }
};

struct Memory {
    unsigned queries, query_full, query_empty, staging;
    Ring keys, values;

    FUNCTION Memory(unsigned first)
    {
        queries = first;
        keys.tiles = queries + QUERY_BYTES;
        values.tiles = keys.tiles + STAGES * KEY_BYTES;
        staging = values.tiles + STAGES * VALUE_BYTES;
        query_full = staging + STAGING_BYTES;
        query_empty = query_full + 8;
        keys.full = query_full + 16;
        keys.empty = keys.full + 8 * STAGES;
        values.full = keys.empty + 8 * STAGES;
        values.empty = values.full + 8 * STAGES;
    }

    FUNCTION void init() const
    {
        barrier_init(query_full, 1);
        barrier_init(query_empty, CONSUMERS);
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(keys.full + 8 * stage, 1);
            barrier_init(keys.empty + 8 * stage, CLUSTER_M * CONSUMERS);
            barrier_init(values.full + 8 * stage, 1);
            barrier_init(values.empty + 8 * stage, CLUSTER_M * CONSUMERS);
        }
        barriers_publish();
    }
};

// ---- Loads

struct Loader {
    const Memory &memory;
    const TensorMap *q_map, *k_map, *v_map;
    int rank;  // of the block in its cluster
    Slot keys, values;

    // Once `empty` says so, announces `bytes` at `full`.
    FUNCTION void begin(unsigned empty, unsigned full, int phase, const int bytes) const
    {
        barrier_wait(empty, phase);
        if (LOADING_LANES == 1 || threadIdx.x == 0) barrier_expect(full, bytes);
    }

    FUNCTION void load_queries(const Unit &unit, const Sequence &s, int phase) const
    {
        begin(memory.query_empty, memory.query_full, phase, QUERY_BYTES);
        if (LOADING_LANES > 1 && threadIdx.x > 0) return;
#pragma unroll
        for (int panel = 0; panel < Q_PANELS; panel++)
            tma_load(memory.queries + panel * TILE_M * LINE_BYTES, q_map, memory.query_full,
                     panel * 64, 0, s.first_query + unit.row / PACK, unit.head,
                     PACKED ? 0 : s.index);
    }

    // Rows of a panel of K or V from row `first` of a tile on.
    FUNCTION void load_panel(unsigned tile_place, const TensorMap *map, unsigned full, int panel,
                             int first, int row, int head, int sequence) const
    {
        const unsigned to = tile_place + (panel * TILE_N + first) * LINE_BYTES;
        if (CLUSTER_M == 1)
            tma_load(to, map, full, panel * 64, row, head, sequence);
        else
            tma_multicast(to, map, full, panel * 64, row, head, sequence, (1 << CLUSTER_M) - 1);
    }

    // A tile of K or V, of which a row is `panels` panels, into the next stage of its ring; in a
    // cluster, this block's share of it, for all.
    FUNCTION void load_tile(const TensorMap *map, const Ring &ring, Slot &slot, const int panels,
                            const Unit &unit, const Sequence &s, int tile) const
    {
        const unsigned to = ring.tiles + slot.stage * (panels * TILE_N * LINE_BYTES);
        const unsigned full = ring.full_of(slot);
        begin(ring.empty_of(slot), full, slot.phase, panels * TILE_N * LINE_BYTES);
#if PAGE_SIZE
#pragma unroll 1
        for (int row = threadIdx.x * PAGE_ROWS; row < TILE_N; row += LOADING_LANES * PAGE_ROWS) {
            const int key = tile * TILE_N + row;
            const int page = key < s.keys ? s.pages[key / PAGE_SIZE] : PAGES;  // there is no such
#pragma unroll
            for (int panel = 0; panel < panels; panel++)
                load_panel(to, map, full, panel, row, key % PAGE_SIZE, kv_head_of(unit), page);
        }
#else
        const int first = rank * (TILE_N / CLUSTER_M);
#pragma unroll
        for (int panel = 0; panel < panels; panel++)
            load_panel(to, map, full, panel, first, s.first_key + tile * TILE_N + first,
                       kv_head_of(unit), PACKED_KV ? 0 : s.index);
#endif
        slot = next_slot(slot);
    }

    FUNCTION void load_keys(const Unit &unit, const Sequence &s, int tile)
    {
        load_tile(k_map, memory.keys, keys, Q_PANELS, unit, s, tile);
    }

    FUNCTION void load_values(const Unit &unit, const Sequence &s, int tile)
    {
        load_tile(v_map, memory.values, values, V_PANELS, unit, s, tile);
    }
};

// By LOADING_LANES threads, in the order in which consumers ask for tiles; keys before Q, which is
// awaited longer.
FUNCTION void load(const TensorMap *q_map, const TensorMap *k_map, const TensorMap *v_map,
                   const Memory &memory, int cluster, int rank INPUT_PARAMETERS)
{
    map_acquire(q_map);
    map_acquire(k_map);
    map_acquire(v_map);
    Loader loader = {memory, q_map, k_map, v_map, rank, {0, 1}, {0, 1}};
    int query_phase = 1;
#pragma unroll 1
    for (int turn = 0; unit_index(cluster, turn) < UNITS; turn++) {
        const Unit unit = unit_of(unit_index(cluster, turn), rank);
        const Sequence s = SEQUENCE(unit.batch);
        const Span span = span_of(unit, s);
        if (span.first == span.end) continue;
        loader.load_keys(unit, s, span.end - 1);
        loader.load_queries(unit, s, query_phase);
        query_phase ^= 1;
#pragma unroll 1
        for (int tile = span.end - 1; tile >= span.first; tile--) {
            const bool more = tile > span.first;
            if (OVERLAP && more) loader.load_keys(unit, s, tile - 1);
            loader.load_values(unit, s, tile);
            if (!OVERLAP && more) loader.load_keys(unit, s, tile - 1);
        }
    }
}

#endif

// A warpgroup that multiplies: 64 rows of a tile of Q against all tiles of K and V that they see.
//
// Stands after wgmma_load.h.

#ifndef WGMMA_CONSUMER_H
#define WGMMA_CONSUMER_H

#ifndef PINGPONG
#define PINGPONG 1  // 1: consumers take turns to issue products
#endif

#define Q_SLICES CEIL_DIVIDE(HEAD_DIM, 16)  // products along a row
#define LOADED (QUERY_REGISTERS ? 4 * Q_SLICES : 1)
#define TURN_BARRIER 1               // and one more for each further consumer
#define OWN_BARRIER (1 + CONSUMERS)  // the same

// Of a descriptor, for a tile at that address; `panel_bytes` from a panel to the next where products
// take columns across lines, else 16.
FUNCTION unsigned low_word(unsigned tile, int panel_bytes)
{
    return (tile & 0x3FFFF) >> 4 | panel_bytes >> 4 << 16;
}

// Sixteenths of bytes from the beginning of a tile of `rows` rows to 16 columns of it.
FUNCTION int slice_of_row(const int slice, const int rows)
{
    return (slice / 4 * rows * LINE_BYTES + slice % 4 * 32) >> 4;
}

// From one lane: what follows from it, such as descriptors, is then computed once for a warp.
FUNCTION Slot uniform(Slot slot)
{
    slot.stage = __shfl_sync(0xFFFFFFFF, slot.stage, 0);
    return slot;
}

struct Consumer {
    const Memory &memory;
    int index;
    Slot keys, values;
    int query_phase;
    unsigned loaded[LOADED];  // of Q, if QUERY_REGISTERS
    float scores[SCORES];
    unsigned weights[WEIGHTS];
    float out[OUTS];

    FUNCTION Consumer(const Memory &memory, int index)
        : memory(memory), index(index), keys{0, 0}, values{0, 0}, query_phase(0)
    {
    }

    // One thread of a consumer speaks for all: products are awaited by the whole warpgroup.
    FUNCTION void release(unsigned empty) const
    {
        if (threadIdx.x % 128 == 0) barrier_arrive(empty);
    }

    // A stage, to every block of the cluster, as all of them write to it.
    FUNCTION void release_stage(unsigned empty) const
    {
        const int lane = threadIdx.x % 128;
        if (CLUSTER_M == 1) release(empty);
        if (CLUSTER_M > 1 && lane < CLUSTER_M) barrier_arrive_at(empty, lane);
    }

    FUNCTION void await_turn() const
    {
        if (PINGPONG) named_barrier_meet(TURN_BARRIER + index, 256);
    }

    FUNCTION void pass_turn() const
    {
        const int next = index + 1 == CONSUMERS ? 0 : index + 1;
        if (PINGPONG) named_barrier_arrive(TURN_BARRIER + next, 256);
    }

    FUNCTION void take_queries()
    {
#if QUERY_REGISTERS
        const int lane = threadIdx.x % 32, row = index * 64 + threadIdx.x / 32 % 4 * 16 + lane % 16;
#pragma unroll
        for (int slice = 0; slice < Q_SLICES; slice++) {
            const int unit = slice % 4 * 2 + lane / 16;
            load_matrices(loaded + 4 * slice,
                          memory.queries + slice / 4 * TILE_M * LINE_BYTES + staged(row, unit));
        }
        named_barrier_meet(OWN_BARRIER + index, 128);
        release(memory.query_empty);
#endif
    }

    FUNCTION void release_queries() const
    {
        if (!QUERY_REGISTERS) release(memory.query_empty);
    }

    // scores = Q K of the next tile, under way.
    FUNCTION void begin_scores()
    {
        const unsigned left = low_word(memory.queries + index * 64 * LINE_BYTES, 16);
        const unsigned right = low_word(memory.keys.tiles + keys.stage * KEY_BYTES, 16);
        products_begin();
#pragma unroll
        for (int slice = 0; slice < Q_SLICES; slice++) {
            const Descriptor key = descriptor(right + slice_of_row(slice, TILE_N));
#if QUERY_REGISTERS
            multiply_scores(scores, loaded + 4 * slice, key, slice);
#else
            multiply_scores(scores, descriptor(left + slice_of_row(slice, TILE_M)), key, slice);
#endif
        }
        products_commit();
    }

    // out += weights V of the next tile, under way.
    FUNCTION void begin_out()
    {
        const unsigned right =
            low_word(memory.values.tiles + values.stage * VALUE_BYTES, TILE_N * LINE_BYTES);
        products_begin();
#pragma unroll
        for (int slice = 0; slice < TILE_N / 16; slice++)
            multiply_out(out, weights + 4 * slice,
                         descriptor(right + (slice * 16 * LINE_BYTES >> 4)), 1);
        products_commit();
    }

    // PENDING groups of products, later ones, stay under way.
    template <int PENDING> FUNCTION void end_scores()
    {
        products_wait<PENDING>();
        settle(scores);
        release_stage(memory.keys.empty_of(keys));
        keys = uniform(next_slot(keys));
    }

    template <int PENDING> FUNCTION void end_out()
    {
        products_wait<PENDING>();
        settle(out);
        settle(weights);
        release_stage(memory.values.empty_of(values));
        values = uniform(next_slot(values));
    }

    // The first scores of a unit, beside the last product of the one before if that is under way.
    FUNCTION void first_scores(const bool beside)
    {
        barrier_wait(memory.query_full, query_phase);
        query_phase ^= 1;
        take_queries();
        await_keys();
        begin_scores();
        if (beside) end_out<1>();
        end_scores<0>();
    }

    FUNCTION void await_keys() const { barrier_wait(memory.keys.full_of(keys), keys.phase); }

    // Rows behind the last key may hold anything, and 0 times anything is not always 0.
    FUNCTION void await_values(const Sequence &s, int tile) const
    {
        barrier_wait(memory.values.full_of(values), values.phase);
#if VARLEN_KV
        const int kept = s.keys - tile * TILE_N;
        if (kept >= TILE_N) return;
        const unsigned first = memory.values.tiles + values.stage * VALUE_BYTES + kept * LINE_BYTES;
#pragma unroll
        for (int panel = 0; panel < V_PANELS; panel++)
#pragma unroll 1
            for (int at = threadIdx.x % 128 * 16; at < (TILE_N - kept) * LINE_BYTES; at += 2048)
                *(uint4 *)__cvta_shared_to_generic(first + panel * TILE_N * LINE_BYTES + at) =
                    make_uint4(0, 0, 0, 0);
        tma_publish();
        named_barrier_meet(OWN_BARRIER + index, 128);
#endif
    }

    // The compiler moves a wait for products up past arithmetic that does not need them, and so
    // would await the product with the values before the softmax that is to run beside it. It does
    // not where a loop that needs the softmax stands between: here one that is left at once, as the
    // values are there.
    FUNCTION void hold_order(const Softmax &softmax) const
    {
        barrier_wait_after(memory.values.full_of(values), values.phase,
                           softmax.total[0] + softmax.total[1]);
    }

    // Scores of a tile become weights in `scores`.
    FUNCTION void soften(Softmax &softmax, const Rows &rows, const Span &whole, const Sequence &s,
                         int tile INPUT_PARAMETERS)
    {
        finish_scores(scores, rows, s, tile * TILE_N, tile >= whole.first && tile < whole.end
                      INPUT_ARGUMENTS);
        raise(softmax, scores);
        weigh(softmax, scores);
    }

    FUNCTION void clear()
    {
#pragma unroll
        for (int i = 0; i < OUTS; i++) out[i] = 0.0f;
    }

    // All tiles of keys of a unit, of whose last one there are the scores: its sums, not yet divided
    // by those of the weights. The last product stays under way.
    FUNCTION void attend(Softmax &softmax, const Rows &rows, const Span &span, const Span &whole,
                         const Sequence &s INPUT_PARAMETERS)
    {
        int tile = span.end - 1;
        clear();
        soften(softmax, rows, whole, s, tile INPUT_ARGUMENTS);
        pack(weights, scores);
#pragma unroll 1
        for (; tile > span.first; tile--) {
#if OVERLAP
            await_keys();
            await_turn();
            begin_scores();
            await_values(s, tile);
            begin_out();
            pass_turn();
            end_scores<1>();
            soften(softmax, rows, whole, s, tile - 1 INPUT_ARGUMENTS);
            hold_order(softmax);
            end_out<0>();
#else
            await_values(s, tile);
            begin_out();
            end_out<0>();
            await_keys();
            begin_scores();
            end_scores<0>();
            soften(softmax, rows, whole, s, tile - 1 INPUT_ARGUMENTS);
#endif
            pack(weights, scores);
            rescale(out, softmax);
        }
        release_queries();
        await_values(s, tile);
        begin_out();
    }
};

#endif

// Attention on Hopper's tensor cores (sm_90a): TMA loads, asynchronous warpgroup products, and
// softmax of one warpgroup under the products of another (FlashAttention-3, arXiv:2407.08608).
//
// A block is one warpgroup that loads and CONSUMERS that multiply, each 64 rows of queries. The
// loader brings a tile of Q, then tiles of K and of V, into shared memory by TMA; each has a `full`
// barrier, which tells the consumers, and an `empty` one, which tells the loader. Consumers keep
// scores, weights and sums in registers: weights are the left operand of the second product.
// Tiles of keys are walked from the last to the first, so that masks come at the beginning. With
// OVERLAP the products of the next scores are under way beside those with the values, so that the
// next softmax need not wait; with PINGPONG consumers besides take turns to issue products.
// In a cluster each block loads a part of every tile of K and V, which the hardware copies to all.
//
//   attention:  blocks CLUSTERS * CLUSTER_M; writes the output, and lse if there is one, or parts of them, which
//               `combine` merges

#ifndef KERNEL
#include "../dialects/cuda.h"
#include "../dialects/hopper.h"
#include "wgmma_instructions.h"
#include "sequence.h"
#undef STORED
#define STORED ushort  // bfloat16
#include "wgmma_tiles.h"
#include "wgmma_softmax.h"
#include "wgmma_store.h"
#include "wgmma_load.h"
#include "wgmma_consumer.h"
#endif

// ---- The schedule: what the headers do not know

#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit of the GPU
#endif
#ifndef LOADER_REGISTERS
#define LOADER_REGISTERS 24     // registers of a thread that loads, and of one that multiplies;
#define CONSUMER_REGISTERS 240  // 0 leaves what the launch gives
#endif

#define THREADS (128 * (1 + CONSUMERS))

#if SPLITS > 1
#define OUTPUT float *RESTRICT partial_out, float *RESTRICT partial_sums
#define OUTPUT_ARGUMENTS partial_out, partial_sums
#elif STORE_TMA
#define OUTPUT const TensorMap *RESTRICT out_map, STORED *RESTRICT out LSE_PARAMETER
#define OUTPUT_ARGUMENTS out_map, out LSE_ARGUMENT
#else
#define OUTPUT STORED *RESTRICT out LSE_PARAMETER
#define OUTPUT_ARGUMENTS out LSE_ARGUMENT
#endif

// ---- Units

FUNCTION Rows rows_of(const Unit &unit, const Sequence &s, int row INPUT_PARAMETERS)
{
    Rows rows;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        rows.query[r] = smaller(query_of(unit, row + 8 * r), s.queries - 1);
        rows.first[r] = first_key(s, rows.query[r]);
        rows.end[r] = end_key(s, rows.query[r]);
        rows.bias[r] = BIAS_OF(s, head_of(unit, row + 8 * r));
    }
    return rows;
}

// Divides the sums of a warp's 16 rows by their weights' and stores them, and lse.
FUNCTION void finish(const float (&sums)[OUTS], const Softmax &softmax, const Unit &unit,
                     const Sequence &s, int warp_row, unsigned buffers INPUT_PARAMETERS, OUTPUT)
{
    const int row = warp_row + threadIdx.x % 32 / 4;
    const float total[2] = {of_quad_sum(softmax.total[0]), of_quad_sum(softmax.total[1])};
#if SPLITS > 1
    const float highest[2] = {softmax.highest[0] * EXPONENT, softmax.highest[1] * EXPONENT};
    store_partial(sums, highest, total, unit, s, row, partial_out, partial_sums);
#else
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        factor[r] = total[r] > 0.0f ? VALUE_FACTOR / total[r] : 0.0f;
#if LSE
        const int query = query_of(unit, row + 8 * r), head = head_of(unit, row + 8 * r);
        if (threadIdx.x % 4 == 0 && query < s.queries)
            lse[lse_offset(s, head, query)] =
                natural_lse(softmax.highest[r] * EXPONENT, total[r]);
#endif
    }
#if STORE_TMA
    const bool inside = !PACKED || query_of(unit, warp_row + 15) < s.queries;  // TMA stores them all
    if (inside) store_staged(sums, factor, unit, s, warp_row, out_map, buffers);
    if (PACKED && !inside) store_direct(sums, factor, unit, s, row, out);
#else
    store_direct(sums, factor, unit, s, row, out);
#endif
#endif
}

#define ALWAYS (!MASKED && !VARLEN_Q && !VARLEN_KV)  // whether every unit has keys

struct Work {
    Unit unit;
    Sequence s;
    Span span;  // of keys; none where there is nothing to attend to, or no such unit

    FUNCTION bool any() const { return span.first < span.end; }
};

FUNCTION Work work_of(int cluster, int turn, int rank INPUT_PARAMETERS)
{
    const int index = unit_index(cluster, turn);
    Work work;
    work.unit = unit_of(smaller(index, UNITS - 1), rank);
    work.s = SEQUENCE(work.unit.batch);
    work.span = span_of(work.unit, work.s);
    if (CLUSTERS == UNITS && turn > 0 || index >= UNITS) work.span = {0, 0};
    return work;
}

// The first scores of a unit are computed beside the last product of the one before.
FUNCTION void consume(const Memory &memory, int index, int cluster, int rank INPUT_PARAMETERS,
                      OUTPUT)
{
    const int warp = threadIdx.x / 32 % 4, warp_row = index * 64 + warp * 16;
    const unsigned buffers = memory.staging + (index * 4 + warp) * BUFFERS * PIECE_BYTES;
    Consumer consumer(memory, index);
#if STORE_TMA
    if (threadIdx.x % 32 == 0) map_acquire(out_map);
#endif
    if (PINGPONG && index == CONSUMERS - 1) consumer.pass_turn();
    Work work = work_of(cluster, 0, rank INPUT_ARGUMENTS);
    if (ALWAYS || work.any()) consumer.first_scores(false);
#pragma unroll 1
    for (int turn = 0; unit_index(cluster, turn) < UNITS; turn++) {
        Softmax softmax;
        const Work next = work_of(cluster, turn + 1, rank INPUT_ARGUMENTS);
        if (ALWAYS || work.any()) {
            const Rows rows =
                rows_of(work.unit, work.s, warp_row + threadIdx.x % 32 / 4 INPUT_ARGUMENTS);
            const Span whole = whole_of(work.unit, work.s, warp_row, 16);
            consumer.attend(softmax, rows, work.span, whole, work.s INPUT_ARGUMENTS);
            if (next.any())
                consumer.first_scores(true);
            else
                consumer.end_out<0>();
        } else {
            consumer.clear();
            if (next.any()) consumer.first_scores(false);
        }
        finish(consumer.out, softmax, work.unit, work.s, warp_row, buffers INPUT_ARGUMENTS,
               OUTPUT_ARGUMENTS);
        work = next;
    }
#if STORE_TMA
    if (threadIdx.x % 32 == 0) tma_await_reads<0>();
#endif
}

// ---- The kernel

KERNEL __launch_bounds__(THREADS, RESIDENT)
#if CLUSTER_M > 1
    __cluster_dims__(CLUSTER_M, 1, 1)
#endif
    void attention(const TensorMap *RESTRICT q_map, const TensorMap *RESTRICT k_map,
                   const TensorMap *RESTRICT v_map INPUT_PARAMETERS, OUTPUT)
{
    extern __shared__ char dynamic_memory[];
    const unsigned first =  // from one lane: descriptors are then computed once for a warp
        __shfl_sync(0xFFFFFFFF, (unsigned)__cvta_generic_to_shared(dynamic_memory), 0);
    const Memory memory((first + 1023) / 1024 * 1024);  // swizzle repeats every 1024 bytes

    const int cluster = blockIdx.x / CLUSTER_M, rank = blockIdx.x % CLUSTER_M;

    if (threadIdx.x == 0) memory.init();
    if (CLUSTER_M > 1)
        cluster_meet();
    else
        __syncthreads();

    const int warpgroup = __shfl_sync(0xFFFFFFFF, threadIdx.x / 128, 0);
    if (warpgroup == 0) {
#if LOADER_REGISTERS
        registers_give<LOADER_REGISTERS>();
#endif
        if (threadIdx.x < LOADING_LANES)
            load(q_map, k_map, v_map, memory, cluster, rank INPUT_ARGUMENTS);
    } else {
#if CONSUMER_REGISTERS
        registers_take<CONSUMER_REGISTERS>();
#endif
        consume(memory, warpgroup - 1, cluster, rank INPUT_ARGUMENTS, OUTPUT_ARGUMENTS);
    }
    if (CLUSTER_M > 1) cluster_meet();  // none leaves while others still write to it
}
