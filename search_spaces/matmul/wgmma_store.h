// How the sums of a warp reach C: through the epilogue and, by TMA, through shared memory; or
// straight from registers; or, unfinished, to the partial sums of split-K.
//
// Stands after cuda.h, hopper.h, wgmma_tiles.h and wgmma_layout.h.

#ifndef WGMMA_STORE_H
#define WGMMA_STORE_H

// ---- The workload: types and the epilogue

#ifndef SUM
#define SUM float    // what the tensor cores add in
#define VALUE float  // what the epilogue computes in
#endif
#ifndef C_TYPE
#include "../dialects/cuda_formats.h"
#define C_TYPE ushort                                     // an element of C in memory
#define VALUE_TO_C(x) float_to_bfloat16(x)                // what a value becomes there
#define VALUES_TO_C2(x, y) floats_to_bfloat16x2(x, y)  // and two neighbours, of 2 bytes or 1
#endif
#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS                   // further kernel parameters, each after a comma
#define EPILOGUE(value, row, column) (value)  // rows are counted through the whole batch
#endif
#ifndef EPILOGUE_ARGUMENTS
#define EPILOGUE_ARGUMENTS  // the same names, each after a comma
#endif

// ---- The schedule

#ifndef STORE_TMA
#define STORE_TMA 1  // 1: C goes through shared memory and TMA; 0: straight from registers
#endif
#ifndef BUFFERS
#define BUFFERS 2  // pieces of C that a warp may have on the way through shared memory
#endif
#ifndef REDUCE_LANES
#define REDUCE_LANES 4  // neighbours in a row that one thread of `reduce` adds: 4, or 1
#define REDUCE_THREADS 128
#endif

// ---- Values
//
// Of 16 rows and 16 columns of sums, a lane of a warp has 8, at these distances from its first,
// which is at row lane / 4 and column lane % 4 * 2.

#define LANE_ROW(i) ((i) / 2 % 2 * 8)
#define LANE_COLUMN(i) ((i) % 2 + (i) / 4 * 8)

// Whether a row, or column, of a unit's tile lies in C, or in the group; most often all do.
#define WHOLE_ROWS ((SWAP || ROW_GROUPS == 0) && ROWS % (TILE_M * CLUSTER_M) == 0)
#define WHOLE_COLUMNS ((!SWAP || ROW_GROUPS == 0) && COLUMNS % (TILE_N * CLUSTER_N) == 0)
#define IN_ROWS(row) (WHOLE_ROWS || (row) < unit.row_end)
#define IN_COLUMNS(column) (WHOLE_COLUMNS || (column) < unit.column_end)

// Which row of C that is, counted through the whole batch.
FUNCTION size_t row_of_c(const Unit &unit, int row, int column)
{
    return (size_t)unit.batch * M + (SWAP ? column : row);
}

// What a sum becomes in C; anything outside of C.
FUNCTION VALUE finished(SUM sum, const Unit &unit, int row, int column EPILOGUE_PARAMETERS)
{
    if (!IN_ROWS(row) || !IN_COLUMNS(column)) return 0;
    return EPILOGUE((VALUE)sum, row_of_c(unit, row, column), SWAP ? row : column);
}

// One element of C, or two neighbours.
FUNCTION void store_one(void *to, VALUE value) { *(C_TYPE *)to = VALUE_TO_C(value); }

FUNCTION void store_two(void *to, VALUE first, VALUE second)
{
#if C_BYTES == 4
    *(Vector2<C_TYPE> *)to = {VALUE_TO_C(first), VALUE_TO_C(second)};
#elif C_BYTES == 2
    *(unsigned *)to = VALUES_TO_C2(first, second);
#else
    *(ushort *)to = VALUES_TO_C2(first, second);
#endif
}

// ---- The three ways

