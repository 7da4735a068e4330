// Attention of a few queries to many keys at the bandwidth of memory: split KV (FlashDecoding; Dao,
// Haziza, Massa and Sizov, 2023), from sm_80 on.
//
// Every key and value is used by few rows and read once, so that the time is that of reading them.
// What counts is the bytes under way. All queries of the heads that share a head of K and V are
// rows of one tile of tensor cores: K and V are read once for all of them. The keys are cut four
// times: into SPLITS parts; each among the CLUSTER blocks of a cluster; a block's into tiles; and a
// tile among WARPS_KEYS warps. Each of these warps has a ring of STAGES tiles of its own in shared
// memory, filled by its own asynchronous copies, so that warps wait for no other (but for those
// that share the ring, where rows are too many for one warp: WARPS_ROWS). Warps keep sums of their
// own; they are merged through shared memory at the end, those of a cluster's blocks through each
// other's, and those of the parts by a second kernel.
//
// Pages are looked up a tile ahead of their copies: each lane knows the page of one key.
//
//   attend:   groups (SPLITS x CLUSTER x heads of K x blocks of rows, BATCH, 1); writes the output,
//             or what each part gives
//   combine:  the parts (combine.h), only if SPLITS > 1

#ifndef KERNEL
#include "../dialects/cuda.h"
#endif
#ifndef TENSOR_CORE_H
#define IS_BFLOAT 0         // 1: Q is bfloat16, 0: float16
#define KV_MANTISSA_BITS 0  // of float8: 3 or 2
#define MMA "m16n8k16.row.col.f32.f16.f16.f32"
#include "../dialects/tensor_core.h"
#endif
#ifndef EXPONENTIALS_H
#include "exponentials.h"
#endif
#ifndef SEQUENCE_H
#include "sequence.h"
#endif

#ifndef DECODE_SCHEDULE_H
#include "decode_schedule.h"
#endif
#ifndef WARP_TILES_H
#include "warp_tiles.h"
#endif
#ifndef WARP_SOFTMAX_H
#include "warp_softmax.h"
#endif
#ifndef WARP_PRODUCTS_H
#include "warp_products.h"
#endif
#if USE_MMA && !defined(DECODE_MMA_H)
#include "decode_mma.h"
#endif
#if !USE_MMA && !defined(DECODE_VECTOR_H)
#include "decode_vector.h"
#endif
#if SPLITS > 1 && !defined(COMBINE_H)
#include "combine.h"
#endif

// ---- From global memory to a warp's ring

// A head of K and V of a sequence: key 0 of it, or of page 0.
struct Source {
    const STORED_KV *k, *v;
    const int *pages;
    int end;  // no key from here on is read
};

// The page of key `tile_key` + lane, for the copy of that tile.
FUNCTION int look_up(const Source &source, int tile_key)
{
#if PAGE_SIZE
    const int key = tile_key + LOCAL_ID(0) % 32;
    return key < source.end ? source.pages[(unsigned)key / PAGE_SIZE] : 0;
#else
    return 0;
#endif
}

// A tile of K or V, lines of LENGTH elements and zeros to WIDTH, by the threads of a ring. Where a
// line lies in its page is known to lane `line`.
template <int WIDTH, int LENGTH, int COPY, int ROW_STRIDE, int PAGE_STRIDE>
FUNCTION void copy_tile(unsigned char *tile, const STORED_KV *from, int tile_key, int end, int page)
{
    const int step = COPY / STORED_KV_BYTES, pieces = WIDTH / step;  // elements; of a line
    const int thread = LOCAL_ID(0) % RING_THREADS;
    const bool in_columns = RING_THREADS % pieces == 0;  // a thread's pieces are, then
#if PAGE_SIZE
    const unsigned in_page = (unsigned)(tile_key + LOCAL_ID(0) % 32) % PAGE_SIZE;
    const OFFSET own = (OFFSET)page * PAGE_STRIDE + (OFFSET)in_page * ROW_STRIDE;
#else
    from += (OFFSET)(tile_key + (in_columns ? thread / pieces : 0)) * ROW_STRIDE;
#endif
    if (in_columns) from += thread % pieces * step;
#pragma unroll
    for (int at = 0; at < TILE_KEYS * pieces; at += RING_THREADS) {
        const int line = in_columns ? at / pieces + thread / pieces : (at + thread) / pieces;
        const int element = (in_columns ? thread : at + thread) % pieces * step;
#if PAGE_SIZE
        const OFFSET row = __shfl_sync(ALL_LANES, own, line % 32);
#else
        const OFFSET row = (OFFSET)(in_columns ? at / pieces : line) * ROW_STRIDE;
#endif
        if (TILE_KEYS * pieces % RING_THREADS != 0 && line >= TILE_KEYS) continue;
        const bool inside = tile_key + line < end && (LENGTH == WIDTH || element < LENGTH);
        unsigned char *to = tile + element_offset<WIDTH, STORED_KV_BYTES>(line, element);
        copy_async<COPY>(shared_address(to), from + row + (in_columns ? 0 : element), inside);
    }
}

