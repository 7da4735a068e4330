// out = softmax(Q K^T) V of few queries on a CPU: every byte of K and V is read once, in order.
//
// A work-item computes all ROWS rows that share a head of K and V, the queries of its heads, over
// one of SPLITS parts of the keys; with more than one part the kernel of combine.h merges them.
// With so few rows there are not enough for the lanes of vectors, so that these lie along head_dim
// and v_dim: a score is the sum of the lanes of products, which come LANES keys at a time and are
// added across by a tree. Exponents refer to a score that is raised seldom, as in cpu.cl.
//
//   attention:  groups (BATCH x KV_HEADS x SPLITS, 1, 1) of one work-item

#ifndef KERNEL
#include "../dialects/opencl.h"
#include "sequence.h"
#include "cpu_vectors.h"
#include "combine.h"
#endif

// ---- The schedule

#ifndef TILE_ROWS
#define TILE_ROWS 1  // rows of the register tiles
#endif
#ifndef TILE_KEYS
#define TILE_KEYS 4  // keys of the register tile of products: a divisor of LANES
#endif
#ifndef TILE_VECTORS
#define TILE_VECTORS 4  // vectors of v_dim of the register tile of sums
#endif
#ifndef BLOCK_KEYS
#define BLOCK_KEYS 64  // keys whose weights are kept: a multiple of LANES
#endif
#ifndef FETCH_ROWS
#define FETCH_ROWS 0  // 1: fetch rows of K and V into the second-level cache ahead of their use
#endif
#ifndef SPLITS
#define SPLITS 2  // parts that the keys of a sequence are cut into
#endif

// ---- What follows from these

#define SLACK 16.0f
// Rows behind the last are the last one again.
#define ALL_ROWS ROUND_UP(Q_LEN * HEADS_PER_KV_HEAD, TILE_ROWS)
#define K_VECTORS CEIL_DIV(HEAD_DIM, LANES)
#define V_VECTORS CEIL_DIV(V_DIM, LANES)
#define TAIL_VECTORS (V_VECTORS % TILE_VECTORS)
// Where the last vector of a row would reach beyond it, it begins earlier.
#define PLACE(vector, dim) MIN_OF((vector) * LANES, (dim) - LANES)

#ifndef FETCH     // a cache line; simulators know OpenCL's prefetch() only
#ifdef __clang__  // but that does nothing in some runtimes; OpenCL 1.2 has no generic pointers
#define FETCH(from) __builtin_prefetch((const void *)(size_t)(from), 0, 2)
#else
#define FETCH(from) prefetch(from, 1)
#endif
#endif

FUNCTION void fetch_row(GLOBAL const STORED_KV *from, const int count)
{
#pragma unroll
    for (int x = 0; x < count; x += 64 / STORED_KV_BYTES) FETCH(from + x);
}

// ---- Products of queries and keys

// Lane i of the result is the sum of all lanes of parts[i].
FUNCTION VECTOR sums_of_lanes(VECTOR *parts)
{
#pragma unroll
    for (int count = LANES / 2; count; count /= 2) {
#pragma unroll
        for (int i = 0; i < count; ++i) {
            VECTOR even, odd;
            even.lo = parts[2 * i].even, even.hi = parts[2 * i + 1].even;
            odd.lo = parts[2 * i].odd, odd.hi = parts[2 * i + 1].odd;
            parts[i] = even + odd;
        }
    }
    return parts[0];
}

// Products of TILE_ROWS rows of `q` and the TILE_KEYS keys that begin at `k`, the lanes not added
// yet, to `parts`: LANES keys a row.
FUNCTION void multiply(GLOBAL const STORED_KV *k, const OFFSET *at, const float *q, float *parts)
{
    VECTOR sums[TILE_ROWS][TILE_KEYS];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) sums[r][i] = (VECTOR)(0.0f);
#pragma unroll 8
    for (int v = 0; v < K_VECTORS; ++v) {
        VECTOR from_k[TILE_KEYS];
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) from_k[i] = read_kv(k + at[i] + PLACE(v, HEAD_DIM));
#pragma unroll
        for (int r = 0; r < TILE_ROWS; ++r) {
            const VECTOR from_q = LOAD(q + (r * K_VECTORS + v) * LANES);
#pragma unroll
            for (int i = 0; i < TILE_KEYS; ++i) sums[r][i] = fma(from_q, from_k[i], sums[r][i]);
        }
    }
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) STORE(sums[r][i], parts + (r * LANES + i) * LANES);
}

// What score() of sequence.h does, for the LANES keys from `key` on of one query.
FUNCTION VECTOR score_of_keys(VECTOR x, const Bias bias, const Sequence s, const int query,
                              const int key, const int last)
{
#if HAS_SOFTCAP
    x = SOFTCAP * LOG2_E * vector_tanh(x);
#endif
#if ALIBI || BIAS
    float lanes[LANES] ALIGNED;
    for (int l = 0; l < LANES; ++l) lanes[l] = bias_at(bias, s, query, MIN_OF(key + l, last));
    x += LOAD(lanes);
#endif
    return x;
}

