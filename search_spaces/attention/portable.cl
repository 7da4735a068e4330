// out = softmax(scores) V: tiles of Q, K and V in local memory as float32, scores and sums in
// registers, one pass over the keys (FlashAttention's online softmax, in powers of two).
//
// A work-group takes BLOCK_Q rows and walks along their keys in steps of BLOCK_K. A row is a query
// of one head, or, with PACK_HEADS, of each head that shares K and V. Work-items stand in a grid of
// THREADS_Q x THREADS_K. Work-item (y, x) computes, of every THREADS_Q-th row from y on, the scores
// of every THREADS_K-th key from x on, and later runs of LANES columns of the output, every
// THREADS_K-th run from x on. So a row's maximum and sum belong to the same work-items in both
// products, and weights change hands in local memory, within their row. Each step:
//
//   scores = Q K^T, row maxima, weights = exp2(scores - maximum), sums = sums * shrink + weights V
//
// Rows beyond the last one repeat it and are not written; so do keys, which are hidden.
//
//   attention:  groups as `tile_of` numbers them; writes out and lse, or its part of the keys' sums
//   combine:    merges the parts (combine.h), only if SPLITS > 1

#ifndef KERNEL
#include "../dialects/opencl.h"
#endif
#ifndef SEQUENCE_H
#include "sequence.h"
#endif

// ---- The schedule

#ifndef BLOCK_Q
#define BLOCK_Q 32  // rows of a work-group
#endif
#ifndef BLOCK_K
#define BLOCK_K 32  // keys of a step
#endif
#ifndef THREADS_Q
#define THREADS_Q 8  // work-items along the rows
#endif
#ifndef THREADS_K
#define THREADS_K 8  // work-items along the keys, and along the columns of the output
#endif
#ifndef VECTOR
#define VECTOR 1  // elements in one global access: 1, 2 or 4
#endif
#ifndef LANES
#define LANES 4  // elements in one local access, and neighbouring columns owned: 1, 2 or 4
#endif
#ifndef PAD
#define PAD 1  // 1: unused elements after rows of Q, K and weights, against bank conflicts
#endif
#ifndef KV_TILES
#define KV_TILES 1  // 1: V takes K's place in local memory, for two more barriers; 2: beside it
#endif
#ifndef PREFETCH
#define PREFETCH 0  // 1: fetch the next tile before multiplying by this one; costs registers
#endif
#ifndef WEIGHTS_LOCAL
#define WEIGHTS_LOCAL 1  // 0: weights stay in registers, where a work-item has whole rows
#endif
#ifndef SHUFFLE
#define SHUFFLE 0  // 1: maxima between lanes of a warp, where the language has that
#endif
#ifndef UNROLL
#define UNROLL 1  // steps of LANES along the head unrolled
#endif
#ifndef PACK_HEADS
#define PACK_HEADS 0  // 1: rows are the queries of all heads that share K and V
#endif
#ifndef LONGEST_FIRST
#define LONGEST_FIRST 0  // 1: the last queries of all heads first, which see most keys
#endif
#ifndef SPLITS
#define SPLITS 1  // parts of the keys, each computed by other work-groups
#endif

// ---- What follows from these

#define THREADS (THREADS_Q * THREADS_K)
#define ROW_HEADS (PACK_HEADS ? HEADS_PER_KV_HEAD : 1)  // heads of neighbouring rows
#define TILES ((Q_LEN * ROW_HEADS + BLOCK_Q - 1) / BLOCK_Q)  // of the longest sequence
#define TILE_HEADS (HEADS / ROW_HEADS)
#define THREAD_Q (BLOCK_Q / THREADS_Q)  // rows of a work-item
#define THREAD_K (BLOCK_K / THREADS_K)  // keys
#define RUNS ((V_DIM + LANES * THREADS_K - 1) / (LANES * THREADS_K))  // of columns
#define THREAD_V (RUNS * LANES)
#define WHOLE_RUNS (V_DIM % (LANES * THREADS_K) == 0)  // whether all of them are of the output
#define ROUNDED(x) (((x) + LANES - 1) / LANES * LANES)
#define PITCH_D (ROUNDED(HEAD_DIM) + PAD * LANES)  // of rows of Q and K in local memory
#define PITCH_V ROUNDED(V_DIM)
#define PITCH_W (BLOCK_K + PAD * (THREADS_K > LANES ? THREADS_K : LANES))  // of rows of weights
#define TILE_K (BLOCK_K * PITCH_D)
#define TILE_V ((BLOCK_K - 1) * PITCH_V + RUNS * LANES * THREADS_K)  // read to the end of the runs
#define TILES_KV (KV_TILES == 2 ? TILE_K + TILE_V : TILE_K > TILE_V ? TILE_K : TILE_V)
#define TILE_W (WEIGHTS_LOCAL ? BLOCK_Q * PITCH_W : 0)
#define WIDTH (VECTOR < LANES ? VECTOR : LANES)  // elements of a piece in one local access
#define PIECES_K (BLOCK_K * (HEAD_DIM / VECTOR))
#define PIECES_V (BLOCK_K * (V_DIM / VECTOR))
#define STAGED_K ((PIECES_K + THREADS - 1) / THREADS)
#define STAGED_V ((PIECES_V + THREADS - 1) / THREADS)
#define STAGED (STAGED_K > STAGED_V ? STAGED_K : STAGED_V)
#define LOWEST (-3.0e38f)  // below every score, but finite: exp2(-infinity - LOWEST) is 0

