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
