// Tiles of portable.cl: from global to local memory as float32, and their products in registers.
// Stands after portable_schedule.h.

#ifndef PORTABLE_TILES_H
#define PORTABLE_TILES_H

// ---- Vectors of 1, 2 or 4 elements, aligned to their size

#define READER(name, type, space)                                                \
    FUNCTION void name(space const type *from, const int lanes, type *to)        \
    {                                                                            \
        if (lanes == 4) {                                                        \
            const VECTOR4(type) v = *(space const VECTOR4(type) *)from;          \
            to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;                  \
        } else if (lanes == 2) {                                                 \
            const VECTOR2(type) v = *(space const VECTOR2(type) *)from;          \
            to[0] = v.x, to[1] = v.y;                                            \
        } else {                                                                 \
            to[0] = *from;                                                       \
        }                                                                        \
    }
#define WRITER(name, type, space)                                                \
    FUNCTION void name(space type *to, const int lanes, const type *from)        \
    {                                                                            \
        if (lanes == 4) {                                                        \
            VECTOR4(type) v;                                                     \
            v.x = from[0], v.y = from[1], v.z = from[2], v.w = from[3];          \
            *(space VECTOR4(type) *)to = v;                                      \
        } else if (lanes == 2) {                                                 \
            VECTOR2(type) v;                                                     \
            v.x = from[0], v.y = from[1];                                        \
            *(space VECTOR2(type) *)to = v;                                      \
        } else {                                                                 \
            *to = from[0];                                                       \
        }                                                                        \
    }

READER(read_q, STORED, GLOBAL)
READER(read_kv, STORED_KV, GLOBAL)
READER(read_local, float, LOCAL)
WRITER(write_local, float, LOCAL)

// ---- Rows: of the head `first_head`, or of it and the following ones side by side

FUNCTION int row_query(int row) { return row / ROW_HEADS; }
FUNCTION int row_head(int row, int first_head) { return first_head + row % ROW_HEADS; }

// ---- From global to local memory, through registers: pieces of VECTOR neighbours along a row
//
// A piece is told by its number; as HEAD_DIM and V_DIM are multiples of VECTOR it lies in one row.

FUNCTION void convert_piece(LOCAL float *to, const STORED_KV *piece)
{
    float values[VECTOR];
#pragma unroll
    for (int lane = 0; lane < VECTOR; lane++) values[lane] = KV_TO_FLOAT(piece[lane]);
#pragma unroll
    for (int lane = 0; lane < VECTOR; lane += WIDTH) write_local(to + lane, WIDTH, values + lane);
}

// Piece `number` of the tile of K (or V) from key `first` on; of the last key behind it. No branch
// stands before the read, so that several are under way.
FUNCTION void fetch_piece(GLOBAL const STORED_KV *from, const int is_v, Sequence s, int kv_head,
                          int first, int number, STORED_KV *piece)
{
    const int per_row = (is_v ? V_DIM : HEAD_DIM) / VECTOR;
    const int row = first + number / per_row, column = number % per_row * VECTOR;
    const int key = row < s.keys ? row : s.keys - 1;
    read_kv(from + (is_v ? v_offset(s, kv_head, key) : k_offset(s, kv_head, key)) + column, VECTOR,
            piece);
}

FUNCTION void stash_piece(LOCAL float *tile, const int is_v, int number, const STORED_KV *piece)
{
    const int per_row = (is_v ? V_DIM : HEAD_DIM) / VECTOR;
    const int row = number / per_row, column = number % per_row * VECTOR;
    convert_piece(tile + row * (is_v ? PITCH_V : PITCH_D) + column, piece);
}

// All pieces that are this work-item's into registers, and from there into local memory.
FUNCTION void fetch(GLOBAL const STORED_KV *from, const int is_v, Sequence s, int kv_head,
                    int first, STORED_KV staged[STAGED][VECTOR])
{
    const int pieces = is_v ? PIECES_V : PIECES_K;
#pragma unroll
    for (int i = 0; i < (is_v ? STAGED_V : STAGED_K); i++) {
        const int number = LOCAL_ID(0) + i * THREADS;
        const int inside = pieces % THREADS == 0 || number < pieces;
        fetch_piece(from, is_v, s, kv_head, first, inside ? number : pieces - 1, staged[i]);
    }
}

FUNCTION void stash(LOCAL float *tile, const int is_v, STORED_KV staged[STAGED][VECTOR])
{
    const int pieces = is_v ? PIECES_V : PIECES_K;
#pragma unroll
    for (int i = 0; i < (is_v ? STAGED_V : STAGED_K); i++) {
        const int number = LOCAL_ID(0) + i * THREADS;
        if (pieces % THREADS == 0 || number < pieces) stash_piece(tile, is_v, number, staged[i]);
    }
}

