// Attention on Hopper's tensor cores (sm_90a): TMA loads, asynchronous warpgroup products, and
// softmax of one warpgroup under the products of another (FlashAttention-3, arXiv:2407.08608).
//
// A block is one warpgroup that loads and CONSUMERS that multiply, each 64 rows of queries. The
// loader brings a tile of Q, then tiles of K and of V, into shared memory by TMA; each has a `full`
// barrier, which tells the consumers, and an `empty` one, which tells the loader. Consumers keep
// scores, weights and sums in registers: weights are the left operand of the second product.
// Tiles of keys are walked from the last to the first, so that masks come at the beginning. With
// OVERLAP the products of the next scores are under way beside those with the values, so that the
// next softmax need not wait; with PINGPONG consumers besides take turns to issue products.
// In a cluster each block loads a part of every tile of K and V, which the hardware copies to all.
//
//   attention:  blocks CLUSTERS * CLUSTER_M; writes the output, and lse if there is one, or parts of them, which
//               `combine` merges

#ifndef KERNEL
#include "../dialects/cuda.h"
#include "../dialects/hopper.h"
#include "wgmma_instructions.h"
#include "sequence.h"
#undef STORED
#define STORED ushort  // bfloat16
#include "wgmma_tiles.h"
#include "wgmma_softmax.h"
#include "wgmma_store.h"
#endif

// ---- The schedule: what the headers do not know

#ifndef OVERLAP
#define OVERLAP 1  // 1: the next scores are computed beside the product with the values
#endif
#ifndef PINGPONG
#define PINGPONG 1  // 1: consumers take turns to issue products
#endif
#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit of the GPU
#endif
#ifndef LOADER_REGISTERS
#define LOADER_REGISTERS 24     // registers of a thread that loads, and of one that multiplies;
#define CONSUMER_REGISTERS 240  // 0 leaves what the launch gives
#endif
#ifndef PAGE_ROWS
#define PAGE_ROWS 0  // rows of a page that one copy loads
#define PAGES 0
#endif

// ---- What follows from these

#define THREADS (128 * (1 + CONSUMERS))
#define LINE_BYTES 128  // of a panel of 64 columns, in shared memory
#define Q_PANELS CEIL_DIVIDE(HEAD_DIM, 64)
#define Q_SLICES CEIL_DIVIDE(HEAD_DIM, 16)  // products along a row
#define QUERY_BYTES (Q_PANELS * TILE_M * LINE_BYTES)
#define KEY_BYTES (Q_PANELS * TILE_N * LINE_BYTES)
#define VALUE_BYTES (V_PANELS * TILE_N * LINE_BYTES)
#define LOADED (QUERY_REGISTERS ? 4 * Q_SLICES : 1)
#define TURN_BARRIER 1               // and one more for each further consumer
#define OWN_BARRIER (1 + CONSUMERS)  // the same

#if SPLITS > 1
#define OUTPUT float *RESTRICT partial_out, float *RESTRICT partial_sums
#define OUTPUT_ARGUMENTS partial_out, partial_sums
#elif STORE_TMA
#define OUTPUT const TensorMap *RESTRICT out_map, STORED *RESTRICT out LSE_PARAMETER
#define OUTPUT_ARGUMENTS out_map, out LSE_ARGUMENT
#else
#define OUTPUT STORED *RESTRICT out LSE_PARAMETER
#define OUTPUT_ARGUMENTS out LSE_ARGUMENT
#endif

// ---- Shared memory

struct Ring {
    unsigned tiles, full, empty;  // addresses of the first of each

    FUNCTION unsigned full_of(Slot slot) const { return full + 8 * slot.stage; }
    FUNCTION unsigned empty_of(Slot slot) const { return empty + 8 * slot.stage; }
};

struct Memory {
    unsigned queries, query_full, query_empty, staging;
    Ring keys, values;

    FUNCTION Memory(unsigned first)
    {
        queries = first;
        keys.tiles = queries + QUERY_BYTES;
        values.tiles = keys.tiles + STAGES * KEY_BYTES;
        staging = values.tiles + STAGES * VALUE_BYTES;
        query_full = staging + STAGING_BYTES;
        query_empty = query_full + 8;
        keys.full = query_full + 16;
        keys.empty = keys.full + 8 * STAGES;
        values.full = keys.empty + 8 * STAGES;
        values.empty = values.full + 8 * STAGES;
    }