#ifdef __OPENCL_VERSION__
#define LARGER(x, y) max(x, y)
#define SHUFFLES 0
#else
#define LARGER(x, y) fmaxf(x, y)
#define SHUFFLES (SHUFFLE && THREADS_K > 1)
#define OTHER_LANE(x, step) __shfl_xor_sync(0xFFFFFFFF, x, step)
#endif
#define REDUCE_LOCAL (THREADS_K > 1 && !SHUFFLES)
#define LOCAL_FLOATS \
    (BLOCK_Q * PITCH_D + TILES_KV + TILE_W + (REDUCE_LOCAL ? BLOCK_Q * THREADS_K : 0))

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

// ---- Rows of this group

typedef struct {
    int tile, part, head, sequence;  // `head`: the first one of its rows
} Place;

FUNCTION Place tile_of(int group)
{
    Place place;
#if LONGEST_FIRST  // heads and sequences before tiles, and tiles backwards
    place.part = group % SPLITS, group /= SPLITS;
    place.head = group % TILE_HEADS * ROW_HEADS, group /= TILE_HEADS;
    place.sequence = group % BATCH;
    place.tile = TILES - 1 - group / BATCH;
#else  // neighbours share K and V
    place.tile = group % TILES, group /= TILES;
    place.part = group % SPLITS, group /= SPLITS;
    place.head = group % TILE_HEADS * ROW_HEADS;
    place.sequence = group / TILE_HEADS;
#endif
    return place;
}

FUNCTION int row_query(int row) { return row / ROW_HEADS; }
FUNCTION int row_head(int row, int first_head) { return first_head + row % ROW_HEADS; }

// Keys from `begin` to `end` are seen by some of the rows and belong to this part; those from
// `all_begin` to `all_end` are seen by every row.
typedef struct {
    int begin, end, all_begin, all_end;
} Keys;

FUNCTION Keys keys_of(Sequence s, int first_row, int last_row, int part)
{
    const int first_query = row_query(first_row), last_query = row_query(last_row);
    const int begin = first_key(s, first_query), end = end_key(s, last_query);
    const int steps = (end - begin + BLOCK_K - 1) / BLOCK_K;
    const int part_keys = (steps + SPLITS - 1) / SPLITS * BLOCK_K;
    Keys keys;
    keys.begin = begin + part * part_keys;
    keys.end = end - keys.begin < part_keys ? end : keys.begin + part_keys;
    keys.all_begin = first_key(s, last_query), keys.all_end = end_key(s, first_query);
    return keys;
}

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

// ---- Softmax

// Scores from sums of products: capped, biased, and hidden where the row does not see the key.
// `inside`: every row of the group sees every key of the step, which begins at key `first`.
FUNCTION void finish_scores(Sequence s, const Bias biases[THREAD_Q], const int rows[THREAD_Q],
                            int first, int inside, float scores[THREAD_Q][THREAD_K])
{
    if (SCORE_IS_LINEAR && inside) return;
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        const int query = row_query(rows[i]);
        const int seen = first_key(s, query), end = end_key(s, query);
#pragma unroll
        for (int j = 0; j < THREAD_K; j++) {
            const int key = first + j * THREADS_K;
            if (inside || (key >= seen && key < end))
                scores[i][j] = score(scores[i][j], biases[i], s, query, key);
            else
                scores[i][j] = MINUS_INFINITY;
        }
    }
}