FUNCTION void copy_keys_and_values(unsigned char *stage, const Source &source, int tile_key,
                                   int page)
{
    copy_tile<QK_WIDTH, HEAD_DIM, K_COPY, K_ROW_STRIDE, K_PAGE_STRIDE>(stage, source.k, tile_key,
                                                                       source.end, page);
    copy_tile<V_WIDTH, V_DIM, V_COPY, V_ROW_STRIDE, V_PAGE_STRIDE>(
        stage + K_TILE_BYTES, source.v, tile_key, source.end, page);
}

// All that share a ring have copied, and used, what they should.
FUNCTION void meet_at_ring()
{
    if (WARPS_ROWS == 1)
        __syncwarp();
    else
        __syncthreads();
}

// ---- Which keys are whose

// Tiles of a block: `count` from `first` on.
struct Cut {
    int first, count;
};

FUNCTION Cut cut_of(int cut, int first_seen, int end_seen)
{
    const int first = first_seen / BLOCK_KEYS;
    const int tiles = end_seen > first_seen ? (end_seen + BLOCK_KEYS - 1) / BLOCK_KEYS - first : 0;
    const int size = (MOST_TILES + CUTS - 1) / CUTS;
    const int start = EVEN_PARTS ? (int)((unsigned)tiles * cut / CUTS) : cut * size;
    const int stop = EVEN_PARTS ? (int)((unsigned)tiles * (cut + 1) / CUTS) : start + size;
    const Cut result = {first + start, (stop < tiles ? stop : tiles) - start};
    return result;
}

// ---- The sums of warps, merged

// What the warps of a block shared.
struct OfWarps {
    static const int COUNT = WARPS_KEYS;
    const float *parts;
    const Mark *marks;

    FUNCTION const float *part(int i, int row) const
    {
        return parts + (i * KEPT_ROWS + row) * PITCH;
    }
    FUNCTION Mark mark(int i, int row) const { return marks[i * KEPT_ROWS + row]; }
};

// Of a row, over all that shared it.
template <typename SHARES> FUNCTION Mark merged(const SHARES &shares, int row)
{
    Mark total = {MINUS_INFINITY, 0.0f};
#pragma unroll
    for (int i = 0; i < SHARES::COUNT; i++)
        total.base = fmaxf(total.base, shares.mark(i, row).base);
    if (total.base == MINUS_INFINITY) return total;
#pragma unroll
    for (int i = 0; i < SHARES::COUNT; i++) {
        const Mark mark = shares.mark(i, row);
        total.sum += mark.sum * exp2_special(mark.base - total.base);
    }
    return total;
}

// Four neighbours of a row's output, relative to `base`.
template <typename SHARES>
FUNCTION float4 merged_values(const SHARES &shares, int row, int x, float base)
{
    float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (base == MINUS_INFINITY) return total;
#pragma unroll
    for (int i = 0; i < SHARES::COUNT; i++) {
        const float scale = exp2_special(shares.mark(i, row).base - base);
        const float4 part = *(const float4 *)(shares.part(i, row) + x);
        total.x += part.x * scale, total.y += part.y * scale;
        total.z += part.z * scale, total.w += part.w * scale;
    }
    return total;
}

#if CLUSTER > 1
// ---- Blocks of a cluster read each other's shared memory (sm_90 on; PTX ISA 8.5: mapa)

