// A warp's rows multiplied by tensor cores: what decode.cu does with a tile of keys, and what it
// leaves for the merge. Stands after warp_products.h.

#ifndef DECODE_MMA_H
#define DECODE_MMA_H

// What a warp has, and has found so far.
struct Found {
    Queries queries;
    Biases biases;
    Rows rows;
    Sums sums;
};

FUNCTION void begin(Found &found) { begin(found.rows, found.sums); }

// Of Q: the warp's rows, from the block's row `first` on.
FUNCTION void read_queries(Found &found, const QueryLines<ROW_HEADS> &lines, int first)
{
#pragma unroll
    for (int step = 0; step < QK_WIDTH / 16; step++) {
#pragma unroll
        for (int i = 0; i < FRAGMENTS; i++)
            read_queries(found.queries[step * Q_REGISTERS][i], lines, first + i * 16, step);
    }
}

// A tile of K, and behind it one of V, of the keys from `key` on.
FUNCTION void take_tile(Found &found, const Place &place, const unsigned char *q_tile, int row,
                        const unsigned char *tile, int key, float score_factor, float factor)
{
    Scores scores;
    Weights weights;
    multiply_keys(scores, found.queries, q_tile, row, tile);
    finish_scores(scores, place, found.biases, key, score_factor);
    weigh(weights, scores, found.rows, found.sums, factor);
    multiply_values(found.sums, weights, tile + K_TILE_BYTES);
}

// A warp's sums to `parts`, KEPT_ROWS x PITCH, and `marks`, KEPT_ROWS; its first row is `first`.
FUNCTION void share(float *parts, Mark *marks, int first, const Found &found, float factor)
{
    const int lane = LOCAL_ID(0) % 32;
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = first + i * 16 + half * 8 + lane / 4;
            const float sum = sum_of_row(found.rows[i][half].sum);
            if (row >= KEPT_ROWS) continue;
            if (lane % 4 == 0) {
                const float largest = found.rows[i][half].largest * factor;
                const Mark mark = {sum > 0.0f ? largest : MINUS_INFINITY, sum};
                marks[row] = mark;
            }
#pragma unroll
            for (int columns = 0; columns < V_WIDTH / 16; columns++) {
#pragma unroll
                for (int pair = 0; pair < 2; pair++) {
                    const float(*own)[4] = &found.sums[i][2 * columns];
                    *(float2 *)(parts + row * PITCH + pair_column(columns, pair)) =
                        make_float2(pair_value(own, half, pair, 0), pair_value(own, half, pair, 1));
                }
            }
        }
    }
}

#endif