    FUNCTION void init() const
    {
        barrier_init(query_full, 1);
        barrier_init(query_empty, CONSUMERS);
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(keys.full + 8 * stage, 1);
            barrier_init(keys.empty + 8 * stage, CLUSTER_M * CONSUMERS);
            barrier_init(values.full + 8 * stage, 1);
            barrier_init(values.empty + 8 * stage, CLUSTER_M * CONSUMERS);
        }
        barriers_publish();
    }
};

// ---- Loads; boxes outside of the arrays arrive as zeros

struct Loader {
    const Memory &memory;
    const TensorMap *q_map, *k_map, *v_map;
    int rank;  // of the block in its cluster
    Slot keys, values;

    FUNCTION void load_queries(const Unit &unit, const Sequence &s, int phase) const
    {
        barrier_wait(memory.query_empty, phase);
        barrier_expect(memory.query_full, QUERY_BYTES);
#pragma unroll
        for (int panel = 0; panel < Q_PANELS; panel++)
            tma_load(memory.queries + panel * TILE_M * LINE_BYTES, q_map, memory.query_full,
                     panel * 64, 0, s.first_query + unit.row / PACK, unit.head,
                     PACKED ? 0 : s.index);
    }

    // Rows of a panel of K or V from row `first` of a tile on.
    FUNCTION void load_panel(unsigned tile_place, const TensorMap *map, unsigned full, int panel,
                             int first, int row, int head, int sequence) const
    {
        const unsigned to = tile_place + (panel * TILE_N + first) * LINE_BYTES;
        if (CLUSTER_M == 1)
            tma_load(to, map, full, panel * 64, row, head, sequence);
        else
            tma_multicast(to, map, full, panel * 64, row, head, sequence, (1 << CLUSTER_M) - 1);
    }

    // A tile of K or V, of which a row is `panels` panels, into the next stage of its ring; in a
    // cluster, this block's share of it, for all.
    FUNCTION void load_tile(const TensorMap *map, const Ring &ring, Slot &slot, const int panels,
                            const Unit &unit, const Sequence &s, int tile) const
    {
        const unsigned to = ring.tiles + slot.stage * (panels * TILE_N * LINE_BYTES);
        const unsigned full = ring.full_of(slot);
        barrier_wait(ring.empty_of(slot), slot.phase);
        barrier_expect(full, panels * TILE_N * LINE_BYTES);
#if PAGE_SIZE
#pragma unroll 1
        for (int row = 0; row < TILE_N; row += PAGE_ROWS) {
            const int key = tile * TILE_N + row;
            const int page = key < s.keys ? s.pages[key / PAGE_SIZE] : PAGES;  // there is no such
#pragma unroll
            for (int panel = 0; panel < panels; panel++)
                load_panel(to, map, full, panel, row, key % PAGE_SIZE, kv_head_of(unit), page);
        }
#else
        const int first = rank * (TILE_N / CLUSTER_M);
#pragma unroll
        for (int panel = 0; panel < panels; panel++)
            load_panel(to, map, full, panel, first, s.first_key + tile * TILE_N + first,
                       kv_head_of(unit), PACKED_KV ? 0 : s.index);
#endif
        slot = next_slot(slot);
    }

    FUNCTION void load_keys(const Unit &unit, const Sequence &s, int tile)
    {
        load_tile(k_map, memory.keys, keys, Q_PANELS, unit, s, tile);
    }

    FUNCTION void load_values(const Unit &unit, const Sequence &s, int tile)
    {
        load_tile(v_map, memory.values, values, V_PANELS, unit, s, tile);
    }
};

// In the order in which consumers ask for them; keys before Q, which is awaited longer.
FUNCTION void load(const TensorMap *q_map, const TensorMap *k_map, const TensorMap *v_map,
                   const Memory &memory, int cluster, int rank INPUT_PARAMETERS)
{
    Loader loader = {memory, q_map, k_map, v_map, rank, {0, 1}, {0, 1}};
    int query_phase = 1;
#pragma unroll 1
    for (int turn = 0; unit_index(cluster, turn) < UNITS; turn++) {
        const Unit unit = unit_of(unit_index(cluster, turn), rank);
        const Sequence s = SEQUENCE(unit.batch);
        const Span span = span_of(unit, s);
        if (span.first == span.end) continue;
        loader.load_keys(unit, s, span.end - 1);
        loader.load_queries(unit, s, query_phase);
        query_phase ^= 1;
#pragma unroll 1
        for (int tile = span.end - 1; tile >= span.first; tile--) {
            const bool more = tile > span.first;
            if (OVERLAP && more) loader.load_keys(unit, s, tile - 1);
            loader.load_values(unit, s, tile);
            if (!OVERLAP && more) loader.load_keys(unit, s, tile - 1);
        }
    }
}

