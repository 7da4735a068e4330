// The softmax of scores that a warp keeps as sums of tensor cores, tile of keys by tile of keys
// (online softmax: Milakov and Gimelshein, arXiv:1805.02867): four lanes share a row.
//
// Stands after exponentials.h. Scores are in units of log2, or become so by a factor in the
// exponent.

#ifndef WARP_SOFTMAX_H
#define WARP_SOFTMAX_H

#ifndef EXPONENTIALS_H
#include "exponentials.h"
#endif

#ifndef IS_BFLOAT
#define IS_BFLOAT 0  // 1: weights are bfloat16; 0: float16
#endif

#ifndef ALL_LANES
#define ALL_LANES 0xFFFFFFFF
#endif

// ---- 2^x, for x up to about 8; 0 for minus infinity

// `which` of a thread's exponentials, known when it compiles; OF_8 of eight are the latter.
template <int OF_8> FUNCTION float weight(float x, int which)
{
    return which % 8 < OF_8 ? exp2_polynomial(x) : exp2_special(x);
}

// ---- Over the four lanes of a row

FUNCTION float largest_of_row(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

FUNCTION float sum_of_row(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// ---- What is known of a row so far

struct Row {
    float largest;  // score; if lazy, or one that is up to 8 lower, in units of log2
    float sum;      // of this lane's weights, relative to it
};

FUNCTION Row no_keys()
{
    Row row = {__uint_as_float(0xFF800000), 0.0f};
    return row;
}

// Takes notice of a tile whose largest score is `found`; gives what earlier sums are multiplied by.
// If LAZY, 1 until they are larger by 2^8 than they need be.
template <int LAZY> FUNCTION float advance(Row &row, float found, float factor)
{
    const float before = row.largest, largest = fmaxf(before, found);
    const bool keeps = LAZY && (largest - before) * factor <= 8.0f;
    row.largest = keeps ? before : largest;
    const bool rescales = !keeps && largest != before;
    const float scale = rescales ? exp2_special((before - largest) * factor) : 1.0f;
    row.sum *= scale;
    return scale;
}

// What is taken off a row's scores in the exponent: a number even before any key was seen.
FUNCTION float base_of(const Row &row, float factor)
{
    return row.largest == __uint_as_float(0xFF800000) ? 0.0f : row.largest * factor;
}

// ---- Pairs of weights, as operands of the next product

FUNCTION unsigned packed(float x, float y)
{
    unsigned pair;
#if IS_BFLOAT
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
#else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
#endif
    return pair;
}

#endif