// Maxima of the rows over this work-item's keys; of whole rows where lanes can be asked.
FUNCTION void row_maxima(float scores[THREAD_Q][THREAD_K], float maxima[THREAD_Q])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        maxima[i] = scores[i][0];
#pragma unroll
        for (int j = 1; j < THREAD_K; j++) maxima[i] = LARGER(maxima[i], scores[i][j]);
#if SHUFFLES
#pragma unroll
        for (int step = THREADS_K / 2; step > 0; step /= 2)
            maxima[i] = LARGER(maxima[i], OTHER_LANE(maxima[i], step));
#endif
    }
}

#if SHUFFLES
FUNCTION void add_lanes(float totals[THREAD_Q])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
        for (int step = THREADS_K / 2; step > 0; step /= 2)
            totals[i] += OTHER_LANE(totals[i], step);
    }
}
#endif

// Scores become weights, and all that was summed before shrinks where the maximum grows.
FUNCTION void weigh(float scores[THREAD_Q][THREAD_K], const float maxima[THREAD_Q],
                    float largest[THREAD_Q], float totals[THREAD_Q],
                    float sums[THREAD_Q][THREAD_V])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        const float now = LARGER(largest[i], maxima[i]), shrink = EXP2(largest[i] - now);
        largest[i] = now;
        totals[i] *= shrink;
#pragma unroll
        for (int j = 0; j < THREAD_K; j++) {
            scores[i][j] = EXP2(scores[i][j] - now);
            totals[i] += scores[i][j];
        }
#pragma unroll
        for (int column = 0; column < THREAD_V; column++) sums[i][column] *= shrink;
    }
}

// The work-items of each row exchange a number a row: afterwards all have the largest, or the sum.
FUNCTION void gather(LOCAL const float *shared, const int is_sum, int y, float values[THREAD_Q])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        LOCAL const float *row = shared + (y + i * THREADS_Q) * THREADS_K;
        values[i] = row[0];
#pragma unroll
        for (int x = 1; x < THREADS_K; x++)
            values[i] = is_sum ? values[i] + row[x] : LARGER(values[i], row[x]);
    }
}

FUNCTION void share(LOCAL float *shared, int y, int x, const float values[THREAD_Q])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) shared[(y + i * THREADS_Q) * THREADS_K + x] = values[i];
}

FUNCTION void put_weights(LOCAL float *weights, int y, int x,
                          float scores[THREAD_Q][THREAD_K])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
        for (int j = 0; j < THREAD_K; j++)
            weights[(y + i * THREADS_Q) * PITCH_W + x + j * THREADS_K] = scores[i][j];
    }
}

// ---- The output: of a row, or of its part

#if SPLITS > 1
#define RESULT float
#define RESULTS GLOBAL float *RESTRICT partial_out, GLOBAL float *RESTRICT partial_sums
#define FLOAT_TO_RESULT(x) (x)
#else
#define RESULT STORED
#define RESULTS GLOBAL STORED *RESTRICT out LSE_PARAMETER
#define FLOAT_TO_RESULT(x) FLOAT_TO_STORED(x)
#endif
WRITER(write_out, RESULT, GLOBAL)

// This work-item's columns of a row, times `factor`.
FUNCTION void write_row(GLOBAL RESULT *to, int x, const float sums[THREAD_V], float factor)
{
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
#pragma unroll
        for (int lane = 0; lane < LANES; lane += WIDTH) {
            const int column = (run * THREADS_K + x) * LANES + lane;
            RESULT piece[WIDTH];
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                piece[i] = FLOAT_TO_RESULT(sums[run * LANES + lane + i] * factor);
            if (WHOLE_RUNS || column < V_DIM) write_out(to + column, WIDTH, piece);
        }
    }
}

