// out = softmax(Q K^T) V on a CPU: explicit vectors along the queries, one work-item a group.
//
// A work-item computes BLOCK_ROWS rows: the queries of all heads that share a head of K and V, the
// heads of a query side by side. Its queries lie transposed in panels of TILE_VECTORS vectors, and
// stay in the first-level cache; so do its weights, keys x rows, and its sums, v_dim x rows. With
// the rows along the lanes of vectors
//   - scores are elements of K times vectors of Q, sums are elements of V times vectors of weights:
//     K and V are read as they lie in memory, an element at a time, spread over a vector;
//   - largest scores, exponentials and totals need no operation across the lanes of a vector.
// Tiles of TILE_KEYS keys, and of TILE_DIMS elements of V, by TILE_VECTORS vectors are kept in
// registers; a tile of scores becomes weights before it leaves them.
//
// The softmax is the online one of M. Milakov and N. Gimelshein (arXiv:1805.02867), but what
// exponents refer to is raised only where a score lies SLACK or more above it: in float32 a weight
// may as well be 2^SLACK as 1. FlashAttention-4 does the same.
//
//   attention:  groups (BATCH x KV_HEADS x BLOCKS x SPLITS, 1, 1) of one work-item
//   combine:    merges parts of the keys (combine.h), where SPLITS > 1

#ifndef KERNEL
#include "../dialects/opencl.h"
#include "sequence.h"
#include "cpu_vectors.h"
#include "cpu_panels.h"
#endif

// ---- The schedule

#ifndef TILE_KEYS
#define TILE_KEYS 12  // keys of the register tile of scores
#endif
#ifndef TILE_DIMS
#define TILE_DIMS 12  // elements of v_dim of the register tile of sums
#endif
#ifndef PANELS
#define PANELS 1  // panels of a work-item, which use a block of keys one after another
#endif
#ifndef BLOCK_KEYS
#define BLOCK_KEYS 96  // keys whose weights are kept: a multiple of TILE_KEYS
#endif
#ifndef UNROLL
#define UNROLL 2  // steps of head_dim unrolled
#endif
#ifndef COPY_K
#define COPY_K 0  // 1: copy a block of K before use, as floats; 0: read K where it is
#endif
#ifndef COPY_V
#define COPY_V 0  // 1: the same of V
#endif
#ifndef HEADS_FIRST
#define HEADS_FIRST 0  // 1: neighbouring groups are of different heads; 0: they share K and V
#endif

// ---- What follows from these

#define SLACK 16.0f
#define BLOCK_ROWS (PANELS * TILE_ROWS)
#define BLOCKS CEIL_DIV(Q_LEN * HEADS_PER_KV_HEAD, BLOCK_ROWS)
#define TAIL_DIMS (V_DIM % TILE_DIMS)

#if COPY_K  // no distance of a power of two between rows, which would share sets of a cache
#define K_SPACE __private
#define K_TYPE float
#define K_ROW (ROUND_UP(HEAD_DIM, LANES) + LANES)
#else
#define K_SPACE GLOBAL
#define K_TYPE STORED_KV
#define K_ROW K_ROW_STRIDE
#endif
#if COPY_V
#define V_SPACE __private
#define V_TYPE float
#define V_ROW (ROUND_UP(V_DIM, LANES) + LANES)
#else
#define V_SPACE GLOBAL
#define V_TYPE STORED_KV
#define V_ROW V_ROW_STRIDE
#endif

// What the rows of a panel have: an element each.
typedef struct {
    float shift[TILE_ROWS];  // minus what exponents refer to
    float limit[TILE_ROWS];  // a score that much above it raises it: any score, before the first
    float total[TILE_ROWS];  // of the weights
    int first[TILE_ROWS], end[TILE_ROWS];  // of the keys that it sees
#if ALIBI
    float slope[TILE_ROWS], position[TILE_ROWS];
#elif BIAS
    OFFSET bias_row[TILE_ROWS];  // where its bias begins
#endif
} Rows;

// ---- Scores and weights

#if BIAS
// The bias of `count` keys from `key` on for the rows of a panel, to where their weights will be.
FUNCTION void load_bias(GLOBAL const STORED *bias, float *weights, const Rows *rows,
                        const int key, const int count)
{
    for (int l = 0; l < TILE_ROWS; l += LANES) {
        const OFFSET *row = rows->bias_row + l;
        int j = 0;
        for (; j + LANES <= count; j += LANES) {
            VECTOR square[LANES];
#pragma unroll
            for (int i = 0; i < LANES; ++i) square[i] = read_stored(bias + row[i] + key + j);
            transpose(square);
#pragma unroll
            for (int i = 0; i < LANES; ++i)
                STORE(square[i] * LOG2_E, weights + (j + i) * TILE_ROWS + l);
        }
        for (; j < count; ++j)
            for (int i = 0; i < LANES; ++i)
                weights[j * TILE_ROWS + l + i] = STORED_TO_FLOAT(bias[row[i] + key + j]) * LOG2_E;
    }
}
#endif