// ---- Products

FUNCTION unsigned low_word(unsigned tile, int panel_bytes)
{
    return (tile & 0x3FFFF) >> 4 | panel_bytes >> 4 << 16;
}

// Sixteenths of bytes from the beginning of a tile of `rows` rows to 16 columns of it.
FUNCTION int slice_of_row(const int slice, const int rows)
{
    return (slice / 4 * rows * LINE_BYTES + slice % 4 * 32) >> 4;
}

struct Consumer {
    const Memory &memory;
    int index;
    Slot keys, values;
    unsigned loaded[LOADED];  // of Q, if QUERY_REGISTERS
    float scores[SCORES];
    unsigned weights[WEIGHTS];
    float out[OUTS];

    FUNCTION Consumer(const Memory &memory, int index)
        : memory(memory), index(index), keys{0, 0}, values{0, 0}
    {
    }

    // One thread of a consumer speaks for all: products are awaited by the whole warpgroup.
    FUNCTION void release(unsigned empty) const
    {
        if (threadIdx.x % 128 == 0) barrier_arrive(empty);
    }

    // A stage, to every block of the cluster, as all of them write to it.
    FUNCTION void release_stage(unsigned empty) const
    {
        const int lane = threadIdx.x % 128;
        if (CLUSTER_M == 1) release(empty);
        if (CLUSTER_M > 1 && lane < CLUSTER_M) barrier_arrive_at(empty, lane);
    }

    FUNCTION void await_turn() const
    {
        if (PINGPONG) named_barrier_meet(TURN_BARRIER + index, 256);
    }

    FUNCTION void pass_turn() const
    {
        const int next = index + 1 == CONSUMERS ? 0 : index + 1;
        if (PINGPONG) named_barrier_arrive(TURN_BARRIER + next, 256);
    }

    FUNCTION void take_queries()
    {
#if QUERY_REGISTERS
        const int lane = threadIdx.x % 32, row = index * 64 + threadIdx.x / 32 % 4 * 16 + lane % 16;
#pragma unroll
        for (int slice = 0; slice < Q_SLICES; slice++) {
            const int unit = slice % 4 * 2 + lane / 16;
            load_matrices(loaded + 4 * slice,
                          memory.queries + slice / 4 * TILE_M * LINE_BYTES + staged(row, unit));
        }
        named_barrier_meet(OWN_BARRIER + index, 128);
        release(memory.query_empty);
#endif
    }

    FUNCTION void release_queries() const
    {
        if (!QUERY_REGISTERS) release(memory.query_empty);
    }

    // scores = Q K of the next tile, under way.
    FUNCTION void begin_scores()
    {
        const unsigned left = low_word(memory.queries + index * 64 * LINE_BYTES, 16);
        const unsigned right = low_word(memory.keys.tiles + keys.stage * KEY_BYTES, 16);
        products_begin();
#pragma unroll
        for (int slice = 0; slice < Q_SLICES; slice++) {
            const Descriptor key = descriptor(right + slice_of_row(slice, TILE_N));
#if QUERY_REGISTERS
            multiply_scores(scores, loaded + 4 * slice, key, slice);
#else
            multiply_scores(scores, descriptor(left + slice_of_row(slice, TILE_M)), key, slice);
#endif
        }
        products_commit();
    }

    // out += weights V of the next tile, under way.
    FUNCTION void begin_out()
    {
        const unsigned right =
            low_word(memory.values.tiles + values.stage * VALUE_BYTES, TILE_N * LINE_BYTES);
        products_begin();
#pragma unroll
        for (int slice = 0; slice < TILE_N / 16; slice++)
            multiply_out(out, weights + 4 * slice,
                         descriptor(right + (slice * 16 * LINE_BYTES >> 4)), 1);
        products_commit();
    }

    // PENDING groups of products, later ones, stay under way.
    template <int PENDING> FUNCTION void end_scores()
    {
        products_wait<PENDING>();
        settle(scores);
        release_stage(memory.keys.empty_of(keys));
        keys = next_slot(keys);
    }

