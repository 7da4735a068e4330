// A warpgroup that multiplies: 64 rows of a tile of Q against all tiles of K and V that they see.
//
// Stands after wgmma_load.h.

#ifndef WGMMA_CONSUMER_H
#define WGMMA_CONSUMER_H

#ifndef PINGPONG
#define PINGPONG 1  // 1: consumers take turns to issue products
#endif

#define Q_SLICES CEIL_DIVIDE(HEAD_DIM, 16)  // products along a row
#define LOADED (QUERY_REGISTERS ? 4 * Q_SLICES : 1)
#define TURN_BARRIER 1               // and one more for each further consumer
#define OWN_BARRIER (1 + CONSUMERS)  // the same

// Of a descriptor, for a tile at that address; `panel_bytes` from a panel to the next where products
// take columns across lines, else 16.
FUNCTION unsigned low_word(unsigned tile, int panel_bytes)
{
    return (tile & 0x3FFFF) >> 4 | panel_bytes >> 4 << 16;
}

// Sixteenths of bytes from the beginning of a tile of `rows` rows to 16 columns of it.
FUNCTION int slice_of_row(const int slice, const int rows)
{
    return (slice / 4 * rows * LINE_BYTES + slice % 4 * 32) >> 4;
}

// From one lane: what follows from it, such as descriptors, is then computed once for a warp.
FUNCTION Slot uniform(Slot slot)
{
    slot.stage = __shfl_sync(0xFFFFFFFF, slot.stage, 0);
    return slot;
}

struct Consumer {
    const Memory &memory;
    int index;
    Slot keys, values;
    int query_phase;
    unsigned loaded[LOADED];  // of Q, if QUERY_REGISTERS
    float scores[SCORES];
    unsigned weights[WEIGHTS];
    float out[OUTS];

    FUNCTION Consumer(const Memory &memory, int index)
        : memory(memory), index(index), keys{0, 0}, values{0, 0}, query_phase(0)
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
        keys = uniform(next_slot(keys));
    }

    template <int PENDING> FUNCTION void end_out()
    {
        products_wait<PENDING>();
        settle(out);
        settle(weights);
        release_stage(memory.values.empty_of(values));
        values = uniform(next_slot(values));
    }

    // The first scores of a unit, beside the last product of the one before if that is under way.
    FUNCTION void first_scores(const bool beside)
    {
        barrier_wait(memory.query_full, query_phase);
        query_phase ^= 1;
        take_queries();
        await_keys();
        begin_scores();
        if (beside) end_out<1>();
        end_scores<0>();
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

    FUNCTION void clear()
    {
#pragma unroll
        for (int i = 0; i < OUTS; i++) out[i] = 0.0f;
    }

    // All tiles of keys of a unit, of whose last one there are the scores: its sums, not yet divided
    // by those of the weights. The last product stays under way.
    FUNCTION void attend(Softmax &softmax, const Rows &rows, const Span &span, const Span &whole,
                         const Sequence &s INPUT_PARAMETERS)
    {
        int tile = span.end - 1;
        clear();
        soften(softmax, rows, whole, s, tile INPUT_ARGUMENTS);
        pack(weights, scores);
#pragma unroll 1
        for (; tile > span.first; tile--) {
#if OVERLAP
            await_keys();
            await_turn();
            begin_scores();
            await_values(s, tile);
            begin_out();
            pass_turn();
            end_scores<1>();
            soften(softmax, rows, whole, s, tile - 1 INPUT_ARGUMENTS);
            hold_order(softmax);
            end_out<0>();
#else
            await_values(s, tile);
            begin_out();
            end_out<0>();
            await_keys();
            begin_scores();
            end_scores<0>();
            soften(softmax, rows, whole, s, tile - 1 INPUT_ARGUMENTS);
#endif
            pack(weights, scores);
            rescale(out, softmax);
        }
        release_queries();
        await_values(s, tile);
        begin_out();
    }
};

#endif
