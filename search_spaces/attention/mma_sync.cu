// Attention on tensor cores, after FlashAttention-2 (Dao, arXiv:2307.08691), from sm_80 on: tiles
// of K and V come by asynchronous copies into a ring in shared memory; scores, weights and sums of
// the output stay in the registers of the warp that owns their rows.
//
// A block computes BLOCK_ROWS rows of the output, each warp WARP_ROWS of them, from TILE_KEYS keys
// at a time. After a step's barrier the place of what was read before it is filled again: of a tile
// of K and one of V, so that STAGES - 1 of each are under way; or, in half steps, with a wait and a
// barrier for K and another for V, of one of these, so that 2 STAGES - 1 are. Keys that no row of
// the block sees are not read; a warp leaves out tiles that none of its rows sees, and asks for
// single keys only where a border of what they see runs through the tile. Pages are looked up
// before their copies' turn.
//
//   attend:   groups (tiles of rows x heads x sequences, SPLITS); writes the output, or what each
//             part of the keys gives if SPLITS > 1
//   combine:  merges the parts (combine.h), only if SPLITS > 1

#ifndef KERNEL
#include "../dialects/cuda.h"
#endif
#ifndef TENSOR_CORE_H
#include "../dialects/tensor_core.h"
#endif
#ifndef TILES_H
#include "../matmul/tiles.h"
#endif
#ifndef EXPONENTIALS_H
#include "exponentials.h"
#endif
#ifndef SEQUENCE_H
#include "sequence.h"
#endif
#ifndef WARP_TILES_H
#include "warp_tiles.h"
#endif
#ifndef WARP_SOFTMAX_H
#include "warp_softmax.h"
#endif

#ifndef Q_COPY
#define Q_COPY 16    // bytes that one copy moves: 16, 8 or 4, as every row begins at a multiple of
#define K_COPY 16    // them; or 0: element by element through registers
#define V_COPY 16
#define OUT_BYTES 16  // stored at a time: 16, 8, 4 or 2
#endif

// ---- The schedule

#ifndef WARPS
#define WARPS 4  // of a block
#endif
#ifndef WARP_ROWS
#define WARP_ROWS 32  // rows of a warp: 16, 32 or more
#endif
#ifndef TILE_KEYS
#define TILE_KEYS 64  // keys between two rescalings
#endif
#ifndef STAGES
#define STAGES 1  // tiles of K, and of V, in shared memory
#endif
#ifndef HALF_STEPS
#define HALF_STEPS 1  // 1: K and V have a wait and a barrier each; 0: one for both
#endif
#ifndef SCORES_AHEAD
#define SCORES_AHEAD 0  // 1: the next tile's scores are multiplied while this one's are weighed
#endif
#ifndef Q_REGISTERS
#define Q_REGISTERS 0  // 1: Q stays in registers; 0: its fragments are loaded again for each tile
#endif
#ifndef PACK_HEADS
#define PACK_HEADS 0  // 1: query heads that share a head of K and V are rows of one tile
#endif
#ifndef HEADS_TOGETHER
#define HEADS_TOGETHER 1  // heads of sequences whose tiles are walked together, to meet in cache
#endif
#ifndef LATE_FIRST
#define LATE_FIRST 0  // 1: tiles of late queries first, which see more keys
#endif
#ifndef BACKWARDS
#define BACKWARDS 0  // 1: from the last key backwards, so that masked tiles come first
#endif
#ifndef LAZY_RESCALE
#define LAZY_RESCALE 0  // 1: weights may grow to 2^8 before earlier sums are scaled down
#endif
#ifndef POLYNOMIALS
#define POLYNOMIALS 0  // exponentials, of 8, that are polynomials on multiply-add units
#endif
#ifndef SPLITS
#define SPLITS 1  // parts of the keys, each by other blocks
#endif
#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit: compilers keep to the registers that this leaves
#endif

#ifndef WARP_PRODUCTS_H
#include "warp_products.h"
#endif
#if SPLITS > 1 && !defined(COMBINE_H)
#include "combine.h"
#endif

// ---- What follows from these

#define THREADS (32 * WARPS)
#define BLOCK_ROWS (WARPS * WARP_ROWS)
#define TILE_HEADS (HEADS / ROW_HEADS)  // that have tiles of their own
#define TILES ((Q_LEN * ROW_HEADS + BLOCK_ROWS - 1) / BLOCK_ROWS)
#define Q_TILE_BYTES (Q_REGISTERS ? 0 : BLOCK_ROWS * QK_WIDTH * 2)
#define K_TILE_BYTES (TILE_KEYS * QK_WIDTH * STORED_KV_BYTES)
#define STAGE_BYTES (K_TILE_BYTES + TILE_KEYS * V_WIDTH * STORED_KV_BYTES)

