// C = epilogue(A B) on tensor cores: asynchronous copies into a ring of tiles in shared memory,
// fragments of these in registers, and a tile of sums in the registers of each warp (sm_80 on).
//
// A block computes BLOCK_M x BLOCK_N elements of C, each warp WARP_M x WARP_N of them. It walks
// along k in steps of BLOCK_K: STAGES - 1 tiles ahead of the one being multiplied are under way, so
// that nobody waits for memory, and one barrier a tile is enough, for a tile is overwritten only
// after the next one's barrier. Tiles lie in shared memory as the matrices do in global memory,
// swizzled (tiles.h), and are transposed, where k is not the fast axis, on the way to registers.
// A quantised B stays integers until it is in registers, and is restored just before a product.
//
// Of groups of rows each has tiles of its own; rows of C are counted through all of them.
//
//   matmul:  groups (tiles of C, SPLIT_K, BATCH); writes C, or sums of a part of k if SPLIT_K > 1
//   reduce:  adds the parts (split_k.h), only if SPLIT_K > 1

#ifndef KERNEL
#include "../dialects/cuda.h"
#endif
#ifndef TENSOR_CORE_H
#include "../dialects/tensor_core.h"
#endif
#ifndef TILES_H
#include "tiles.h"
#endif
#ifndef MMA_SYNC_SCHEDULE_H
#include "mma_sync_schedule.h"
#include "mma_sync_tiles.h"
#if QUANTISED
#include "quantised.h"
#include "mma_sync_quantised.h"
#else
#include "mma_sync_plain.h"
#endif
#endif
#if SPLIT_K > 1 && !defined(SPLIT_K_H)
#include "split_k.h"
#endif

// ---- C

FUNCTION float value_of(const float (&sums)[4], int i) { return sums[i]; }
FUNCTION int value_of(const int (&sums)[4], int i) { return sums[i]; }
FUNCTION float value_of(const unsigned (&sums)[2], int i)
{
    return half_to_float((ushort)(sums[i / 2] >> i % 2 * 16));
}

#if SPLIT_K > 1
#define RESULT PARTIAL *RESTRICT partial  // BATCH x SPLIT_K x M x N
#define RESULT_LANES (C_LANES < 4 ? C_LANES : 4)
#else
#define RESULT C_TYPE *RESTRICT c EPILOGUE_PARAMETERS
#define RESULT_LANES C_LANES
#endif

#if QUANTISED && ZERO_POINT
#define GIVEN const ushort *RESTRICT b_scale, const ushort *RESTRICT b_zero,
#elif QUANTISED
#define GIVEN const ushort *RESTRICT b_scale,
#else
#define GIVEN
#endif

KERNEL __launch_bounds__(THREADS, RESIDENT) void matmul(const STORED *RESTRICT a,
                                                        const B_STORED *RESTRICT b, GIVEN RESULT)
{
    extern __shared__ __align__(128) unsigned char shared[];

    const int part = GROUP_ID(1), batch = GROUP_ID(2);
#if ROW_GROUPS
    const RowGroup group = row_group_of_tile(GROUP_ID(0) / TILES_N);
    const int index = GROUP_ID(0) - group.first_tile * TILES_N, tiles_m = group.tiles;
    const int product = group.index, top = group.first_row, row_end = group.end_row;
#else
    const int index = GROUP_ID(0), tiles_m = TILES_M, product = batch, top = 0, row_end = M;
#endif
    const int first_row = top + tile_row(index, tiles_m, TILES_N, RASTER) * BLOCK_M;
    const int first_column = tile_column(index, tiles_m, TILES_N, RASTER) * BLOCK_N;
    const int first_k = first_step_of(part, TILES_K, SPLIT_K) * BLOCK_K;
    const int tiles = steps_of(part, TILES_K, SPLIT_K);
    const int warp = LOCAL_ID(0) / 32;
    const int warp_row = warp / WARPS_N * WARP_M, warp_column = warp % WARPS_N * WARP_N;

    Source source(a + (size_t)batch * M * K, b + (size_t)product * K * N / B_PACKED, first_row,
                  row_end, first_column, first_k);
#if QUANTISED
    const size_t first_quantum = (size_t)product * QUANTUM_GROUPS * N;
    source.column = first_column;
    source.scale = b_scale + first_quantum;
#if ZERO_POINT
    source.zero = b_zero + first_quantum;
#endif
#endif
#define FETCH(tile, stage)                                                 \
    if ((tile) < tiles) source.fetch_next(shared + (stage) * STAGE_BYTES); \
    copy_commit()

    SUM sums[FRAGMENTS_M][2 * FRAGMENTS_N][SUM_WORDS];
#pragma unroll
    for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
        for (int j = 0; j < 2 * FRAGMENTS_N; j++) {
#pragma unroll
            for (int word = 0; word < SUM_WORDS; word++) sums[i][j][word] = 0;
        }
    }
    Operands operands[FRAGMENTS];
