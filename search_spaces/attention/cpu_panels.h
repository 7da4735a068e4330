// Rows of attention between memory and the private arrays of cpu.cl: panels hold TILE_ROWS rows
// transposed, so that neighbours are of different rows. Stands after cpu_vectors.h.

#ifndef CPU_PANELS_H
#define CPU_PANELS_H

#ifndef TILE_VECTORS
#define TILE_VECTORS 2  // vectors of rows in a panel, and in the register tiles
#endif
#ifndef SPLITS
#define SPLITS 1  // parts that the keys of a block of rows are cut into
#endif
#define TILE_ROWS (TILE_VECTORS * LANES)

// Where results go: to the output, or, of a part of the keys, to what combine.h merges.
#if SPLITS > 1
#define RESULT_PARAMETERS GLOBAL float *RESTRICT partial_out, GLOBAL float *RESTRICT partial_sums
#define RESULT partial_out
#define RESULT_TYPE float
#define RESULT_OFFSET(head, query) (partial_offset(lse_offset(s, head, query), part) * V_DIM)
#define TO_RESULT(value) (value)
#define WRITE_VECTOR(value, to) JOIN(vstore, LANES)(value, 0, to)
#else
#define RESULT_PARAMETERS GLOBAL STORED *RESTRICT out LSE_PARAMETER
#define RESULT out
#define RESULT_TYPE STORED
#define RESULT_OFFSET(head, query) out_offset(s, head, query)
#define TO_RESULT(value) FLOAT_TO_STORED(value)
#define WRITE_VECTOR(value, to) write_stored(value, to)
#endif

// TILE_ROWS rows of Q, from `row` on, times `factor`.
FUNCTION void load_queries(GLOBAL const STORED *q, float *panel, const Sequence s,
                           const int kv_head, const int row_count, const int row,
                           const float factor)
{
    for (int l = 0; l < TILE_ROWS; l += LANES) {
        OFFSET at[LANES];
        for (int i = 0; i < LANES; ++i)
            at[i] = q_offset(s, HEAD_OF(row + l + i), QUERY_OF(row + l + i));
        int d = 0;
        for (; d + LANES <= HEAD_DIM; d += LANES) {
            VECTOR square[LANES];
#pragma unroll
            for (int i = 0; i < LANES; ++i) square[i] = read_stored(q + at[i] + d) * factor;
            transpose(square);
#pragma unroll
            for (int i = 0; i < LANES; ++i) STORE(square[i], panel + (d + i) * TILE_ROWS + l);
        }
        for (; d < HEAD_DIM; ++d)
            for (int i = 0; i < LANES; ++i)
                panel[d * TILE_ROWS + l + i] = STORED_TO_FLOAT(q[at[i] + d]) * factor;
    }
}

// Those that exist of TILE_ROWS rows of the output: sums / totals * factor, 0 where no key is seen;
// of a part of the keys the sums themselves.
FUNCTION void store_sums(GLOBAL RESULT_TYPE *to, const float *sums, const float *totals,
                         const Sequence s, const int kv_head, const int row_count, const int row,
                         const int part, const float factor)
{
    for (int l = 0; l < TILE_ROWS && row + l < row_count; l += LANES) {
        const int count = MIN_OF(LANES, row_count - row - l);
        const VECTOR total = LOAD(totals + l);
        VECTOR scale = select(factor / total, (VECTOR)(0.0f), total == 0.0f);
        if (SPLITS > 1) scale = (VECTOR)(1.0f);
        size_t at[LANES];
        for (int i = 0; i < LANES; ++i)
            at[i] = RESULT_OFFSET(HEAD_OF(row + l + i), QUERY_OF(row + l + i));
        int d = 0;
        for (; d + LANES <= V_DIM; d += LANES) {
            VECTOR square[LANES];
#pragma unroll
            for (int i = 0; i < LANES; ++i)
                square[i] = LOAD(sums + (d + i) * TILE_ROWS + l) * scale;
            transpose(square);
#pragma unroll
            for (int i = 0; i < LANES; ++i)
                if (i < count) WRITE_VECTOR(square[i], to + at[i] + d);
        }
        for (; d < V_DIM; ++d) {
            float lanes[LANES] ALIGNED;
            STORE(LOAD(sums + d * TILE_ROWS + l) * scale, lanes);
            for (int i = 0; i < count; ++i) to[at[i] + d] = TO_RESULT(lanes[i]);
        }
    }
}

// A row of K or V, as floats.
FUNCTION void copy_row(GLOBAL const STORED_KV *from, float *to, const int count)
{
    int d = 0;
    for (; d + LANES <= count; d += LANES) STORE(read_kv(from + d), to + d);
    for (; d < count; ++d) to[d] = KV_TO_FLOAT(from[d]);
}

#endif