// ---- The output

template <int BYTES> FUNCTION void move(STORED *to, const unsigned char *from)
{
    if (BYTES == 16) {
        const uint4 found = *(const uint4 *)from;
        const unsigned words[4] = {found.x, found.y, found.z, found.w};
        store_words(to, words);
    } else if (BYTES == 8) {
        const uint2 found = *(const uint2 *)from;
        const unsigned words[2] = {found.x, found.y};
        store_words(to, words);
    } else if (BYTES == 4) {
        *(unsigned *)to = *(const unsigned *)from;
    } else {
        *to = *(const STORED *)from;
    }
}

// A fragment's 16 rows through the warp's slab of shared memory, so that whole lines are written.
FUNCTION void store_rows(STORED *out, unsigned char *slab, const Place &place, int fragment,
                         const float (&sums)[V_WIDTH / 8][4], const float (&inverses)[2])
{
    const int lane = LOCAL_ID(0) % 32, pieces = V_WIDTH * 2 / OUT_BYTES;
    __syncwarp();
#pragma unroll
    for (int columns = 0; columns < V_WIDTH / 16; columns++) {
#pragma unroll
        for (int at = 0; at < 4; at++) {
            const int half = at / 2, i = at % 2;
            const float x = pair_value(&sums[2 * columns], half, i, 0) * inverses[half];
            const float y = pair_value(&sums[2 * columns], half, i, 1) * inverses[half];
            const int line = half * 8 + lane / 4, column = pair_column(columns, i);
            *(unsigned *)(slab + element_offset<V_WIDTH, 2>(line, column)) = packed(x, y);
        }
    }
    __syncwarp();
    for (int piece = lane; piece < 16 * pieces; piece += 32) {
        const int line = piece / pieces, column = piece % pieces * (OUT_BYTES / 2);
        const int row = place.row + fragment * 16 + line;
        if (row < place.s.queries * ROW_HEADS && column < V_DIM) {
            const OFFSET at = out_offset(place.s, place.head + row % ROW_HEADS, row / ROW_HEADS);
            move<OUT_BYTES>(out + at + column, slab + element_offset<V_WIDTH, 2>(line, column));
        }
    }
}

// Sums of the lane's first row of a fragment, or of the one 8 rows later.
FUNCTION void store_sums(float *partial, const float (&sums)[V_WIDTH / 8][4], int half)
{
#pragma unroll
    for (int columns = 0; columns < V_WIDTH / 16; columns++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int column = pair_column(columns, i);
            const float x = pair_value(&sums[2 * columns], half, i, 0);
            const float y = pair_value(&sums[2 * columns], half, i, 1);
            if (V_DIM % 2 == 0) {
                const unsigned words[2] = {__float_as_uint(x), __float_as_uint(y)};
                if (column < V_DIM) store_words(partial + column, words);
            } else {
                if (column < V_DIM) partial[column] = x;
                if (column + 1 < V_DIM) partial[column + 1] = y;
            }
        }
    }
}

#if SPLITS > 1
// What a part of the keys gives, as combine.h takes it.
FUNCTION void store_part(float *partial_out, float *partial_sums, const Place &place,
                         const Rows &rows, const Sums &sums, float factor, int part)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float sum = sum_of_row(rows[i][half].sum);
            const int row = row_of(place, i, half), head = place.head + row % ROW_HEADS;
            if (row >= place.s.queries * ROW_HEADS) continue;
            const OFFSET result = lse_offset(place.s, head, row / ROW_HEADS);
            const size_t at = partial_offset(result, part);
            store_sums(partial_out + at * V_DIM, sums[i], half);
            if (LOCAL_ID(0) % 4 == 0) {
                partial_sums[at * 2] = rows[i][half].largest * factor;
                partial_sums[at * 2 + 1] = sum;
            }
        }
    }
}
#endif

// ---- Keys and values on their way

// The keys that a block walks, tile by tile, and the ring in shared memory.
struct Walk {
    const STORED_KV *k, *v;
    const Sequence &s;
    unsigned char *ring;
    int kv_head, first_tile, steps;

    FUNCTION int key_of(int step) const
    {
        return (first_tile + (BACKWARDS ? steps - 1 - step : step)) * TILE_KEYS;
    }
    FUNCTION unsigned char *k_tile(int stage) const { return ring + stage * STAGE_BYTES; }
    FUNCTION unsigned char *v_tile(int stage) const { return k_tile(stage) + K_TILE_BYTES; }