    FUNCTION void end_out()
    {
        products_wait<0>();
        settle(out);
        settle(weights);
        release_stage(memory.values.empty_of(values));
        values = next_slot(values);
    }

    FUNCTION void await_keys() const { barrier_wait(memory.keys.full_of(keys), keys.phase); }

    // Rows behind the last key may hold anything, and 0 times anything is not always 0.
    FUNCTION void await_values(const Sequence &s, int tile) const
    {
        barrier_wait(memory.values.full_of(values), values.phase);
#if VARLEN_KV
        const int kept = s.keys - tile * TILE_N;
        if (kept >= TILE_N) return;
        const unsigned first = memory.values.tiles + values.stage * VALUE_BYTES + kept * LINE_BYTES;
#pragma unroll
        for (int panel = 0; panel < V_PANELS; panel++)
#pragma unroll 1
            for (int at = threadIdx.x % 128 * 16; at < (TILE_N - kept) * LINE_BYTES; at += 2048)
                *(uint4 *)__cvta_shared_to_generic(first + panel * TILE_N * LINE_BYTES + at) =
                    make_uint4(0, 0, 0, 0);
        tma_publish();
        named_barrier_meet(OWN_BARRIER + index, 128);
#endif
    }

    // The compiler moves a wait for products up past arithmetic that does not need them, and so
    // would await the product with the values before the softmax that is to run beside it. It does
    // not where a loop that needs the softmax stands between: here one that is left at once, as the
    // values are there.
    FUNCTION void hold_order(const Softmax &softmax) const
    {
        barrier_wait_after(memory.values.full_of(values), values.phase,
                           softmax.total[0] + softmax.total[1]);
    }

    // Scores of a tile become weights in `scores`.
    FUNCTION void soften(Softmax &softmax, const Rows &rows, const Span &whole, const Sequence &s,
                         int tile INPUT_PARAMETERS)
    {
        finish_scores(scores, rows, s, tile * TILE_N, tile >= whole.first && tile < whole.end
                      INPUT_ARGUMENTS);
        raise(softmax, scores);
        weigh(softmax, scores);
    }

    // All tiles of keys of a unit: its sums, not yet divided by those of the weights.
    FUNCTION void attend(Softmax &softmax, const Rows &rows, const Span &span, const Span &whole,
                         const Sequence &s INPUT_PARAMETERS)
    {
        int tile = span.end - 1;
#if OVERLAP
        await_keys();
        begin_scores();
        end_scores<0>();
        soften(softmax, rows, whole, s, tile INPUT_ARGUMENTS);
        pack(weights, scores);
#pragma unroll 1
        for (; tile > span.first; tile--) {
            await_keys();
            await_turn();
            begin_scores();
            await_values(s, tile);
            begin_out();
            pass_turn();
            end_scores<1>();
            soften(softmax, rows, whole, s, tile - 1 INPUT_ARGUMENTS);
            hold_order(softmax);
            end_out();
            pack(weights, scores);
            rescale(out, softmax);
        }
        release_queries();
        await_values(s, tile);
        begin_out();
        end_out();
#else
#pragma unroll 1
        for (; tile >= span.first; tile--) {
            await_keys();
            begin_scores();
            end_scores<0>();
            if (tile == span.first) release_queries();
            soften(softmax, rows, whole, s, tile INPUT_ARGUMENTS);
            pack(weights, scores);
            rescale(out, softmax);
            await_values(s, tile);
            begin_out();
            end_out();
        }
#endif
    }
};

// ---- Units

FUNCTION Rows rows_of(const Unit &unit, const Sequence &s, int row INPUT_PARAMETERS)
{
    Rows rows;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        rows.query[r] = smaller(query_of(unit, row + 8 * r), s.queries - 1);
        rows.first[r] = first_key(s, rows.query[r]);
        rows.end[r] = end_key(s, rows.query[r]);
        rows.bias[r] = BIAS_OF(s, head_of(unit, row + 8 * r));
    }
    return rows;
}