// What score() of sequence.h does, for a vector of rows from `l` on, with their `bias`.
FUNCTION VECTOR score_of_rows(VECTOR x, const Rows *rows, const float *bias, const int l,
                              const int key)
{
#if HAS_SOFTCAP
    x = SOFTCAP * LOG2_E * vector_tanh(x);
#endif
#if ALIBI
    x -= LOAD(rows->slope + l) * fabs(LOAD(rows->position + l) - (float)key);
#elif BIAS
    x += LOAD(bias + l);
#endif
    return x + LOAD(rows->shift + l);
}

// The scores of some rows are far above what their exponents refer to: raise it to their `peak`,
// and make what was computed before fit, also the weights of `done` keys of this block.
FUNCTION void raise(VECTOR scores[TILE_KEYS][TILE_VECTORS], const VECTOR *peak, Rows *rows,
                    float *sums, float *weights, const int done)
{
#pragma unroll
    for (int v = 0; v < TILE_VECTORS; ++v) {
        const int l = v * LANES;
        const VECTOR limit = LOAD(rows->limit + l);
        const INTEGERS is_above = peak[v] > limit;
        const VECTOR by = select((VECTOR)(0.0f), peak[v], is_above);
        const VECTOR factor = select(power_of_2(-by), (VECTOR)(1.0f), limit < 0.0f);
        STORE(LOAD(rows->shift + l) - by, rows->shift + l);
        STORE(select(limit, (VECTOR)(SLACK), is_above), rows->limit + l);
        STORE(LOAD(rows->total + l) * factor, rows->total + l);
        for (int d = 0; d < V_DIM; ++d)
            STORE(LOAD(sums + d * TILE_ROWS + l) * factor, sums + d * TILE_ROWS + l);
        for (int j = 0; j < done; ++j)
            STORE(LOAD(weights + j * TILE_ROWS + l) * factor, weights + j * TILE_ROWS + l);
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) scores[i][v] -= by;
    }
}

// One step of head_dim: TILE_KEYS x TILE_VECTORS multiplications.
#define STEP(d)                                                                                \
    {                                                                                          \
        VECTOR from_q[TILE_VECTORS];                                                           \
        _Pragma("unroll") for (int v = 0; v < TILE_VECTORS; ++v)                               \
            from_q[v] = LOAD(q + (d) * TILE_ROWS + v * LANES);                                 \
        _Pragma("unroll") for (int i = 0; i < TILE_KEYS; ++i) {                                \
            const VECTOR from_k = (VECTOR)(k[at[i] + (d)]);                                    \
            _Pragma("unroll") for (int v = 0; v < TILE_VECTORS; ++v)                           \
                scores[i][v] = fma(from_k, from_q[v], scores[i][v]);                           \
        }                                                                                      \
    }

// The weights of keys [key, key + count) for the rows of a panel, in the place of their bias.
// `masked`: not every row sees all TILE_KEYS of them, or there are fewer. `done`: keys of the block
// before these.
FUNCTION void weigh(K_SPACE const K_TYPE *k, const float *q, float *weights, float *sums,
                    Rows *rows, const int key, const int count, const int done,
                    const int masked)
{
    VECTOR scores[TILE_KEYS][TILE_VECTORS];
#pragma unroll
    for (int i = 0; i < TILE_KEYS; ++i)
#pragma unroll
        for (int v = 0; v < TILE_VECTORS; ++v)
            scores[i][v] = SCORE_IS_LINEAR ? LOAD(rows->shift + v * LANES) : (VECTOR)(0.0f);
    int at[TILE_KEYS];  // rows of K; where there are fewer, the last one again
#pragma unroll
    for (int i = 0; i < TILE_KEYS; ++i) at[i] = (masked ? MIN_OF(i, count - 1) : i) * K_ROW;
    int d = 0;
    for (; d + UNROLL <= HEAD_DIM; d += UNROLL)
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) STEP(d + u)
#if HEAD_DIM % UNROLL
    for (; d < HEAD_DIM; ++d) STEP(d)
#endif

    VECTOR peak[TILE_VECTORS];
    INTEGERS is_above = (INTEGERS)(0);