#if SPLIT_K > 1
// Sums of a part of k: SPLIT_K x (BATCH * M) x N.
FUNCTION void store_partial(const SUM *sums, SUM *partial, const Unit &unit, int row, int column)
{
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const int r = row + LANE_ROW(i), q = column + LANE_COLUMN(i);
        const size_t c_row = (size_t)unit.part * BATCH * M + row_of_c(unit, r, q);
        SUM *to = partial + c_row * N + (SWAP ? r : q);
        if (!IN_ROWS(r)) continue;
        if (!SWAP && N % 2 == 0) {
            if (IN_COLUMNS(q)) *(Vector2<SUM> *)to = {sums[i], sums[i + 1]};
        } else {
            if (IN_COLUMNS(q)) to[0] = sums[i];
            if (IN_COLUMNS(q + 1)) to[SWAP ? N : 1] = sums[i + 1];
        }
    }
}
#elif !STORE_TMA
FUNCTION void store_direct(const VALUE *values, char *c, const Unit &unit, int row, int column)
{
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const int r = row + LANE_ROW(i), q = column + LANE_COLUMN(i);
        char *to = c + (row_of_c(unit, r, q) * N + (SWAP ? r : q)) * C_BYTES;
        if (!IN_ROWS(r)) continue;
        if (!SWAP && N % 2 == 0) {
            if (IN_COLUMNS(q)) store_two(to, values[i], values[i + 1]);
        } else {
            if (IN_COLUMNS(q)) store_one(to, values[i]);
            if (IN_COLUMNS(q + 1)) store_one(to + (SWAP ? (size_t)N : 1) * C_BYTES, values[i + 1]);
        }
    }
}
#else
// 16 x 16 values of a warp into its piece of C, from `column` of the piece on; turned if SWAP.
FUNCTION void stage_values(const VALUE *values, unsigned piece, int column)
{
    const int lane = threadIdx.x % 32;
#if C_BYTES == 2
    // Four matrices of 8 x 8; lane l gives the address of row l % 8 of matrix l / 8.
    const int down = lane / 8 % 2 * 8, right = lane / 16 * 8;
    const unsigned to = piece + (SWAP ? staged(column + right + lane % 8, down)
                                      : staged(down + lane % 8, column + right));
#if SWAP
#define STMATRIX "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
#else
#define STMATRIX "stmatrix.sync.aligned.m8n8.x4.shared.b16"
#endif
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = VALUES_TO_C2(values[2 * i], values[2 * i + 1]);
    asm volatile(STMATRIX " [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(pairs[0]), "r"(pairs[1]),
                 "r"(pairs[2]), "r"(pairs[3])
                 : "memory");
#else
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const int r = lane / 4 + LANE_ROW(i), q = column + lane % 4 * 2 + LANE_COLUMN(i);
        if (SWAP) {
            store_one(__cvta_shared_to_generic(piece + staged(q, r)), values[i]);
            store_one(__cvta_shared_to_generic(piece + staged(q + 1, r)), values[i + 1]);
        } else {
            store_two(__cvta_shared_to_generic(piece + staged(r, q)), values[i], values[i + 1]);
        }
    }
#endif
}

// Once at most BUFFERS - 1 copies of this warp still read shared memory, the next piece is free.
FUNCTION void await_piece()
{
    if (threadIdx.x % 32 == 0) tma_await_reads<BUFFERS - 1>();
    __syncwarp();
}

FUNCTION void send_piece(const TensorMap *map, unsigned piece, int batch, int row, int column)
{
    tma_publish();
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        tma_store(map, piece, SWAP ? row : column, SWAP ? column : row, batch);
}
#endif

#if SPLIT_K > 1
#define RESULT SUM *RESTRICT partial
#elif STORE_TMA
#define RESULT const TensorMap *RESTRICT c_map EPILOGUE_PARAMETERS
#else
#define RESULT char *RESTRICT c EPILOGUE_PARAMETERS
#endif

// What a warp does with 16 rows of sums, from `row` on. `buffers`: its pieces of shared memory;
// `buffer`, the one whose turn it is.
FUNCTION void store_rows(const SUM *sums, const Unit &unit, int row, unsigned buffers, int &buffer,
                         RESULT)
{
    const int lane = threadIdx.x % 32;
    int first_column = unit.column;
    asm volatile("" : "+r"(first_column));  // or biases would be kept from rows to rows, and spill
#pragma unroll
    for (int chunk = 0; chunk < TILE_N; chunk += CHUNK) {
#if SPLIT_K == 1 && STORE_TMA
        const unsigned piece = buffers + buffer * PIECE_BYTES;
        await_piece();
#endif
#pragma unroll
        for (int at = chunk; at < chunk + CHUNK; at += 16) {
            const int lane_row = row + lane / 4, lane_column = first_column + at + lane % 4 * 2;
#if SPLIT_K > 1
            store_partial(sums + at / 2, partial, unit, lane_row, lane_column);
#else
            VALUE values[8];
#pragma unroll
            for (int i = 0; i < 8; i++)
                values[i] = finished(sums[at / 2 + i], unit, lane_row + LANE_ROW(i),
                                     lane_column + LANE_COLUMN(i) EPILOGUE_ARGUMENTS);
#if STORE_TMA
            stage_values(values, piece, at - chunk);
#else
            store_direct(values, c, unit, lane_row, lane_column);
#endif
#endif
        }
#if SPLIT_K == 1 && STORE_TMA
        send_piece(c_map, piece, unit.batch, row, first_column + chunk);
        buffer = buffer + 1 == BUFFERS ? 0 : buffer + 1;
#endif
    }
}