// ---- Weights

typedef struct {
    float shift;  // minus what exponents refer to
    float limit;  // the score that raises it: any score, before the first
    int first, end;  // of the keys that it sees
} Row;

FUNCTION float largest_lane(const VECTOR x)
{
    float lanes[LANES] ALIGNED, largest = MINUS_INFINITY;
    STORE(x, lanes);
    for (int l = 0; l < LANES; ++l) largest = MAX_OF(largest, lanes[l]);
    return largest;
}

// Scores of `count` keys from `key` on become weights.
FUNCTION void weigh(float *scores, Row *row, float *sums, float *total, const int key,
                    const int count)
{
    const int is_masked = key < row->first || key + ROUND_UP(count, LANES) > row->end;
    VECTOR peak = (VECTOR)(MINUS_INFINITY);
    for (int j = 0; j < count; j += LANES) {
        VECTOR x = LOAD(scores + j);
        if (is_masked) {
            for (int l = 0; l < LANES; ++l)
                if (key + j + l < row->first || key + j + l >= row->end)
                    scores[j + l] = MINUS_INFINITY;
            x = LOAD(scores + j);
        }
        peak = max(peak, x);
    }
    if (any(peak > row->limit)) {
        const float largest = largest_lane(peak);
        const VECTOR factor = power_of_2((VECTOR)(-row->shift - largest));
        if (row->limit > -FLT_MAX) {
            STORE(LOAD(total) * factor, total);
            for (int v = 0; v < V_VECTORS; ++v)
                STORE(LOAD(sums + v * LANES) * factor, sums + v * LANES);
        }
        row->shift = -largest;
        row->limit = largest + SLACK;
    }
    VECTOR own = LOAD(total);
    for (int j = 0; j < count; j += LANES) {
        const VECTOR x = LOAD(scores + j);
        VECTOR weight = power_of_2(x + row->shift);
        if (is_masked || BIAS) weight = select(weight, (VECTOR)(0.0f), x == MINUS_INFINITY);
        own += weight;
        STORE(weight, scores + j);
    }
    STORE(own, total);
}

// ---- Sums of V

// `vectors` vectors of V, from the one at `first` on, for TILE_ROWS rows; a constant.
FUNCTION void add_values(GLOBAL const STORED_KV *value, const OFFSET *at, const float *weights,
                         float *to, const int count, const int first, const int vectors)
{
    VECTOR sums[TILE_ROWS][TILE_VECTORS];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
        for (int v = 0; v < vectors; ++v)
            sums[r][v] = LOAD(to + (r * V_VECTORS + first + v) * LANES);
    for (int j = 0; j < count; ++j) {
        VECTOR from_v[TILE_VECTORS];
#pragma unroll
        for (int v = 0; v < vectors; ++v)
            from_v[v] = read_kv(value + at[j] + PLACE(first + v, V_DIM));
#pragma unroll
        for (int r = 0; r < TILE_ROWS; ++r) {
            const VECTOR weight = (VECTOR)(weights[r * BLOCK_KEYS + j]);
#pragma unroll
            for (int v = 0; v < vectors; ++v) sums[r][v] = fma(weight, from_v[v], sums[r][v]);
        }
    }
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
        for (int v = 0; v < vectors; ++v)
            STORE(sums[r][v], to + (r * V_VECTORS + first + v) * LANES);
}

// ---- A row of Q

// A vector that begins earlier has zeros for what the one before it holds.
FUNCTION void load_row(GLOBAL const STORED *q, float *to, const float factor)
{
    for (int v = 0; v < K_VECTORS; ++v) {
        STORE(read_stored(q + PLACE(v, HEAD_DIM)) * factor, to + v * LANES);
        for (int l = 0; l < v * LANES - PLACE(v, HEAD_DIM); ++l) to[v * LANES + l] = 0.0f;
    }
}

FUNCTION float sum_of_lanes(const float *from)
{
    float sum = 0.0f;
    for (int l = 0; l < LANES; ++l) sum += from[l];
    return sum;
}

// ---- A work-item

#if SPLITS > 1
#define RESULTS , GLOBAL float *RESTRICT partial_out, GLOBAL float *RESTRICT partial_sums
#else
#define RESULTS , GLOBAL STORED *RESTRICT out LSE_PARAMETER
#endif