#pragma unroll
    for (int v = 0; v < TILE_VECTORS; ++v) {
        const int l = v * LANES;
        peak[v] = (VECTOR)(MINUS_INFINITY);
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) {
            const int j = masked ? MIN_OF(i, count - 1) : i;
            if (!SCORE_IS_LINEAR)
                scores[i][v] = score_of_rows(scores[i][v], rows, weights + (done + j) * TILE_ROWS,
                                             l, key + j);
            if (masked) {
                const INTEGERS is_seen = (key + i >= LOAD_INTEGERS(rows->first + l)) &
                                         (key + i < LOAD_INTEGERS(rows->end + l)) &
                                         (INTEGERS)(i < count ? -1 : 0);
                scores[i][v] = select((VECTOR)(MINUS_INFINITY), scores[i][v], is_seen);
            }
            peak[v] = max(peak[v], scores[i][v]);
        }
        is_above |= peak[v] > LOAD(rows->limit + l);
    }
    if (any(is_above)) raise(scores, peak, rows, sums, weights, done);
#pragma unroll
    for (int v = 0; v < TILE_VECTORS; ++v) {
        VECTOR total = LOAD(rows->total + v * LANES);
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) {
            VECTOR weight = power_of_2(scores[i][v]);
            if (masked || BIAS)  // a bias may be minus infinity, too
                weight = select(weight, (VECTOR)(0.0f), scores[i][v] == MINUS_INFINITY);
            total += weight;
            STORE(weight, weights + (done + i) * TILE_ROWS + v * LANES);
        }
        STORE(total, rows->total + v * LANES);
    }
}

// ---- Sums of V

// `dims` elements of V for the rows of a panel, over `count` keys; `dims` is a constant.
FUNCTION void add_values(V_SPACE const V_TYPE *value, const float *weights, float *to,
                         const int count, const int dims)
{
    VECTOR sums[TILE_DIMS][TILE_VECTORS];
#pragma unroll
    for (int i = 0; i < dims; ++i)
#pragma unroll
        for (int v = 0; v < TILE_VECTORS; ++v) sums[i][v] = LOAD(to + i * TILE_ROWS + v * LANES);
    for (int j = 0; j < count; ++j) {
        VECTOR weight[TILE_VECTORS];
#pragma unroll
        for (int v = 0; v < TILE_VECTORS; ++v)
            weight[v] = LOAD(weights + j * TILE_ROWS + v * LANES);
#pragma unroll
        for (int i = 0; i < dims; ++i) {
            const VECTOR from_v = (VECTOR)(value[i]);
#pragma unroll
            for (int v = 0; v < TILE_VECTORS; ++v)
                sums[i][v] = fma(from_v, weight[v], sums[i][v]);
        }
        value += V_ROW;
    }
#pragma unroll
    for (int i = 0; i < dims; ++i)
#pragma unroll
        for (int v = 0; v < TILE_VECTORS; ++v) STORE(sums[i][v], to + i * TILE_ROWS + v * LANES);
}

// ---- A work-item

#if ALIBI
#define BEGIN_BIAS(rows, l, query, head) \
    (rows).slope[l] = BIAS_OF(s, head).slope, (rows).position[l] = query_position(s, query)
#elif BIAS
#define BEGIN_BIAS(rows, l, query, head) \
    (rows).bias_row[l] = BIAS_OF(s, head).first - bias + (OFFSET)(query) * KV_LEN
#else
#define BEGIN_BIAS(rows, l, query, head)
#endif

// The rows of a panel from `row` on, before the first key; a macro for what BIAS_OF reads.
#define BEGIN_ROWS(rows, row)                                                            \
    for (int l = 0; l < TILE_ROWS; ++l) {                                                \
        const int query = QUERY_OF((row) + l);                                           \
        (rows).shift[l] = 0.0f, (rows).limit[l] = -FLT_MAX, (rows).total[l] = 0.0f;      \
        (rows).first[l] = first_key(s, query), (rows).end[l] = end_key(s, query);        \
        BEGIN_BIAS(rows, l, query, HEAD_OF((row) + l));                                  \
    }