#if STREAM_K
#define SHARES , SUM *RESTRICT partial
#define SHARES_ARGUMENT , partial
#else
#define SHARES
#define SHARES_ARGUMENT
#endif

#if SPLIT_K > 1
#define RESULT_ARGUMENTS partial
#elif STORE_TMA
#define RESULT_ARGUMENTS c_map EPILOGUE_ARGUMENTS
#else
#define RESULT_ARGUMENTS c EPILOGUE_ARGUMENTS
#endif

// ---- The parts of split-K

#if SPLIT_K > 1
// Adds the parts in their order, so that the result does not depend on timing.
KERNEL __launch_bounds__(REDUCE_THREADS) void reduce(const SUM *RESTRICT partial,
                                                     char *RESTRICT c EPILOGUE_PARAMETERS)
{
    const size_t elements = (size_t)BATCH * M * N;
    const size_t first = ((size_t)blockIdx.x * REDUCE_THREADS + threadIdx.x) * REDUCE_LANES;
    if (first >= elements) return;
    SUM sums[REDUCE_LANES] = {};
#pragma unroll
    for (int part = 0; part < SPLIT_K; part++) {
        const SUM *from = partial + part * elements + first;
#if REDUCE_LANES == 4
        const Vector4<SUM> four = *(const Vector4<SUM> *)from;
        sums[0] += four.x, sums[1] += four.y, sums[2] += four.z, sums[3] += four.w;
#else
        sums[0] += *from;
#endif
    }
#ifdef EPILOGUE_GROUP
    Unit unit;
    unit.product = row_group_of_row((int)(first / N));
#endif
#pragma unroll
    for (int lane = 0; lane < REDUCE_LANES; lane++)
        store_one(c + (first + lane) * C_BYTES,
                  EPILOGUE((VALUE)sums[lane], first / N, (int)(first % N) + lane));
}
#endif

// ---- The shares of stream-K

#if STREAM_K
// Where a thread of a consumer keeps 4 of its sums, of 8 columns: slots are as large as a tile, and
// threads lie side by side.
FUNCTION Vector4<SUM> *share_of(const SUM *partial, int slot, int block, int columns)
{
    const size_t first = ((size_t)slot * (TILE_M / 64) + block) * (TILE_N / 8) + columns;
    return (Vector4<SUM> *)partial + first * 128 + threadIdx.x % 128;
}

// The sums of 64 rows, number `block` of the tile.
FUNCTION void store_share(const SUM *sums, SUM *partial, int slot, int block)
{
#pragma unroll
    for (int columns = 0; columns < TILE_N / 8; columns++) {
        const SUM *four = sums + columns * 4;
        *share_of(partial, slot, block, columns) = {four[0], four[1], four[2], four[3]};
    }
}

// Adds the shares of every tile that has several, in their order. A block is 8 columns of 64 rows.
KERNEL __launch_bounds__(128) void reduce(const SUM *RESTRICT partial,
                                          char *RESTRICT c EPILOGUE_PARAMETERS)
{
    const int columns = blockIdx.x % (TILE_N / 8), rest = blockIdx.x / (TILE_N / 8);
    const int block = rest % (TILE_M / 64), rank = rest / (TILE_M / 64) % CLUSTER;
    const int tile = rest / (TILE_M / 64) / CLUSTER;
    const int first = sharer_of((long long)tile * STEPS);
    const int last = sharer_of((long long)(tile + 1) * STEPS - 1);
    if (first == last) return;

    SUM sums[4] = {};
    for (int sharer = first; sharer <= last; sharer++) {
        if (share_begin(sharer) == share_begin(sharer + 1)) continue;
        const int slot = slot_of(sharer, tile) * CLUSTER + rank;
        const Vector4<SUM> four = *share_of(partial, slot, block, columns);
        sums[0] += four.x, sums[1] += four.y, sums[2] += four.z, sums[3] += four.w;
    }
    const Unit unit = unit_of(first, tile - share_first(first), rank);
    const int lane = threadIdx.x % 32;
    const int row = unit.row + block * 64 + threadIdx.x / 32 * 16 + lane / 4;
    const int column = unit.column + columns * 8 + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int r = row + LANE_ROW(i), q = column + LANE_COLUMN(i);
        const VALUE value = finished(sums[i], unit, r, q EPILOGUE_ARGUMENTS);
        const size_t place = row_of_c(unit, r, q) * N + (SWAP ? r : q);
        if (IN_ROWS(r) && IN_COLUMNS(q)) store_one(c + place * C_BYTES, value);
    }
}
#endif

#endif