// Divides the sums of a warp's 16 rows by their weights' and stores them, and lse.
FUNCTION void finish(const float (&sums)[OUTS], const Softmax &softmax, const Unit &unit,
                     const Sequence &s, int warp_row, unsigned buffers INPUT_PARAMETERS, OUTPUT)
{
    const int row = warp_row + threadIdx.x % 32 / 4;
    const float total[2] = {of_quad_sum(softmax.total[0]), of_quad_sum(softmax.total[1])};
#if SPLITS > 1
    const float highest[2] = {softmax.highest[0] * EXPONENT, softmax.highest[1] * EXPONENT};
    store_partial(sums, highest, total, unit, s, row, partial_out, partial_sums);
#else
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        factor[r] = total[r] > 0.0f ? VALUE_FACTOR / total[r] : 0.0f;
#if LSE
        const int query = query_of(unit, row + 8 * r), head = head_of(unit, row + 8 * r);
        if (threadIdx.x % 4 == 0 && query < s.queries)
            lse[lse_offset(s, head, query)] =
                natural_lse(softmax.highest[r] * EXPONENT, total[r]);
#endif
    }
#if STORE_TMA
    const bool inside = !PACKED || query_of(unit, warp_row + 15) < s.queries;  // TMA stores them all
    if (inside) store_staged(sums, factor, unit, s, warp_row, out_map, buffers);
    if (PACKED && !inside) store_direct(sums, factor, unit, s, row, out);
#else
    store_direct(sums, factor, unit, s, row, out);
#endif
#endif
}

FUNCTION void consume(const Memory &memory, int index, int cluster, int rank INPUT_PARAMETERS,
                      OUTPUT)
{
    const int warp = threadIdx.x / 32 % 4, warp_row = index * 64 + warp * 16;
    const unsigned buffers = memory.staging + (index * 4 + warp) * BUFFERS * PIECE_BYTES;
    Consumer consumer(memory, index);
    int query_phase = 0;
    if (PINGPONG && index == CONSUMERS - 1) consumer.pass_turn();
#pragma unroll 1
    for (int turn = 0; unit_index(cluster, turn) < UNITS; turn++) {
        const Unit unit = unit_of(unit_index(cluster, turn), rank);
        const Sequence s = SEQUENCE(unit.batch);
        const Span span = span_of(unit, s);
        Softmax softmax;
#pragma unroll
        for (int i = 0; i < OUTS; i++) consumer.out[i] = 0.0f;
        if (span.first < span.end) {
            const Rows rows =
                rows_of(unit, s, warp_row + threadIdx.x % 32 / 4 INPUT_ARGUMENTS);
            barrier_wait(memory.query_full, query_phase);
            query_phase ^= 1;
            consumer.take_queries();
            consumer.attend(softmax, rows, span, whole_of(unit, s, warp_row, 16),
                            s INPUT_ARGUMENTS);
        }
        finish(consumer.out, softmax, unit, s, warp_row, buffers INPUT_ARGUMENTS, OUTPUT_ARGUMENTS);
    }
#if STORE_TMA
    if (threadIdx.x % 32 == 0) tma_await_reads<0>();
#endif
}

// ---- The kernel

KERNEL __launch_bounds__(THREADS, RESIDENT)
#if CLUSTER_M > 1
    __cluster_dims__(CLUSTER_M, 1, 1)
#endif
    void attention(const TensorMap *RESTRICT q_map, const TensorMap *RESTRICT k_map,
                   const TensorMap *RESTRICT v_map INPUT_PARAMETERS, OUTPUT)
{
    extern __shared__ char dynamic_memory[];
    const unsigned first =  // from one lane: descriptors are then computed once for a warp
        __shfl_sync(0xFFFFFFFF, (unsigned)__cvta_generic_to_shared(dynamic_memory), 0);
    const Memory memory((first + 1023) / 1024 * 1024);  // swizzle repeats every 1024 bytes

    const int cluster = blockIdx.x / CLUSTER_M, rank = blockIdx.x % CLUSTER_M;

    if (threadIdx.x == 0) memory.init();
    if (CLUSTER_M > 1)
        cluster_meet();
    else
        __syncthreads();

    const int warpgroup = __shfl_sync(0xFFFFFFFF, threadIdx.x / 128, 0);
    if (warpgroup == 0) {
#if LOADER_REGISTERS
        registers_give<LOADER_REGISTERS>();
#endif
        if (threadIdx.x == 0) load(q_map, k_map, v_map, memory, cluster, rank INPUT_ARGUMENTS);
    } else {
#if CONSUMER_REGISTERS
        registers_take<CONSUMER_REGISTERS>();
#endif
        consume(memory, warpgroup - 1, cluster, rank INPUT_ARGUMENTS, OUTPUT_ARGUMENTS);
    }
    if (CLUSTER_M > 1) cluster_meet();  // none leaves while others still write to it
}