KERNEL GROUP_SIZE(1, 1, 1)
void attention(GLOBAL const STORED *RESTRICT q, GLOBAL const STORED_KV *RESTRICT k,
               GLOBAL const STORED_KV *RESTRICT v INPUT_PARAMETERS, RESULT_PARAMETERS)
{
    const int group = GROUP_ID(0) / SPLITS, part = GROUP_ID(0) % SPLITS;
    const int each = HEADS_FIRST ? group % (BATCH * KV_HEADS) : group / BLOCKS;
    const int block = HEADS_FIRST ? group / (BATCH * KV_HEADS) : group % BLOCKS;
    const int kv_head = each % KV_HEADS;
    const Sequence s = SEQUENCE(each / KV_HEADS);
    const int row_count = s.queries * HEADS_PER_KV_HEAD;
    // Causal rows have the more work the later they are; what takes longest begins first.
    const int first_row = (CAUSAL ? BLOCKS - 1 - block : block) * BLOCK_ROWS;
    if (first_row >= row_count) return;
    const int panel_count = MIN_OF(PANELS, CEIL_DIV(row_count - first_row, TILE_ROWS));

    float panels[PANELS][HEAD_DIM * TILE_ROWS] ALIGNED;
    float sums[PANELS][V_DIM * TILE_ROWS] ALIGNED;
    float weights[BLOCK_KEYS * TILE_ROWS] ALIGNED;
    Rows rows[PANELS] ALIGNED;
#if COPY_K
    float k_block[BLOCK_KEYS * K_ROW] ALIGNED;
#endif
#if COPY_V
    float v_block[BLOCK_KEYS * V_ROW] ALIGNED;
#endif

    for (int panel = 0; panel < panel_count; ++panel) {
        const int row = first_row + panel * TILE_ROWS;
        load_queries(q, panels[panel], s, kv_head, row_count, row, SCORE_FACTOR);
        clear(sums[panel], V_DIM * TILE_ROWS);
        BEGIN_ROWS(rows[panel], row);
    }

    const int from = rows[0].first[0], to = rows[panel_count - 1].end[TILE_ROWS - 1];
    const int share = ROUND_UP(CEIL_DIV(MAX_OF(to - from, 0), SPLITS), TILE_KEYS);
    const int end = MIN_OF(from + (part + 1) * share, to);
    for (int key = from + part * share; key < end; key += BLOCK_KEYS) {
        const int block_end = MIN_OF(key + BLOCK_KEYS, end);
#if COPY_K
        for (int j = key; j < block_end; ++j)
            copy_row(k + k_offset(s, kv_head, j), k_block + (j - key) * K_ROW, HEAD_DIM);
        K_SPACE const K_TYPE *keys = k_block;
#else
        K_SPACE const K_TYPE *keys = k + k_offset(s, kv_head, key);
#endif
#if COPY_V
        for (int j = key; j < block_end; ++j)
            copy_row(v + v_offset(s, kv_head, j), v_block + (j - key) * V_ROW, V_DIM);
        V_SPACE const V_TYPE *values = v_block;
#else
        V_SPACE const V_TYPE *values = v + v_offset(s, kv_head, key);
#endif
        for (int panel = 0; panel < panel_count; ++panel) {
            Rows *own = rows + panel;
            float *to_sums = sums[panel];
            // Any row sees keys of [any_from, any_to), every one all those of [all_from, all_to).
            const int any_from = MAX_OF(key, own->first[0]);
            const int any_to = MIN_OF(block_end, own->end[TILE_ROWS - 1]);
            const int all_from = own->first[TILE_ROWS - 1], all_to = MIN_OF(any_to, own->end[0]);
            const int count = any_to - any_from;
#if BIAS
            load_bias(bias, weights, own, any_from, count);
#endif
            for (int j = any_from; j < any_to; j += TILE_KEYS) {
                K_SPACE const K_TYPE *tile = keys + (OFFSET)(j - key) * K_ROW;
                const int done = j - any_from, left = MIN_OF(TILE_KEYS, any_to - j);
                if (j >= all_from && j + TILE_KEYS <= all_to)
                    weigh(tile, panels[panel], weights, to_sums, own, j, TILE_KEYS, done, 0);
                else
                    weigh(tile, panels[panel], weights, to_sums, own, j, left, done, 1);
            }
            V_SPACE const V_TYPE *first = values + (OFFSET)(any_from - key) * V_ROW;
            int d = 0;
            for (; d + TILE_DIMS <= V_DIM; d += TILE_DIMS)
                add_values(first + d, weights, to_sums + d * TILE_ROWS, count, TILE_DIMS);
#if TAIL_DIMS
            add_values(first + d, weights, to_sums + d * TILE_ROWS, count, TAIL_DIMS);
#endif
        }
    }

    for (int panel = 0; panel < panel_count; ++panel) {
        const int row = first_row + panel * TILE_ROWS;
        store_sums(RESULT, sums[panel], rows[panel].total, s, kv_head, row_count, row, part,
                   VALUE_FACTOR);
#if SPLITS > 1 || LSE
        for (int l = 0; l < TILE_ROWS && row + l < row_count; ++l) {
            const OFFSET number = lse_offset(s, HEAD_OF(row + l), QUERY_OF(row + l));
            const float largest = -rows[panel].shift[l], total = rows[panel].total[l];
#if SPLITS > 1
            partial_sums[partial_offset(number, part) * 2] = largest;
            partial_sums[partial_offset(number, part) * 2 + 1] = total;
#else
            lse[number] = natural_lse(largest, total);
#endif
        }
#endif
    }
}
