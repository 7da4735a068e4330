// A single row by multiply-add units, without tensor cores: what decode.cu does with a tile of
// keys, and what it leaves for the merge. Stands after warp_products.h; K and V are of 2 bytes.
//
// LINE_LANES lanes share a line of K or V, 16 bytes each, so that a warp takes LINES_AT_ONCE lines
// at a time. A lane keeps its columns of the output for every such line.

#ifndef DECODE_VECTOR_H
#define DECODE_VECTOR_H

#define PIECE 8  // elements of 16 bytes
#define LINE_LANES \
    (QK_WIDTH <= 16 ? 2 : QK_WIDTH <= 32 ? 4 : QK_WIDTH <= 64 ? 8 : QK_WIDTH <= 128 ? 16 : 32)
#define LINES_AT_ONCE (32 / LINE_LANES)
#define PASSES (TILE_KEYS / LINES_AT_ONCE)

// What a warp has, and has found so far.
struct Found {
    float queries[PIECE];
    Biases biases;  // of the row, in each
    Row row;
    float sums[PIECE];
};

FUNCTION int lane_element() { return LOCAL_ID(0) % LINE_LANES * PIECE; }
FUNCTION int lane_line() { return LOCAL_ID(0) % 32 / LINE_LANES; }

FUNCTION void to_floats(float (&x)[PIECE], const uint4 &v)
{
#pragma unroll
    for (int i = 0; i < PIECE; i++)
        x[i] = STORED_TO_FLOAT((STORED)(word(v, i / 2) >> i % 2 * 16));
}

// This lane's elements of a line of a tile, zeros beyond its end.
template <int WIDTH>
FUNCTION void load_piece(float (&x)[PIECE], const unsigned char *tile, int line)
{
    const int element = lane_element();
    to_floats(x, element < WIDTH ? *(const uint4 *)(tile + element_offset<WIDTH, 2>(line, element))
                                 : make_uint4(0, 0, 0, 0));
}

// Over the lanes that have the same columns of other lines.
FUNCTION float sum_of_lines(float x)
{
#pragma unroll
    for (int apart = LINE_LANES; apart < 32; apart *= 2) x += __shfl_xor_sync(ALL_LANES, x, apart);
    return x;
}

FUNCTION void begin(Found &found)
{
    found.row = no_keys();
#pragma unroll
    for (int i = 0; i < PIECE; i++) found.sums[i] = 0.0f;
}

FUNCTION void read_queries(Found &found, const QueryLines<ROW_HEADS> &lines, int)
{
    const STORED *from = lines.array + q_offset(lines.s, lines.head, 0) + lane_element();
    to_floats(found.queries,
              lane_element() < HEAD_DIM ? *(const uint4 *)from : make_uint4(0, 0, 0, 0));
}

// Scores of this lane's lines in their final form, minus infinity where a key is not seen.
FUNCTION void score_lines(float (&scores)[PASSES], const Found &found, const Place &place,
                          const unsigned char *k_tile, int first, float score_factor)
{
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
        const int line = pass * LINES_AT_ONCE + lane_line(), key = first + line;
        float k[PIECE], sum = 0.0f;
        load_piece<QK_WIDTH>(k, k_tile, line);
#pragma unroll
        for (int i = 0; i < PIECE; i++) sum = fmaf(found.queries[i], k[i], sum);
#pragma unroll
        for (int apart = LINE_LANES / 2; apart > 0; apart /= 2)
            sum += __shfl_xor_sync(ALL_LANES, sum, apart);
        const bool seen = key >= place.first_seen && key < place.end_seen;
        if (!LATE_FACTOR && seen)
            sum = score(sum * score_factor, found.biases[0][0], place.s, 0, key);
        scores[pass] = seen ? sum : MINUS_INFINITY;
    }
}

// A tile of K, and behind it one of V, of the keys from `key` on.
FUNCTION void take_tile(Found &found, const Place &place, const unsigned char *, int,
                        const unsigned char *tile, int key, float score_factor, float factor)
{
    float scores[PASSES], largest = MINUS_INFINITY;
    score_lines(scores, found, place, tile, key, score_factor);
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) largest = fmaxf(largest, scores[pass]);
#pragma unroll
    for (int apart = LINE_LANES; apart < 32; apart *= 2)
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, apart));
    const float scale = advance<LAZY_RESCALE>(found.row, largest, factor);
    const float base = base_of(found.row, factor);
#pragma unroll
    for (int i = 0; i < PIECE; i++) found.sums[i] *= scale;
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
        const float weight = exp2_special(fmaf(scores[pass], factor, -base));
        float v[PIECE];
        load_piece<V_WIDTH>(v, tile + K_TILE_BYTES, pass * LINES_AT_ONCE + lane_line());
#pragma unroll
        for (int i = 0; i < PIECE; i++) found.sums[i] = fmaf(weight, v[i], found.sums[i]);
        found.row.sum += weight;
    }
}

// The warp's sums to `parts`, PITCH floats, and its mark.
FUNCTION void share(float *parts, Mark *marks, int, const Found &found, float factor)
{
    const float sum = sum_of_lines(found.row.sum);
    const Mark mark = {sum > 0.0f ? found.row.largest * factor : MINUS_INFINITY, sum};
    if (LOCAL_ID(0) % 32 == 0) marks[0] = mark;
#pragma unroll
    for (int i = 0; i < PIECE; i++) {
        const float total = sum_of_lines(found.sums[i]);
        if (lane_line() == 0 && lane_element() < V_WIDTH) parts[lane_element() + i] = total;
    }
}

#endif