KERNEL GROUP_SIZE(THREADS, 1, 1) void attention(GLOBAL const STORED *RESTRICT q,
                                                GLOBAL const STORED_KV *RESTRICT k,
                                                GLOBAL const STORED_KV *RESTRICT v
                                                INPUT_PARAMETERS, RESULTS)
{
#ifdef __OPENCL_VERSION__
    LOCAL_ARRAY(float, memory, LOCAL_FLOATS);
#else  // more than 48 KiB only where the size comes with the launch
    extern __shared__ __align__(16) float memory[];
#endif
    LOCAL float *q_tile = memory, *k_tile = q_tile + BLOCK_Q * PITCH_D;
    LOCAL float *v_tile = KV_TILES == 1 ? k_tile : k_tile + TILE_K;
#if WEIGHTS_LOCAL
    LOCAL float *weights = k_tile + TILES_KV;
#endif
#if REDUCE_LOCAL
    LOCAL float *shared = k_tile + TILES_KV + TILE_W;  // a number of each work-item for its rows
#endif

    const Place place = tile_of(GROUP_ID(0));
    const int head = place.head, kv_head = head / HEADS_PER_KV_HEAD;
    const Sequence s = SEQUENCE(place.sequence);
    const int first_row = place.tile * BLOCK_Q, rows_end = s.queries * ROW_HEADS;
    if (first_row >= rows_end) return;
    const int last_row = first_row + BLOCK_Q < rows_end ? first_row + BLOCK_Q - 1 : rows_end - 1;
    const int y = LOCAL_ID(0) / THREADS_K, x = LOCAL_ID(0) % THREADS_K;
    const Keys keys = keys_of(s, first_row, last_row, place.part);

    int rows[THREAD_Q];
    Bias biases[THREAD_Q];
    float largest[THREAD_Q], totals[THREAD_Q], sums[THREAD_Q][THREAD_V];
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        const int row = first_row + y + i * THREADS_Q;
        rows[i] = row < last_row ? row : last_row;
        biases[i] = BIAS_OF(s, row_head(rows[i], head));
        largest[i] = LOWEST, totals[i] = 0.0f;
#pragma unroll
        for (int column = 0; column < THREAD_V; column++) sums[i][column] = 0.0f;
    }

#if PREFETCH
    STORED_KV staged[STAGED][VECTOR];
#define FETCH(from, is_v, first) fetch(from, is_v, s, kv_head, first, staged)
#define ARRIVE(tile, from, is_v, first) stash(tile, is_v, staged)
#else
#define FETCH(from, is_v, first)
#define ARRIVE(tile, from, is_v, first) copy(tile, from, is_v, s, kv_head, first)
#endif

    copy_q(q_tile, q, s, head, first_row, last_row, SCORE_FACTOR);
    if (keys.begin < keys.end) {
        FETCH(k, 0, keys.begin);
        ARRIVE(k_tile, k, 0, keys.begin);
    }
    BARRIER();
    for (int first = keys.begin; first < keys.end; first += BLOCK_K) {
        const int inside = first >= keys.all_begin && first + BLOCK_K <= keys.all_end;
        const int more = first + BLOCK_K < keys.end;
        float scores[THREAD_Q][THREAD_K], maxima[THREAD_Q];
        FETCH(v, 1, first);
        multiply_keys(q_tile, k_tile, y, x, scores);
        finish_scores(s, biases, rows, first + x, inside, scores);
        row_maxima(scores, maxima);
#if REDUCE_LOCAL
        share(shared, y, x, maxima);
#endif
        if (REDUCE_LOCAL || KV_TILES == 1) BARRIER();  // maxima are there, nobody still reads K
        ARRIVE(v_tile, v, 1, first);
#if REDUCE_LOCAL
        gather(shared, 0, y, maxima);
#endif
        weigh(scores, maxima, largest, totals, sums);
#if WEIGHTS_LOCAL
        put_weights(weights, y, x, scores);
#endif
        BARRIER();  // weights and V are there
        if (more) {
            FETCH(k, 0, first + BLOCK_K);
        }
#if WEIGHTS_LOCAL
        multiply_values(weights, v_tile, y, x, sums);
#else
        multiply_values(scores, v_tile, x, sums);
#endif
        if (KV_TILES == 1) BARRIER();  // nobody still reads V
        if (more) {
            ARRIVE(k_tile, k, 0, first + BLOCK_K);
        }
        BARRIER();  // K is there
    }

#if REDUCE_LOCAL
    share(shared, y, x, totals);
    BARRIER();
    gather(shared, 1, y, totals);
#elif SHUFFLES
    add_lanes(totals);
#endif
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        if (first_row + y + i * THREADS_Q > last_row) continue;
        const int query = row_query(rows[i]), of_head = row_head(rows[i], head);
#if SPLITS > 1
        const size_t part = partial_offset(lse_offset(s, of_head, query), place.part);
        write_row(partial_out + part * V_DIM, x, sums[i], 1.0f);
        if (x == 0) partial_sums[part * 2] = largest[i], partial_sums[part * 2 + 1] = totals[i];
#else
        const float factor = totals[i] > 0.0f ? VALUE_FACTOR / totals[i] : 0.0f;
        write_row(out + out_offset(s, of_head, query), x, sums[i], factor);
#if LSE
        if (x == 0) lse[lse_offset(s, of_head, query)] = natural_lse(largest[i], totals[i]);
#endif
#endif
    }
}