#define LOAD(set, tile, stage, step)                                                \
    operands[set].load(shared + (stage) * STAGE_BYTES, warp_row, warp_column, step, \
                       first_k + (tile) * BLOCK_K, operands[((set) + 1) % FRAGMENTS])

#pragma unroll
    for (int tile = 0; tile < STAGES - 1; tile++) {
        FETCH(tile, tile);
    }
    int stage = 0, next_stage = 1 % STAGES, free_stage = STAGES - 1;
    if (FRAGMENTS == 2) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        LOAD(0, 0, 0, 0);
    }
    for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            // This tile (with two sets of fragments, the next one) has come for every thread, and
            // nobody reads the one before any more, whose place the copies issued now will take.
            if (step == (FRAGMENTS == 2 ? STEPS - 1 : 0)) {
                copy_wait<STAGES - 2>();
                __syncthreads();
            }
            if (FRAGMENTS == 1) {
                LOAD(0, tile, stage, step);
            } else if (step + 1 < STEPS) {
                LOAD((step + 1) % FRAGMENTS, tile, stage, step + 1);
            } else {
                LOAD((step + 1) % FRAGMENTS, tile + 1, next_stage, 0);
            }
            if (step == 0) {
                FETCH(tile + STAGES - 1, free_stage);
            }
            operands[step % FRAGMENTS].multiply_into(sums);
        }
        free_stage = stage;
        stage = next_stage;
        next_stage = next_stage + 1 == STAGES ? 0 : next_stage + 1;
    }

    // `lanes` neighbours in a row of C: all of them inside, or none.
#if SPLIT_K > 1
    PARTIAL *part_of_c = partial + ((size_t)batch * SPLIT_K + part) * M * N;
#define STORE(lanes, row, column, values)                            \
    if ((!GUARD_M || (row) < row_end) && (!GUARD_N || (column) < N)) \
    store<lanes>(part_of_c + (size_t)(row)*N + (column), values)
#else
#define STORE(lanes, row, column, values)                                         \
    if ((!GUARD_M || (row) < row_end) && (!GUARD_N || (column) < N)) {            \
        const size_t c_row = (size_t)batch * M + (row);                           \
        C_TYPE stored[lanes];                                                     \
        _Pragma("unroll") for (int lane = 0; lane < lanes; lane++) stored[lane] = \
            VALUE_TO_C(EPILOGUE((VALUE)(values)[lane], c_row, (column) + lane));  \
        store<lanes>(c + c_row * N + (column), stored);                           \
    }
#endif

    const int corner_row = first_row + warp_row, corner_column = first_column + warp_column;
#if STAGED_STORE
    // Each warp sends 16 rows at a time through a slab of its own, where the tiles were.
    copy_wait<0>();
    __syncthreads();
    PARTIAL *slab = (PARTIAL *)shared + warp * 16 * SLAB_PITCH;
    const int runs = WARP_N / RESULT_LANES;
#pragma unroll
    for (int i = 0; i < FRAGMENTS_M; i++) {
        __syncwarp();
#pragma unroll
        for (int j = 0; j < 2 * FRAGMENTS_N; j++) {
#pragma unroll
            for (int at = 0; at < 4; at++)
                slab[row_of(0, j % 2, at) * SLAB_PITCH + column_of(j / 2, j % 2, at)] =
                    value_of(sums[i][j], at);
        }
        __syncwarp();
#pragma unroll
        for (int first = 0; first < 16 * runs; first += 32) {
            const int run = first + LOCAL_ID(0) % 32;
            const int row = run / runs, column = run % runs * RESULT_LANES;
            PARTIAL values[RESULT_LANES];
#pragma unroll
            for (int at = 0; at < RESULT_LANES; at++)
                values[at] = slab[row * SLAB_PITCH + column + at];
            STORE(RESULT_LANES, corner_row + i * 16 + row, corner_column + column, values);
        }
    }
#else
    // A lane has two neighbours of a row at a time, or one; four or eight lanes make 32 bytes of
    // float32.
    const int lanes = NEIGHBOURS < RESULT_LANES ? NEIGHBOURS : RESULT_LANES;
#pragma unroll
    for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
        for (int j = 0; j < 2 * FRAGMENTS_N; j++) {
#pragma unroll
            for (int at = 0; at < 4; at += lanes) {
                PARTIAL values[lanes];
#pragma unroll
                for (int lane = 0; lane < lanes; lane++)
                    values[lane] = value_of(sums[i][j], at + lane);
                STORE(lanes, corner_row + row_of(i, j % 2, at),
                      corner_column + column_of(j / 2, j % 2, at), values);
            }
        }
    }
#endif
}