// The same without keeping the pieces.
FUNCTION void copy(LOCAL float *tile, GLOBAL const STORED_KV *from, const int is_v, Sequence s,
                   int kv_head, int first)
{
    const int pieces = is_v ? PIECES_V : PIECES_K;
#pragma unroll 8
    for (int i = 0; i < (is_v ? STAGED_V : STAGED_K); i++) {
        const int number = LOCAL_ID(0) + i * THREADS;
        if (pieces % THREADS == 0 || number < pieces) {
            STORED_KV piece[VECTOR];
            fetch_piece(from, is_v, s, kv_head, first, number, piece);
            stash_piece(tile, is_v, number, piece);
        }
    }
}

// The group's rows of Q, times `factor`.
FUNCTION void copy_q(LOCAL float *tile, GLOBAL const STORED *q, Sequence s, int head,
                     int first_row, int last_row, float factor)
{
#pragma unroll 2
    for (int number = LOCAL_ID(0); number < BLOCK_Q * (HEAD_DIM / VECTOR); number += THREADS) {
        const int y = number / (HEAD_DIM / VECTOR), column = number % (HEAD_DIM / VECTOR) * VECTOR;
        const int row = first_row + y < last_row ? first_row + y : last_row;
        STORED piece[VECTOR];
        float values[VECTOR];
        read_q(q + q_offset(s, row_head(row, head), row_query(row)) + column, VECTOR, piece);
#pragma unroll
        for (int lane = 0; lane < VECTOR; lane++)
            values[lane] = STORED_TO_FLOAT(piece[lane]) * factor;
#pragma unroll
        for (int lane = 0; lane < VECTOR; lane += WIDTH)
            write_local(tile + y * PITCH_D + column + lane, WIDTH, values + lane);
    }
}

// ---- Products

// `count` steps of the head from column `d` on: scores += Q K^T.
FUNCTION void score_step(LOCAL const float *q_tile, LOCAL const float *k_tile, const int count,
                         int d, int y, int x, float scores[THREAD_Q][THREAD_K])
{
    float q[THREAD_Q][LANES], k[THREAD_K][LANES];
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++)
        read_local(q_tile + (y + i * THREADS_Q) * PITCH_D + d, count, q[i]);
#pragma unroll
    for (int j = 0; j < THREAD_K; j++)
        read_local(k_tile + (x + j * THREADS_K) * PITCH_D + d, count, k[j]);
#pragma unroll
    for (int lane = 0; lane < count; lane++) {
#pragma unroll
        for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
            for (int j = 0; j < THREAD_K; j++)
                scores[i][j] = FMA(q[i][lane], k[j][lane], scores[i][j]);
        }
    }
}

FUNCTION void multiply_keys(LOCAL const float *q_tile, LOCAL const float *k_tile, int y, int x,
                            float scores[THREAD_Q][THREAD_K])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
        for (int j = 0; j < THREAD_K; j++) scores[i][j] = 0.0f;
    }
#pragma unroll UNROLL
    for (int d = 0; d < HEAD_DIM / LANES * LANES; d += LANES)
        score_step(q_tile, k_tile, LANES, d, y, x, scores);
#pragma unroll
    for (int d = HEAD_DIM / LANES * LANES; d < HEAD_DIM; d++)
        score_step(q_tile, k_tile, 1, d, y, x, scores);
}

// One key: sums += weight V, for each row's weight of it.
FUNCTION void add_values(LOCAL const float *v_row, const float weights[THREAD_Q], int x,
                         float sums[THREAD_Q][THREAD_V])
{
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
        float v[LANES];
        read_local(v_row + (run * THREADS_K + x) * LANES, LANES, v);
#pragma unroll
        for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
            for (int lane = 0; lane < LANES; lane++)
                sums[i][run * LANES + lane] = FMA(weights[i], v[lane], sums[i][run * LANES + lane]);
        }
    }
}

#if WEIGHTS_LOCAL
FUNCTION void multiply_values(LOCAL const float *weights, LOCAL const float *v_tile, int y, int x,
                              float sums[THREAD_Q][THREAD_V])
{
#pragma unroll 1
    for (int key = 0; key < BLOCK_K; key += LANES) {
        float w[THREAD_Q][LANES];
#pragma unroll
        for (int i = 0; i < THREAD_Q; i++)
            read_local(weights + (y + i * THREADS_Q) * PITCH_W + key, LANES, w[i]);
#pragma unroll
        for (int lane = 0; lane < LANES; lane++) {
            float column[THREAD_Q];
#pragma unroll
            for (int i = 0; i < THREAD_Q; i++) column[i] = w[i][lane];
            add_values(v_tile + (key + lane) * PITCH_V, column, x, sums);
        }
    }
}
#else
FUNCTION void multiply_values(float weights[THREAD_Q][THREAD_K], LOCAL const float *v_tile, int x,
                              float sums[THREAD_Q][THREAD_V])
{
#pragma unroll
    for (int key = 0; key < THREAD_K; key++) {
        float column[THREAD_Q];
#pragma unroll
        for (int i = 0; i < THREAD_Q; i++) column[i] = weights[i][key];
        add_values(v_tile + key * PITCH_V, column, x, sums);
    }
}
#endif

#endif
