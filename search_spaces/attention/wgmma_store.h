// How the rows of a warp reach the output: through shared memory and TMA, or from registers; or,
// of a part of the keys, the scratch that combine.h merges.
//
// Stands after wgmma_softmax.h.

#ifndef WGMMA_STORE_H
#define WGMMA_STORE_H

#ifndef STORE_TMA
#define STORE_TMA 1  // 1: through shared memory and TMA; 0: straight from registers
#endif
#ifndef BUFFERS
#define BUFFERS 1  // pieces of the output that a warp may have on the way through shared memory
#endif

#define V_PANELS CEIL_DIVIDE(V_DIM, 64)
#define OUTS (V_DIM / 2)
#define PIECE_BYTES (16 * 128)  // 16 rows of 64 columns
#define STAGING_BYTES (STORE_TMA ? CONSUMERS * 4 * BUFFERS * PIECE_BYTES : 0)

// 16 rows from registers; `row` is this lane's first in the unit's tile.
FUNCTION void store_direct(const float (&sums)[OUTS], const float (&factor)[2], const Unit &unit,
                           const Sequence &s, int row, STORED *out)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int query = query_of(unit, row + 8 * r), head = head_of(unit, row + 8 * r);
        if (query >= s.queries) continue;
        STORED *to = out + out_offset(s, head, query) + threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 2 * r; i < OUTS; i += 4)
            *(unsigned *)(to + COLUMN_OF(i)) = PAIR(sums[i] * factor[r], sums[i + 1] * factor[r]);
    }
}

// Sums, highest scores and sums of weights of a part of the keys: see combine.h.
FUNCTION void store_partial(const float (&sums)[OUTS], const float (&highest)[2],
                            const float (&total)[2], const Unit &unit, const Sequence &s, int row,
                            float *partial_out, float *partial_sums)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int query = query_of(unit, row + 8 * r), head = head_of(unit, row + 8 * r);
        if (query >= s.queries) continue;
        const size_t place = (size_t)lse_offset(s, head, query) * SPLITS + unit.part;
        float *to = partial_out + place * V_DIM + threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 2 * r; i < OUTS; i += 4)
            *(Vector2<float> *)(to + COLUMN_OF(i)) = {sums[i], sums[i + 1]};
        if (threadIdx.x % 4 == 0)
            *(Vector2<float> *)(partial_sums + place * 2) = {highest[r], total[r]};
    }
}

// Bytes from the beginning of a piece to 16-byte unit `unit` of a row, swizzled as TMA expects it.
FUNCTION unsigned staged(int row, int unit) { return row * 128 + (unit ^ row % 8) * 16; }

// 16 rows of 64 columns, or fewer, from column `first` of the sums on.
FUNCTION void stage_piece(const float (&sums)[OUTS], const float (&factor)[2], const int first,
                          unsigned piece)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int at = 0; at < 64 && first + at < V_DIM; at += 16) {
        unsigned pairs[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int sum = (first + at) / 2 + 2 * i;
            const bool inside = sum + 1 < OUTS;  // of 8 columns alone, V_DIM being no multiple of 16
            const float x = inside ? sums[inside ? sum : 0] * factor[i % 2] : 0.0f;
            const float y = inside ? sums[inside ? sum + 1 : 0] * factor[i % 2] : 0.0f;
            pairs[i] = PAIR(x, y);
        }
        store_matrices(piece + staged(lane % 16, at / 8 + lane / 16), pairs);
    }
}

// The same by TMA; `buffers` are the warp's pieces of shared memory, `row` its first row.
FUNCTION void store_staged(const float (&sums)[OUTS], const float (&factor)[2], const Unit &unit,
                           const Sequence &s, int row, const TensorMap *map, unsigned buffers)
{
    const int query = s.first_query + query_of(unit, row);
#pragma unroll
    for (int panel = 0; panel < V_PANELS; panel++) {
        const unsigned piece = buffers + panel % BUFFERS * PIECE_BYTES;
        if (threadIdx.x % 32 == 0) tma_await_reads<BUFFERS - 1>();
        __syncwarp();
        stage_piece(sums, factor, panel * 64, piece);
        tma_publish();
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            tma_store(map, piece, panel * 64, 0, query, unit.head, PACKED ? 0 : s.index);
    }
}

#endif