KERNEL GROUP_SIZE(1, 1, 1)
void attention(GLOBAL const STORED *RESTRICT q, GLOBAL const STORED_KV *RESTRICT k,
               GLOBAL const STORED_KV *RESTRICT v INPUT_PARAMETERS RESULTS)
{
    const int each = GROUP_ID(0) / SPLITS, split = GROUP_ID(0) % SPLITS;
    const int kv_head = each % KV_HEADS;
    const Sequence s = SEQUENCE(each / KV_HEADS);
    const int row_count = s.queries * HEADS_PER_KV_HEAD;
    if (row_count == 0) return;

    float queries[ALL_ROWS * K_VECTORS * LANES] ALIGNED;
    float sums[ALL_ROWS * V_VECTORS * LANES] ALIGNED;
    float totals[ALL_ROWS * LANES] ALIGNED;
    float weights[ALL_ROWS * BLOCK_KEYS] ALIGNED;  // and scores before
    float products[TILE_ROWS * LANES * LANES] ALIGNED;
    Row rows[ALL_ROWS];
    Bias biases[ALL_ROWS];
    OFFSET k_at[BLOCK_KEYS], v_at[BLOCK_KEYS];
    for (int r = 0; r < ALL_ROWS; ++r) {
        const int query = QUERY_OF(r), head = HEAD_OF(r);
        load_row(q + q_offset(s, head, query), queries + r * K_VECTORS * LANES, SCORE_FACTOR);
        rows[r].shift = 0.0f, rows[r].limit = -FLT_MAX;
        rows[r].first = first_key(s, query), rows[r].end = end_key(s, query);
        biases[r] = BIAS_OF(s, head);
    }
    clear(sums, ALL_ROWS * V_VECTORS * LANES);
    clear(totals, ALL_ROWS * LANES);

    const int all_from = rows[0].first, all_to = rows[ALL_ROWS - 1].end;
    const int share = ROUND_UP(CEIL_DIV(MAX_OF(all_to - all_from, 0), SPLITS), LANES);
    const int from = all_from + split * share, to = MIN_OF(from + share, all_to);
    for (int key = from; key < to; key += BLOCK_KEYS) {
        const int count = MIN_OF(BLOCK_KEYS, to - key);
        for (int j = 0; j < ROUND_UP(count, LANES); ++j) {
            const int own = key + MIN_OF(j, count - 1);
            k_at[j] = k_offset(s, kv_head, own), v_at[j] = v_offset(s, kv_head, own);
        }
        for (int j = 0; j < count; j += LANES)
            for (int tile = 0; tile < ALL_ROWS; tile += TILE_ROWS) {
                for (int i = 0; i < LANES; i += TILE_KEYS) {
                    for (int f = j + i; FETCH_ROWS && tile == 0 && f < j + i + TILE_KEYS; ++f) {
                        const int next = MIN_OF(key + f + LANES, to - 1);
                        fetch_row(k + k_offset(s, kv_head, next), HEAD_DIM);
                        fetch_row(v + v_at[f], V_DIM);
                    }
                    multiply(k, k_at + j + i, queries + tile * K_VECTORS * LANES,
                             products + i * LANES);
                }
                for (int r = 0; r < TILE_ROWS; ++r) {
                    const int row = tile + r;
                    VECTOR parts_of_row[LANES];
#pragma unroll
                    for (int i = 0; i < LANES; ++i)
                        parts_of_row[i] = LOAD(products + (r * LANES + i) * LANES);
                    STORE(score_of_keys(sums_of_lanes(parts_of_row), biases[row], s,
                                        QUERY_OF(row), key + j, to - 1),
                          weights + row * BLOCK_KEYS + j);
                }
            }
        for (int r = 0; r < ALL_ROWS; ++r)
            weigh(weights + r * BLOCK_KEYS, rows + r, sums + r * V_VECTORS * LANES,
                  totals + r * LANES, key, count);
        for (int tile = 0; tile < ALL_ROWS; tile += TILE_ROWS) {
            float *own = sums + tile * V_VECTORS * LANES;
            int first = 0;
            for (; first + TILE_VECTORS <= V_VECTORS; first += TILE_VECTORS)
                add_values(v, v_at, weights + tile * BLOCK_KEYS, own, count, first, TILE_VECTORS);
#if TAIL_VECTORS
            add_values(v, v_at, weights + tile * BLOCK_KEYS, own, count, first, TAIL_VECTORS);
#endif
        }
    }

    for (int r = 0; r < row_count; ++r) {
        const float total = sum_of_lanes(totals + r * LANES);
        const float *own = sums + r * V_VECTORS * LANES;
#if SPLITS > 1
        const size_t place = partial_offset(lse_offset(s, HEAD_OF(r), QUERY_OF(r)), split);
        partial_sums[place * 2] = -rows[r].shift, partial_sums[place * 2 + 1] = total;
        for (int x = 0; x < V_VECTORS; ++x)
            JOIN(vstore, LANES)(LOAD(own + x * LANES), 0,
                                partial_out + place * V_DIM + PLACE(x, V_DIM));
#else
        const float scale = total > 0.0f ? VALUE_FACTOR / total : 0.0f;
        GLOBAL STORED *row = out + out_offset(s, HEAD_OF(r), QUERY_OF(r));
        for (int x = 0; x < V_VECTORS; ++x)
            write_stored(LOAD(own + x * LANES) * scale, row + PLACE(x, V_DIM));
#if LSE
        lse[lse_offset(s, HEAD_OF(r), QUERY_OF(r))] = natural_lse(-rows[r].shift, total);
#endif
#endif
    }
}
