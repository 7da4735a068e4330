// What a warp does with a tile of keys: scores, weights, sums of the output, all in its registers.
//
// Stands after warp_tiles.h and warp_softmax.h. A warp has WARP_ROWS rows, a multiple of 16, and
// takes TILE_KEYS keys at a time, a multiple of LINES_OF_LOAD. Q stays in registers (Q_REGISTERS),
// or is loaded again for each tile.

#ifndef WARP_PRODUCTS_H
#define WARP_PRODUCTS_H

#ifndef POLYNOMIALS
#define POLYNOMIALS 0  // exponentials, of 8, that are polynomials on multiply-add units
#endif

#ifndef ROW_HEADS
#define ROW_HEADS (PACK_HEADS ? HEADS_PER_KV_HEAD : 1)  // heads of a query among the rows of a tile
#endif
#ifndef QK_WIDTH
#define QK_WIDTH ((HEAD_DIM + 15) / 16 * 16)  // elements of a line of Q and K, with zeros
#define V_WIDTH ((V_DIM + 15) / 16 * 16)
#endif
#define FRAGMENTS (WARP_ROWS / 16)
#define LATE_FACTOR (SCORE_IS_LINEAR && !SCALED_KV)  // scores get theirs in the exponent

typedef float Scores[FRAGMENTS][TILE_KEYS / 8][4];
typedef float Sums[FRAGMENTS][V_WIDTH / 8][4];
typedef Row Rows[FRAGMENTS][2];  // of rows lane / 4 and lane / 4 + 8
typedef Bias Biases[FRAGMENTS][2];
typedef unsigned Weights[FRAGMENTS][TILE_KEYS / 16][4];  // as operands
typedef unsigned Queries[Q_REGISTERS ? QK_WIDTH / 16 : 1][FRAGMENTS][4];

// ---- The products

// Step `step` of 16 rows of Q from the tile's `row` on.
FUNCTION void load_queries(unsigned (&a)[4], const unsigned char *tile, int row, const int step)
{
#if STORED_KV_BYTES == 1
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int line = row + half * 8 + LOCAL_ID(0) % 32 / 4;
        const int offset = element_offset<QK_WIDTH, 2>(line, q_column(step, 0));
        const uint2 four = *(const uint2 *)(tile + offset);
        a[half] = four.x, a[half + 2] = four.y;
    }
#else
    QueryFragments<QK_WIDTH>(tile, row).load(a, 0, step);
#endif
}

// scores = Q K', of a tile of keys and the rows from `row` on of the tile of Q.
FUNCTION void multiply_keys(Scores &scores, Queries &queries, const unsigned char *q_tile, int row,
                            const unsigned char *k_tile)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int j = 0; j < TILE_KEYS / 8; j++) {
#pragma unroll
            for (int at = 0; at < 4; at++) scores[i][j][at] = 0.0f;
        }
    }
    const KeyFragments<QK_WIDTH> fragments(k_tile);
#pragma unroll
    for (int step = 0; step < QK_WIDTH / 16; step++) {
        unsigned(&q)[FRAGMENTS][4] = queries[Q_REGISTERS ? step : 0];
        if (!Q_REGISTERS) {
#pragma unroll
            for (int i = 0; i < FRAGMENTS; i++) load_queries(q[i], q_tile, row + i * 16, step);
        }
#pragma unroll
        for (int key = 0; key < TILE_KEYS; key += LINES_OF_LOAD) {
            unsigned b[LINES_OF_LOAD / 8][2];
            fragments.load(b, key, step);
#pragma unroll
            for (int j = 0; j < LINES_OF_LOAD / 8; j++) {
#pragma unroll
                for (int i = 0; i < FRAGMENTS; i++) multiply(scores[i][key / 8 + j], q[i], b[j]);
            }
        }
    }
}

// sums += weights V.
FUNCTION void multiply_values(Sums &sums, const Weights &weights, const unsigned char *v_tile)
{
    const ValueFragments<V_WIDTH> fragments(v_tile);
#pragma unroll
    for (int key = 0; key < TILE_KEYS; key += LINES_OF_LOAD) {
#pragma unroll
        for (int columns = 0; columns < V_WIDTH / 16; columns++) {
            unsigned b[LINES_OF_LOAD / 16][2][2];
            fragments.load(b, key, columns);
#pragma unroll
            for (int step = 0; step < LINES_OF_LOAD / 16; step++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
#pragma unroll
                    for (int i = 0; i < FRAGMENTS; i++)
                        multiply(sums[i][2 * columns + half], weights[i][key / 16 + step],
                                 b[step][half]);
                }
            }
        }
    }
}

// ---- Between the products

// Where a warp's rows are, and what they see.
struct Place {
    Sequence s;
    int head;  // of the first row's query head
    int row;   // the warp's first one, of ROW_HEADS to a query
    int first_seen, end_seen;    // keys that some row sees
    int first_common, end_common;  // keys that every row sees
};

// Of a row that exists; of others, the last one.
FUNCTION int query_of(const Place &place, int row)
{
    const int query = row / ROW_HEADS;
    return query < place.s.queries ? query : place.s.queries - 1;
}

// Of a lane's sums in a half of a fragment.
FUNCTION int row_of(const Place &place, int fragment, int half)
{
    return place.row + fragment * 16 + half * 8 + LOCAL_ID(0) % 32 / 4;
}

FUNCTION Place place_of(const Sequence &s, int head, int row)
{
    Place place = {s, head, row, 0, 0, 0, 0};
    if (row < s.queries * ROW_HEADS) {
        const int first = row / ROW_HEADS, last = query_of(place, row + WARP_ROWS - 1);
        place.first_seen = first_key(s, first), place.end_seen = end_key(s, last);
        place.first_common = first_key(s, last), place.end_common = end_key(s, first);
    }
    return place;
}

