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
#ifndef PORTABLE_SCHEDULE_H
#include "portable_schedule.h"
#endif
#ifndef PORTABLE_TILES_H
#include "portable_tiles.h"
#endif
#if SPLITS > 1 && !defined(COMBINE_H)
#include "combine.h"
#endif

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
