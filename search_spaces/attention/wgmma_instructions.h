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