FUNCTION bool sees(const Place &place, int tile_key)
{
    return tile_key < place.end_seen && tile_key + TILE_KEYS > place.first_seen;
}

// What is added to the scores of a row and of two neighbouring keys, the first of which is `behind`
// keys before the row's position. Keys beyond the last one have any.
FUNCTION void bias_of_pair(float (&added)[2], const Bias &bias, int query, int key, float behind)
{
#if ALIBI
    added[0] = -bias.slope * fabsf(behind);
    added[1] = -bias.slope * fabsf(behind - 1.0f);
#elif BIAS
    const STORED *from = bias.first + (OFFSET)query * KV_LEN + key;
    if (KV_LEN % 2 == 0) {
        const unsigned pair = key < KV_LEN ? *(const unsigned *)from : 0;
        added[0] = STORED_TO_FLOAT((STORED)pair) * LOG2_E;
        added[1] = STORED_TO_FLOAT((STORED)(pair >> 16)) * LOG2_E;
    } else {
        added[0] = key < KV_LEN ? STORED_TO_FLOAT(from[0]) * LOG2_E : 0.0f;
        added[1] = key + 1 < KV_LEN ? STORED_TO_FLOAT(from[1]) * LOG2_E : 0.0f;
    }
#else
    added[0] = added[1] = 0.0f;
#endif
}

// Scores in their final form, minus infinity where a key is not seen.
FUNCTION void finish_scores(Scores &scores, const Place &place, const Biases &biases, int tile_key,
                            float factor)
{
    const bool borders = MASKED || VARLEN_KV || KV_LEN % TILE_KEYS != 0;
    const bool crossed = borders && (tile_key < place.first_common ||
                                     tile_key + TILE_KEYS > place.end_common);
    if (LATE_FACTOR && !crossed) return;
    const int lane_key = tile_key + LOCAL_ID(0) % 4 * 2;
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = query_of(place, row_of(place, i, half));
            const int first = first_key(place.s, query), end = end_key(place.s, query);
            const float behind = (float)(query_position(place.s, query) - lane_key);
#pragma unroll
            for (int j = 0; j < TILE_KEYS / 8; j++) {
                const int key = lane_key + j * 8;
                float added[2];
                bias_of_pair(added, biases[i][half], query, key, behind - (float)(j * 8));
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &x = scores[i][j][half * 2 + e];
                    if (!LATE_FACTOR) x = capped(x * factor);
                    if (!SCORE_IS_LINEAR) x += added[e];
                    if (crossed && !((!WINDOW || key + e >= first) && key + e < end))
                        x = MINUS_INFINITY;
                }
            }
        }
    }
}

// From scores to weights; earlier sums are rescaled.
FUNCTION void weigh(Weights &weights, Scores &scores, Rows &rows, Sums &sums, float factor)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
        float scales[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = scores[i][0][half * 2];
#pragma unroll
            for (int j = 0; j < TILE_KEYS / 8; j++)
                largest = fmaxf(largest, fmaxf(scores[i][j][half * 2], scores[i][j][half * 2 + 1]));
            scales[half] = advance<LAZY_RESCALE>(rows[i][half], largest_of_row(largest), factor);
            const float base = base_of(rows[i][half], factor);
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < TILE_KEYS / 8; j++) {
                float pair[2];
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const float x = fmaf(scores[i][j][half * 2 + e], factor, -base);
                    pair[e] = weight<POLYNOMIALS>(x, j * 2 + e);
                }
                sum += pair[0] + pair[1];
                weights[i][j / 2][j % 2 * 2 + half] = packed(pair[0], pair[1]);
            }
            rows[i][half].sum += sum;
        }
        if (!LAZY_RESCALE || scales[0] != 1.0f || scales[1] != 1.0f) {
#pragma unroll
            for (int j = 0; j < V_WIDTH / 8; j++) {
#pragma unroll
                for (int at = 0; at < 4; at++) sums[i][j][at] *= scales[at / 2];
            }
        }
    }
}

FUNCTION void copy(Scores &to, const Scores &from)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int j = 0; j < TILE_KEYS / 8; j++) {
#pragma unroll
            for (int at = 0; at < 4; at++) to[i][j][at] = from[i][j][at];
        }
    }
}

// Q of WARP_ROWS rows from the block's `row` on, straight from global memory to registers.
template <typename ROWS_OF>
FUNCTION void read_queries(Queries &queries, const ROWS_OF &rows, int row)
{
#pragma unroll
    for (int step = 0; step < QK_WIDTH / 16; step++) {
#pragma unroll
        for (int i = 0; i < FRAGMENTS; i++)
            read_queries(queries[step * Q_REGISTERS][i], rows, row + i * 16, step);
    }
}

// Before the first tile: no keys, sums of zero.
FUNCTION void begin(Rows &rows, Sums &sums)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
        rows[i][0] = no_keys(), rows[i][1] = no_keys();
#pragma unroll
        for (int j = 0; j < V_WIDTH / 8; j++) {
#pragma unroll
            for (int at = 0; at < 4; at++) sums[i][j][at] = 0.0f;
        }
    }
}

// In the kernel itself, as BIAS_OF.
#define BIASES_OF(biases, place)                                                              \
    _Pragma("unroll") for (int i = 0; i < FRAGMENTS; i++) {                                   \
        _Pragma("unroll") for (int half = 0; half < 2; half++) biases[i][half] =              \
            BIAS_OF((place).s, (place).head + row_of(place, i, half) % ROW_HEADS);            \
    }

#endif
