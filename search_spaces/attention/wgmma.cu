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
#include "wgmma_load.h"
#include "wgmma_consumer.h"
#endif

// ---- The schedule: what the headers do not know

#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit of the GPU
#endif
#ifndef LOADER_REGISTERS
#define LOADER_REGISTERS 24     // registers of a thread that loads, and of one that multiplies;
#define CONSUMER_REGISTERS 240  // 0 leaves what the launch gives
#endif

#define THREADS (128 * (1 + CONSUMERS))

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

#define ALWAYS (!MASKED && !VARLEN_Q && !VARLEN_KV)  // whether every unit has keys

struct Work {
    Unit unit;
    Sequence s;
    Span span;  // of keys; none where there is nothing to attend to, or no such unit

    FUNCTION bool any() const { return span.first < span.end; }
};

FUNCTION Work work_of(int cluster, int turn, int rank INPUT_PARAMETERS)
{
    const int index = unit_index(cluster, turn);
    Work work;
    work.unit = unit_of(smaller(index, UNITS - 1), rank);
    work.s = SEQUENCE(work.unit.batch);
    work.span = span_of(work.unit, work.s);
    if (CLUSTERS == UNITS && turn > 0 || index >= UNITS) work.span = {0, 0};
    return work;
}

// The first scores of a unit are computed beside the last product of the one before.
FUNCTION void consume(const Memory &memory, int index, int cluster, int rank INPUT_PARAMETERS,
                      OUTPUT)
{
    const int warp = threadIdx.x / 32 % 4, warp_row = index * 64 + warp * 16;
    const unsigned buffers = memory.staging + (index * 4 + warp) * BUFFERS * PIECE_BYTES;
    Consumer consumer(memory, index);
#if STORE_TMA
    if (threadIdx.x % 32 == 0) map_acquire(out_map);
#endif
    if (PINGPONG && index == CONSUMERS - 1) consumer.pass_turn();
    Work work = work_of(cluster, 0, rank INPUT_ARGUMENTS);
    if (ALWAYS || work.any()) consumer.first_scores(false);
#pragma unroll 1
    for (int turn = 0; unit_index(cluster, turn) < UNITS; turn++) {
        Softmax softmax;
        const Work next = work_of(cluster, turn + 1, rank INPUT_ARGUMENTS);
        if (ALWAYS || work.any()) {
            const Rows rows =
                rows_of(work.unit, work.s, warp_row + threadIdx.x % 32 / 4 INPUT_ARGUMENTS);
            const Span whole = whole_of(work.unit, work.s, warp_row, 16);
            consumer.attend(softmax, rows, work.span, whole, work.s INPUT_ARGUMENTS);
            if (next.any())
                consumer.first_scores(true);
            else
                consumer.end_out<0>();
        } else {
            consumer.clear();
            if (next.any()) consumer.first_scores(false);
        }
        finish(consumer.out, softmax, work.unit, work.s, warp_row, buffers INPUT_ARGUMENTS,
               OUTPUT_ARGUMENTS);
        work = next;
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
        if (threadIdx.x < LOADING_LANES)
            load(q_map, k_map, v_map, memory, cluster, rank INPUT_ARGUMENTS);
    } else {
#if CONSUMER_REGISTERS
        registers_take<CONSUMER_REGISTERS>();
#endif
        consume(memory, warpgroup - 1, cluster, rank INPUT_ARGUMENTS, OUTPUT_ARGUMENTS);
    }
    if (CLUSTER_M > 1) cluster_meet();  // none leaves while others still write to it
}