// All threads of the cluster meet; what they have written is seen by all.
FUNCTION void meet_in_cluster()
{
    asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}

// What the block's warps found, in the place of the first one's; nobody else reads that.
FUNCTION void merge_block(float *parts, Mark *totals, const OfWarps &of_warps, int block_rows)
{
    for (int at = LOCAL_ID(0) * 4; at < block_rows * V_DIM; at += THREADS * 4) {
        const int row = at / V_DIM, x = at % V_DIM;
        const Mark total = merged(of_warps, row);
        *(float4 *)(parts + row * PITCH + x) = merged_values(of_warps, row, x, total.base);
        if (x == 0) totals[row] = total;
    }
}

// The same place in the shared memory of block `rank` of the cluster.
template <typename T> FUNCTION const T *of_block(const T *pointer, int rank)
{
    const T *there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(pointer), "r"(rank));
    return there;
}

// What each block of the cluster merged.
struct OfBlocks {
    static const int COUNT = CLUSTER;
    const float *parts;
    const Mark *marks;

    FUNCTION const float *part(int i, int row) const { return of_block(parts, i) + row * PITCH; }
    FUNCTION Mark mark(int i, int row) const { return of_block(marks, i)[row]; }
};
#define IN_CLUSTERS __cluster_dims__(CLUSTER, 1, 1)
#else
#define IN_CLUSTERS
#endif

// ---- The kernel

#if SPLITS > 1
#define RESULT float *RESTRICT partial_out, float *RESTRICT partial_sums

// What a part of the keys gives for a row, see combine.h: `sums` is where that stands.
FUNCTION void store_mark(float *sums, const Mark &mark) { sums[0] = mark.base, sums[1] = mark.sum; }
#else
#define RESULT STORED *RESTRICT out LSE_PARAMETER

// Four neighbours of the output.
FUNCTION void store_scaled(STORED *to, const float4 &values, float scale)
{
    const unsigned words[2] = {packed(values.x * scale, values.y * scale),
                               packed(values.z * scale, values.w * scale)};
    store_words(to, words);
}
#endif

