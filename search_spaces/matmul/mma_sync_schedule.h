// What the kernel of mma_sync.cu is made for: the workload, the schedule, what follows from both.

#ifndef MMA_SYNC_SCHEDULE_H
#define MMA_SYNC_SCHEDULE_H

// ---- The workload

#ifndef M
#define M 4096  // rows of C
#endif
#ifndef N
#define N 4096  // columns of C
#endif
#ifndef K
#define K 4096  // length of the sums
#endif
#ifndef A_ALONG_K
#define A_ALONG_K 1  // 1: A is stored m x k, neighbours in memory differ in k; 0: k x m
#endif
#ifndef B_ALONG_K
#define B_ALONG_K 0  // 1: B is stored n x k; 0: k x n
#endif
#ifndef STORED
#define STORED ushort    // an element of A and B: its bits, or float for tf32
#define STORED_BYTES 2   // of it
#define SUM float        // of the tensor cores: float, int, or unsigned for two of float16
#define SUM_WORDS 4      // registers for 16 x 8 sums: 4, or 2 if of float16
#define PARTIAL float    // of the sums of a part of k in memory
#define VALUE float      // of the epilogue
#define C_TYPE ushort    // an element of C
#define VALUE_TO_C(x) float_to_half(x)  // its bits
#endif
#ifndef QUANTISED
#define QUANTISED 0                // 1: B is (b - zero) * scale in the type of A
#define B_BITS (8 * STORED_BYTES)  // an element of B: 8 or 4 if it is quantised, and signed
#define ZERO_POINT 0               // 1: there are zeros
#define GROUP_SIZE_K K             // neighbours in k that share a scale: all, or a multiple of 8
#define IS_BFLOAT 0                // 1: A, scales and zeros are bfloat16; 0: float16
#define QUANTUM_COPY 16            // as A_COPY, of scales and zeros
#endif
#ifndef A_COPY
#define A_COPY 16  // bytes that one copy moves: 16, 8 or 4, as every row of A begins at a multiple
#define B_COPY 16  // of them; or 0: element by element through registers
#endif
#ifndef C_LANES
#define C_LANES 8  // neighbours in a row of C that are stored together, up to 16 bytes
#endif
#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS                   // further kernel parameters, each after a comma
#define EPILOGUE(value, row, column) (value)  // rows are counted through the whole batch
#endif

#ifndef ROW_GROUPS
#define ROW_GROUPS 0  // groups of rows of A and C, each multiplied with a B of its own; 0: none
#elif !defined(ROW_GROUPS_H)
#include "row_groups.h"
#endif

// ---- The schedule

#ifndef BLOCK_M
#define BLOCK_M 128  // rows of C of a block
#endif
#ifndef BLOCK_N
#define BLOCK_N 128  // columns of C of a block
#endif
#ifndef BLOCK_K
#define BLOCK_K 32  // steps of k between two barriers
#endif
#ifndef WARP_M
#define WARP_M 64  // rows of C of a warp
#endif
#ifndef WARP_N
#define WARP_N 64  // columns of C of a warp
#endif
#ifndef STAGES
#define STAGES 3  // tiles in shared memory: one is multiplied while the others are filled
#endif
#ifndef FRAGMENTS
#define FRAGMENTS 2  // sets of fragments: 2 loads one while the other is multiplied
#endif
#ifndef STAGED_STORE
#define STAGED_STORE 1  // 1: C goes through shared memory, so that warps write whole lines
#endif
#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit: compilers keep to the registers that this leaves
#endif
#ifndef SPLIT_K
#define SPLIT_K 1  // parts of k, each computed by other blocks
#endif
#ifndef RASTER
#define RASTER 8  // rows of tiles walked together, column by column, so that tiles meet in cache
#endif

// ---- What follows from these

#define WARPS_N (BLOCK_N / WARP_N)
#define THREADS (32 * (BLOCK_M / WARP_M) * WARPS_N)
#define TILES_M ((M + BLOCK_M - 1) / BLOCK_M)
#define TILES_N ((N + BLOCK_N - 1) / BLOCK_N)
#define TILES_K ((K + BLOCK_K - 1) / BLOCK_K)
#define GUARD_M (ROW_GROUPS || M % BLOCK_M != 0)  // some tile reaches beyond its matrix
#define GUARD_N (N % BLOCK_N != 0)
#define GUARD_K (K % BLOCK_K != 0)
#define PRODUCT_K (32 / STORED_BYTES)        // of k in one product
#define STEP_K (QUANTISED ? 32 : PRODUCT_K)  // of k that fragments are loaded for
#define STEPS (BLOCK_K / STEP_K)
#define FRAGMENTS_M (WARP_M / 16)
#define FRAGMENTS_N (WARP_N / 16)  // pairs of 8 columns
#define SLAB_PITCH (WARP_N + (QUANTISED ? 4 : 8))  // words of a line of C on its way: banks differ

// B in shared memory, in elements of memory, of which two of int4 share one.
#if QUANTISED
#define B_STORED unsigned char
#define B_STORED_BYTES 1
#else
#define B_STORED STORED
#define B_STORED_BYTES STORED_BYTES
#endif
#define B_PACKED (8 * B_STORED_BYTES / B_BITS)  // elements in one of memory

// Scales of the groups of k that a tile may lie in, and zeros; tiles begin at multiples of BLOCK_K.
#define QUANTUM_GROUPS (GROUP_SIZE_K < K ? K / GROUP_SIZE_K : 1)
#if QUANTISED && GROUP_SIZE_K < K && GROUP_SIZE_K % BLOCK_K != 0
#define QUANTUM_LINES \
    (BLOCK_K % GROUP_SIZE_K == 0 ? BLOCK_K / GROUP_SIZE_K : (BLOCK_K - 2) / GROUP_SIZE_K + 2)
#else
#define QUANTUM_LINES 1
#endif
#define QUANTUM_BYTES (QUANTISED ? QUANTUM_LINES * BLOCK_N * 2 : 0)  // of scales, or of zeros

#define A_TILE_BYTES (BLOCK_M * BLOCK_K * STORED_BYTES)
#define B_TILE_BYTES (BLOCK_N * BLOCK_K * B_BITS / 8)
#define STAGE_BYTES \
    (A_TILE_BYTES + B_TILE_BYTES + (QUANTUM_BYTES * (1 + ZERO_POINT) + 127) / 128 * 128)

// 1-byte elements across k come out of shared memory as pairs of rows (columns of B), 8 apart.
#define A_INTERLEAVED (!A_ALONG_K && STORED_BYTES == 1)
#define B_INTERLEAVED (!B_ALONG_K && B_BITS == 8)

#endif