    FUNCTION void fetch_k(int step, int stage, const TilePages<TILE_KEYS> &pages) const
    {
        if (step >= steps) return;
        const KeyLines<0, TILE_KEYS> lines = {k, s, pages, kv_head, key_of(step)};
        fetch<THREADS, TILE_KEYS, QK_WIDTH, HEAD_DIM, K_COPY>(k_tile(stage), lines);
    }
    FUNCTION void fetch_v(int step, int stage, const TilePages<TILE_KEYS> &pages) const
    {
        if (step >= steps) return;
        const KeyLines<1, TILE_KEYS> lines = {v, s, pages, kv_head, key_of(step)};
        fetch<THREADS, TILE_KEYS, V_WIDTH, V_DIM, V_COPY>(v_tile(stage), lines);
    }
};

// What a warp has: its rows, and what it has found of them.
struct Own {
    Place place;
    Biases biases;
    Queries queries;
    Rows rows;
    Sums sums;
    const unsigned char *q_tile;
    float score_factor, factor;  // of scores: at once, and in the exponent
};

FUNCTION void score_tile(Scores &scores, Own &own, const unsigned char *k_tile)
{
    multiply_keys(scores, own.queries, own.q_tile, LOCAL_ID(0) / 32 * WARP_ROWS, k_tile);
}

FUNCTION void finish_tile(Scores &scores, Own &own, int tile_key)
{
    finish_scores(scores, own.place, own.biases, tile_key, own.score_factor);
}

FUNCTION void weigh_tile(Weights &weights, Scores &scores, Own &own)
{
    weigh(weights, scores, own.rows, own.sums, own.factor);
}

FUNCTION int after(int stage) { return stage + 1 == STAGES ? 0 : stage + 1; }

// A tile at a time, its scores and then its values; in half steps, each after a wait of its own.
FUNCTION void walk_tiles(const Walk &walk, Own &own)
{
    TilePages<TILE_KEYS> pages;
#pragma unroll
    for (int stage = 0; stage < STAGES; stage++) {
        const bool is_last = stage == STAGES - 1;
        pages.look_up(walk.s, walk.key_of(stage));
        if (HALF_STEPS || !is_last) walk.fetch_k(stage, stage, pages);
        if (HALF_STEPS) copy_commit();
        if (!is_last) walk.fetch_v(stage, stage, pages);
        if (!is_last) copy_commit();
    }
    int stage = 0, before = STAGES - 1;
    for (int step = 0; step < walk.steps; step++) {
        const int tile_key = walk.key_of(step);
        const bool busy = sees(own.place, tile_key);
        Weights weights;
        copy_wait<HALF_STEPS ? 2 * STAGES - 2 : STAGES - 2>();
        __syncthreads();
        if (!HALF_STEPS) walk.fetch_k(step + STAGES - 1, before, pages);
        walk.fetch_v(step + STAGES - 1, before, pages);
        copy_commit();
        pages.look_up(walk.s, walk.key_of(step + STAGES));
        if (busy) {
            Scores scores;
            score_tile(scores, own, walk.k_tile(stage));
            finish_tile(scores, own, tile_key);
            weigh_tile(weights, scores, own);
        }
        if (HALF_STEPS) {
            copy_wait<2 * STAGES - 2>();
            __syncthreads();
            walk.fetch_k(step + STAGES, stage, pages);
            copy_commit();
        }
        if (busy) multiply_values(own.sums, weights, walk.v_tile(stage));
        before = stage;
        stage = after(stage);
    }
}

// The same with the scores of the next tile ahead: tensor cores have work while a tile's scores
// become weights (FlashAttention-3, arXiv:2407.08608, section 3.2, does so in a warpgroup). The
// compiler interleaves both where no branch is between them.
FUNCTION void walk_ahead(const Walk &walk, Own &own)
{
    TilePages<TILE_KEYS> pages, next_pages;  // of the next tiles of V and K
    pages.look_up(walk.s, walk.key_of(0));
    walk.fetch_k(0, 0, pages);
    copy_commit();
    next_pages.look_up(walk.s, walk.key_of(1));
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        walk.fetch_k(stage + 1, stage + 1, next_pages);
        walk.fetch_v(stage, stage, pages);
        copy_commit();
        pages = next_pages;
        next_pages.look_up(walk.s, walk.key_of(stage + 2));
    }
    Scores scores;
    bool sees_tile = walk.steps > 0 && sees(own.place, walk.key_of(0));
    copy_wait<STAGES - 1>();
    __syncthreads();
    if (sees_tile) score_tile(scores, own, walk.k_tile(0));
    int stage = 0, before = STAGES - 1;
    for (int step = 0; step < walk.steps; step++) {
        const int tile_key = walk.key_of(step);
        const bool sees_next = step + 1 < walk.steps && sees(own.place, walk.key_of(step + 1));
        Scores next_scores;
        Weights weights;
        copy_wait<STAGES - 2>();
        __syncthreads();
        walk.fetch_k(step + STAGES, stage, next_pages);
        walk.fetch_v(step + STAGES - 1, before, pages);
        copy_commit();
        pages = next_pages;
        next_pages.look_up(walk.s, walk.key_of(step + STAGES + 1));
        if (sees_tile) finish_tile(scores, own, tile_key);
        if (sees_tile && sees_next) {
            score_tile(next_scores, own, walk.k_tile(after(stage)));
            weigh_tile(weights, scores, own);
            multiply_values(own.sums, weights, walk.v_tile(stage));
        } else {
            if (sees_next) score_tile(next_scores, own, walk.k_tile(after(stage)));
            if (sees_tile) {
                weigh_tile(weights, scores, own);
                multiply_values(own.sums, weights, walk.v_tile(stage));
            }
        }
        copy(scores, next_scores);
        sees_tile = sees_next;
        before = stage;
        stage = after(stage);
    }
}