KERNEL IN_CLUSTERS __launch_bounds__(THREADS, RESIDENT) void attend(
    const STORED *RESTRICT q, const STORED_KV *RESTRICT k,
    const STORED_KV *RESTRICT v INPUT_PARAMETERS, RESULT)
{
    extern __shared__ __align__(128) unsigned char shared[];

    const int cut = GROUP_ID(0) % CUTS, kv_head = GROUP_ID(0) / CUTS % KV_HEADS;
    const int block_row = GROUP_ID(0) / CUTS / KV_HEADS * BLOCK_ROWS;
    const Sequence s = SEQUENCE(GROUP_ID(1));
    const int rows_left = s.queries * ROW_HEADS - block_row;
    if (VARLEN_Q && rows_left <= 0) return;
    const int block_rows = rows_left < BLOCK_ROWS ? rows_left : BLOCK_ROWS;

    const int warp = LOCAL_ID(0) / 32, warp_keys = warp / WARPS_ROWS;
    const int warp_row = warp % WARPS_ROWS * WARP_ROWS, head = kv_head * ROW_HEADS;
    const Place place = place_of(s, head, block_row + warp_row);
    const int end = end_key(s, (block_row + block_rows - 1) / ROW_HEADS);
    const Cut own = cut_of(cut, first_key(s, block_row / ROW_HEADS), end);
#if SPLITS > 1 && CLUSTER == 1
    if (own.count <= 0) {  // nothing to read, nor to wait for
        const Mark nothing = {MINUS_INFINITY, 0.0f};
        for (int row = block_row + LOCAL_ID(0); row < block_row + block_rows; row += THREADS) {
            const OFFSET at = lse_offset(s, head + row % ROW_HEADS, row / ROW_HEADS);
            store_mark(partial_sums + partial_offset(at, cut) * 2, nothing);
        }
        return;
    }
#endif
#if PAGE_SIZE
    const Source source = {k + (OFFSET)kv_head * K_HEAD_STRIDE, v + (OFFSET)kv_head * V_HEAD_STRIDE,
                           s.pages, end};
#else
    const Source source = {k + k_offset(s, kv_head, 0), v + v_offset(s, kv_head, 0), 0, end};
#endif

    // Tiles on their way, before all else.
    unsigned char *const ring = shared + Q_TILE_BYTES + warp_keys * STAGES * STAGE_BYTES;
    const int first_tile_key = own.first * BLOCK_KEYS + warp_keys * TILE_KEYS;
#define KEY_OF(step) (first_tile_key + (step) * BLOCK_KEYS)
    const QueryLines<ROW_HEADS> q_lines = {q, s, head, block_row};
    if (!Q_REGISTERS) fetch<THREADS, BLOCK_ROWS, QK_WIDTH, HEAD_DIM, 16>(shared, q_lines);
    int pages[STAGES];
#pragma unroll
    for (int stage = 0; stage < STAGES; stage++) pages[stage] = look_up(source, KEY_OF(stage));
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage < own.count)
            copy_keys_and_values(ring + stage * STAGE_BYTES, source, KEY_OF(stage), pages[stage]);
        copy_commit();
    }
    int page = pages[STAGES - 1];

    Found found;
    begin(found);
    BIASES_OF(found.biases, place);
    if (Q_REGISTERS) {
        read_queries(found, q_lines, warp_row);
    } else {
        copy_wait<STAGES - 2>();  // it came with the first tile
        __syncthreads();
    }

    const float score_factor = SCORE_FACTOR, factor = LATE_FACTOR ? score_factor : 1.0f;
    int stage = 0, before = STAGES - 1;
    for (int step = 0; step < own.count; step++) {
        copy_wait<STAGES - 2>();
        meet_at_ring();
        if (step + STAGES - 1 < own.count)
            copy_keys_and_values(ring + before * STAGE_BYTES, source, KEY_OF(step + STAGES - 1),
                                 page);
        copy_commit();
        page = look_up(source, KEY_OF(step + STAGES));
        if (sees(place, KEY_OF(step)))
            take_tile(found, place, shared, warp_row, ring + stage * STAGE_BYTES, KEY_OF(step),
                      score_factor, factor);
        before = stage;
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }

    // What the warps found takes the place of the tiles.
    copy_wait<0>();
    __syncthreads();
    float *const parts = (float *)shared;  // WARPS_KEYS x KEPT_ROWS x PITCH
    Mark *const marks = (Mark *)(parts + WARPS_KEYS * KEPT_ROWS * PITCH);
    share(parts + warp_keys * KEPT_ROWS * PITCH, marks + warp_keys * KEPT_ROWS, warp_row, found,
          factor);
    __syncthreads();
    const OfWarps of_warps = {parts, marks};
#if CLUSTER > 1
    Mark *const totals = marks + WARPS_KEYS * KEPT_ROWS;
    merge_block(parts, totals, of_warps, block_rows);
    meet_in_cluster();
    const OfBlocks shares = {parts, totals};
#else
    const OfWarps &shares = of_warps;
#endif
    const int first = (GROUP_ID(0) % CLUSTER * THREADS + LOCAL_ID(0)) * 4;
    for (int at = first; at < block_rows * V_DIM; at += CLUSTER * THREADS * 4) {
        const int row = at / V_DIM, x = at % V_DIM;
        const int query = (block_row + row) / ROW_HEADS;
        const int row_head = head + (block_row + row) % ROW_HEADS;
        const Mark total = merged(shares, row);
        const float4 values = merged_values(shares, row, x, total.base);
#if SPLITS > 1
        const size_t result = partial_offset(lse_offset(s, row_head, query), cut / CLUSTER);
        if (x == 0) store_mark(partial_sums + result * 2, total);
        if (total.sum > 0.0f) *(float4 *)(partial_out + result * V_DIM + x) = values;
#else
        store_scaled(out + out_offset(s, row_head, query) + x, values,
                     total.sum > 0.0f ? VALUE_FACTOR / total.sum : 0.0f);
#if LSE
        if (x == 0) lse[lse_offset(s, row_head, query)] = natural_lse(total.base, total.sum);
#endif
#endif
    }
#if CLUSTER > 1
    meet_in_cluster();  // nobody leaves whom others still read
#endif
}