// ---- The kernel

#if SPLITS > 1
#define RESULTS float *RESTRICT partial_out, float *RESTRICT partial_sums
#else
#define RESULTS STORED *RESTRICT out LSE_PARAMETER
#endif

KERNEL __launch_bounds__(THREADS, RESIDENT) void attend(
    const STORED *RESTRICT q, const STORED_KV *RESTRICT k,
    const STORED_KV *RESTRICT v INPUT_PARAMETERS, RESULTS)
{
    extern __shared__ __align__(128) unsigned char shared[];

    const int heads = tile_row(GROUP_ID(0), BATCH * TILE_HEADS, TILES, HEADS_TOGETHER);
    const int column = tile_column(GROUP_ID(0), BATCH * TILE_HEADS, TILES, HEADS_TOGETHER);
    const int block_row = (LATE_FIRST ? TILES - 1 - column : column) * BLOCK_ROWS;
    const int head = heads % TILE_HEADS * ROW_HEADS, part = GROUP_ID(1);
    const Sequence s = SEQUENCE(heads / TILE_HEADS);
    const int rows_left = s.queries * ROW_HEADS - block_row;
    if (VARLEN_Q && rows_left <= 0) return;

    // The keys that any row sees, and this part's.
    const int last_row = block_row + (rows_left < BLOCK_ROWS ? rows_left : BLOCK_ROWS) - 1;
    const int first_seen = first_key(s, block_row / ROW_HEADS) / TILE_KEYS;
    const int end_seen = (end_key(s, last_row / ROW_HEADS) + TILE_KEYS - 1) / TILE_KEYS;
    const int first_tile = first_seen + first_step_of(part, end_seen - first_seen, SPLITS);
    const int steps = steps_of(part, end_seen - first_seen, SPLITS);
    const Walk walk = {k, v, s, shared + Q_TILE_BYTES, head / HEADS_PER_KV_HEAD, first_tile, steps};

    const int warp = LOCAL_ID(0) / 32;
    const QueryLines<ROW_HEADS> q_lines = {q, s, head, block_row};
    Own own;
    own.place = place_of(s, head, block_row + warp * WARP_ROWS);
    own.q_tile = shared;
    own.score_factor = SCORE_FACTOR;
    own.factor = LATE_FACTOR ? own.score_factor : 1.0f;
    if (Q_REGISTERS)
        read_queries(own.queries, q_lines, warp * WARP_ROWS);
    else
        fetch<THREADS, BLOCK_ROWS, QK_WIDTH, HEAD_DIM, Q_COPY>(shared, q_lines);
    BIASES_OF(own.biases, own.place);
    begin(own.rows, own.sums);
    if (SCORES_AHEAD)
        walk_ahead(walk, own);
    else
        walk_tiles(walk, own);

#if SPLITS > 1
    store_part(partial_out, partial_sums, own.place, own.rows, own.sums, own.factor, part);
#else
    // The output takes the place of the tiles.
    copy_wait<0>();
    __syncthreads();
    unsigned char *const slab = shared + warp * 16 * V_WIDTH * 2;
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
        float inverses[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float sum = sum_of_row(own.rows[i][half].sum);
            inverses[half] = sum > 0.0f ? VALUE_FACTOR / sum : 0.0f;
#if LSE
            const int row = row_of(own.place, i, half);
            if (LOCAL_ID(0) % 4 == 0 && row < s.queries * ROW_HEADS)
                lse[lse_offset(s, head + row % ROW_HEADS, row / ROW_HEADS)] =
                    natural_lse(own.rows[i][half].largest * own.factor, sum);
#endif
        }
        store_rows(out, slab, own.place, i, own.sums[i], inverses);
    }
#endif
}
