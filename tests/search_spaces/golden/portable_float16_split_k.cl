// Neutral names of the portable kernels, in OpenCL C 1.2 and later.

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#ifdef cl_khr_fp16
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#endif

#define KERNEL __kernel
#define GROUP_SIZE(x, y, z) __attribute__((reqd_work_group_size(x, y, z)))
#define FUNCTION static __attribute__((always_inline))
#define GLOBAL __global
#define LOCAL __local
#define LOCAL_ARRAY(type, name, count) __local type name[count] __attribute__((aligned(16)))
#define RESTRICT restrict
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define GROUP_ID(axis) ((int)get_group_id(axis))
#define LOCAL_ID(axis) ((int)get_local_id(axis))
#define FMA(x, y, z) fma(x, y, z)

// A vector of 2 or 4 elements with members x, y (z, w), aligned to its size.
#define VECTOR2(type) VECTOR2_(type)
#define VECTOR2_(type) type##2
#define VECTOR4(type) VECTOR4_(type)
#define VECTOR4_(type) type##4

// float16 is kept as its bits in a ushort: that works without cl_khr_fp16, which only arithmetic
// in float16 needs.
FUNCTION float half_to_float(ushort bits) { return vload_half(0, (const __private half *)&bits); }
FUNCTION ushort float_to_half(float value)
{
    ushort bits;
    vstore_half_rte(value, 0, (__private half *)&bits);
    return bits;
}
#define HALF_OF_BITS(bits) as_half(bits)

#define M 64
#define N 64
#define K 64
#define A_ALONG_K 0
#define B_ALONG_K 1
#define STORED ushort
#define SUM float
#define VALUE float
#define STORED_TO_SUM(x) half_to_float(x)
#define VALUE_TO_STORED(x) float_to_half(x)
#define BLOCK_K 16
#define BLOCK_M 32
#define BLOCK_N 32
#define PAD 0
#define PREFETCH 0
#define RASTER 1
#define SPLIT_K 2
#define STAGES 1
#define THREAD_M 2
#define THREAD_N 4
#define UNROLL 2
#define VECTOR_A 4
#define VECTOR_B 2
#define VECTOR_TILE 1
#define REDUCE_THREADS 64

#define EPILOGUE_PARAMETERS , const float alpha, GLOBAL const ushort *RESTRICT bias
FUNCTION float gelu(float x) { return 0.5f * x * erfc(-0.70710678118654752f * x); }
#define EPILOGUE(value, row, column) gelu((((value) * alpha) + half_to_float(bias[(column)])))

// C = epilogue(A B): tiles of A and B in local memory, a tile of C in each work-item's registers.
//
// A work-group computes BLOCK_M x BLOCK_N elements of C. It walks along k in steps of BLOCK_K: all
// of its work-items fetch a piece of A and of B from global memory into registers, stash it in
// local memory, and after a barrier multiply from there. Both tiles lie in local memory with k as
// the slow axis, whatever the layout of the matrices, so that one vector read gives a work-item
// neighbouring rows (of A) or columns (of B).
//
//   matmul:  groups (tiles of C, SPLIT_K, BATCH); writes C, or sums of a part of k if SPLIT_K > 1
//   reduce:  groups (elements of C / REDUCE_THREADS, 1, BATCH); adds the parts, only if SPLIT_K > 1

#ifndef KERNEL
#include "../dialects/opencl.h"
#endif

// ---- The workload

#ifndef M
#define M 1024  // rows of C
#endif
#ifndef N
#define N 1024  // columns of C
#endif
#ifndef K
#define K 1024  // length of the sums
#endif
#ifndef A_ALONG_K
#define A_ALONG_K 1  // 1: A is stored m x k, neighbours in memory differ in k; 0: k x m
#endif
#ifndef B_ALONG_K
#define B_ALONG_K 0  // 1: B is stored n x k; 0: k x n
#endif
#ifndef STORED
#define STORED float            // type of the matrices; ushort for the bits of float16
#define SUM float               // type of the sums
#define VALUE float             // type of the epilogue and of partial sums
#define STORED_TO_SUM(x) (x)
#define VALUE_TO_STORED(x) (x)
#endif
#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS                 // further kernel parameters, each after a comma
#define EPILOGUE(value, row, column) (value)  // rows are counted through the whole batch
#endif

// ---- The schedule

#ifndef BLOCK_M
#define BLOCK_M 64  // rows of C of a work-group
#endif
#ifndef BLOCK_N
#define BLOCK_N 64  // columns of C of a work-group
#endif
#ifndef BLOCK_K
#define BLOCK_K 16  // steps of k between two barriers
#endif
#ifndef THREAD_M
#define THREAD_M 4  // rows of C of a work-item
#endif
#ifndef THREAD_N
#define THREAD_N 4  // columns of C of a work-item
#endif
#ifndef VECTOR_A
#define VECTOR_A 1  // elements of A in one global read: 1, 2 or 4
#endif
#ifndef VECTOR_B
#define VECTOR_B 1  // elements of B in one global read: 1, 2 or 4
#endif
#ifndef VECTOR_TILE
#define VECTOR_TILE 1  // elements in one local read, and neighbouring rows and columns of C owned
#endif
#ifndef STAGES
#define STAGES 1  // tiles in local memory: 2 lets one be filled while the other is used
#endif
#ifndef PREFETCH
#define PREFETCH 1  // 1: fetch the next tile before multiplying this one; costs registers
#endif
#ifndef PAD
#define PAD 0  // unused elements after each row of a transposed tile, against bank conflicts
#endif
#ifndef UNROLL
#define UNROLL 4  // steps of k unrolled
#endif
#ifndef SPLIT_K
#define SPLIT_K 1  // parts of k, each computed by other work-groups
#endif
#ifndef RASTER
#define RASTER 1  // rows of tiles walked together, column by column, so that tiles meet in cache
#endif
#ifndef REDUCE_THREADS
#define REDUCE_THREADS 64  // work-items of a group of the reduction
#endif

// ---- What follows from these

#define THREADS_M (BLOCK_M / THREAD_M)
#define THREADS_N (BLOCK_N / THREAD_N)
#define THREADS (THREADS_M * THREADS_N)
#define TILES_M ((M + BLOCK_M - 1) / BLOCK_M)
#define TILES_N ((N + BLOCK_N - 1) / BLOCK_N)
#define TILES_K ((K + BLOCK_K - 1) / BLOCK_K)
#define SPLIT_TILES ((TILES_K + SPLIT_K - 1) / SPLIT_K)  // steps of one part
#define PITCH_A (BLOCK_M + (A_ALONG_K ? PAD : 0))
#define PITCH_B (BLOCK_N + (B_ALONG_K ? PAD : 0))
#define TILE_A (BLOCK_K * PITCH_A)
#define TILE_B (BLOCK_K * PITCH_B)
#define STAGED_A (BLOCK_M * BLOCK_K / THREADS)  // elements that a work-item moves at a time
#define STAGED_B (BLOCK_N * BLOCK_K / THREADS)

#define STORED2 VECTOR2(STORED)
#define STORED4 VECTOR4(STORED)

// ---- Vectors of 1, 2 or 4 elements, aligned to their size

FUNCTION void read_global(GLOBAL const STORED *from, const int lanes, STORED *to)
{
    if (lanes == 4) {
        const STORED4 v = *(GLOBAL const STORED4 *)from;
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if (lanes == 2) {
        const STORED2 v = *(GLOBAL const STORED2 *)from;
        to[0] = v.x, to[1] = v.y;
    } else {
        to[0] = *from;
    }
}

FUNCTION void write_global(GLOBAL STORED *to, const int lanes, const STORED *from)
{
    if (lanes == 4) {
        STORED4 v;
        v.x = from[0], v.y = from[1], v.z = from[2], v.w = from[3];
        *(GLOBAL STORED4 *)to = v;
    } else if (lanes == 2) {
        STORED2 v;
        v.x = from[0], v.y = from[1];
        *(GLOBAL STORED2 *)to = v;
    } else {
        *to = from[0];
    }
}

FUNCTION void read_local(LOCAL const STORED *from, const int lanes, STORED *to)
{
    if (lanes == 4) {
        const STORED4 v = *(LOCAL const STORED4 *)from;
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if (lanes == 2) {
        const STORED2 v = *(LOCAL const STORED2 *)from;
        to[0] = v.x, to[1] = v.y;
    } else {
        to[0] = *from;
    }
}

FUNCTION void write_local(LOCAL STORED *to, const int lanes, const STORED *from)
{
    if (lanes == 4) {
        STORED4 v;
        v.x = from[0], v.y = from[1], v.z = from[2], v.w = from[3];
        *(LOCAL STORED4 *)to = v;
    } else if (lanes == 2) {
        STORED2 v;
        v.x = from[0], v.y = from[1];
        *(LOCAL STORED2 *)to = v;
    } else {
        *to = from[0];
    }
}

// ---- From global to local memory, through registers
//
// A tile is `block` rows of A (or columns of B) by BLOCK_K steps of k, cut into pieces of `lanes`
// elements that are neighbours in global memory: along k, or along the rows. As a row of the
// matrix is a multiple of `lanes` long, a piece lies wholly inside of it or wholly outside.

FUNCTION int piece_row(int piece, const int along_k, const int lanes, const int block)
{
    return along_k ? piece / (BLOCK_K / lanes) : piece % (block / lanes) * lanes;
}

FUNCTION int piece_step(int piece, const int along_k, const int lanes, const int block)
{
    return along_k ? piece % (BLOCK_K / lanes) * lanes : piece / (block / lanes);
}

// This work-item's pieces of the tile at (first_row, first_step); zeros outside the matrix.
FUNCTION void fetch(GLOBAL const STORED *matrix, const int along_k, const int lanes,
                    const int block, const int rows, int first_row, int first_step,
                    STORED *staged)
{
#pragma unroll
    for (int i = 0; i < block * BLOCK_K / THREADS; i += lanes) {
        const int piece = LOCAL_ID(0) + i / lanes * THREADS;
        const int row = first_row + piece_row(piece, along_k, lanes, block);
        const int step = first_step + piece_step(piece, along_k, lanes, block);
        if ((rows % block == 0 || row < rows) && (K % BLOCK_K == 0 || step < K)) {
            read_global(matrix + (along_k ? row * K + step : step * rows + row), lanes, staged + i);
        } else {
#pragma unroll
            for (int lane = 0; lane < lanes; lane++) staged[i + lane] = 0;
        }
    }
}

// The same pieces into local memory; along k, a piece is spread over `lanes` rows of the tile.
FUNCTION void stash(LOCAL STORED *tile, const int along_k, const int lanes, const int block,
                    const int pitch, const STORED *staged)
{
#pragma unroll
    for (int i = 0; i < block * BLOCK_K / THREADS; i += lanes) {
        const int piece = LOCAL_ID(0) + i / lanes * THREADS;
        const int row = piece_row(piece, along_k, lanes, block);
        const int step = piece_step(piece, along_k, lanes, block);
        if (along_k) {
#pragma unroll
            for (int lane = 0; lane < lanes; lane++)
                tile[(step + lane) * pitch + row] = staged[i + lane];
        } else {
            write_local(tile + step * pitch + row, lanes, staged + i);
        }
    }
}

// ---- Multiplication

// Row (or column) of the block that is element i of work-item `thread` of `threads`: each owns
// runs of VECTOR_TILE neighbours, and neighbouring work-items own neighbouring runs.
FUNCTION int owned(int i, int thread, const int threads)
{
    return (i / VECTOR_TILE * threads + thread) * VECTOR_TILE + i % VECTOR_TILE;
}

// One step of k of a tile: this work-item's `count` elements.
FUNCTION void read_tile(LOCAL const STORED *step, int thread, const int threads, const int count,
                        SUM *values)
{
#pragma unroll
    for (int i = 0; i < count; i += VECTOR_TILE) {
        STORED run[VECTOR_TILE];
        read_local(step + owned(i, thread, threads), VECTOR_TILE, run);
#pragma unroll
        for (int lane = 0; lane < VECTOR_TILE; lane++) values[i + lane] = STORED_TO_SUM(run[lane]);
    }
}

FUNCTION void multiply(LOCAL const STORED *a_tile, LOCAL const STORED *b_tile, int thread_m,
                       int thread_n, SUM sums[THREAD_M][THREAD_N])
{
#pragma unroll UNROLL
    for (int step = 0; step < BLOCK_K; step++) {
        SUM a[THREAD_M], b[THREAD_N];
        read_tile(a_tile + step * PITCH_A, thread_m, THREADS_M, THREAD_M, a);
        read_tile(b_tile + step * PITCH_B, thread_n, THREADS_N, THREAD_N, b);
#pragma unroll
        for (int i = 0; i < THREAD_M; i++) {
#pragma unroll
            for (int j = 0; j < THREAD_N; j++) sums[i][j] = FMA(a[i], b[j], sums[i][j]);
        }
    }
}

#if SPLIT_K > 1
#define RESULT GLOBAL VALUE *RESTRICT partial  // BATCH x SPLIT_K x M x N
#else
#define RESULT GLOBAL STORED *RESTRICT c EPILOGUE_PARAMETERS
#endif

KERNEL GROUP_SIZE(THREADS, 1, 1) void matmul(GLOBAL const STORED *RESTRICT a,
                                             GLOBAL const STORED *RESTRICT b, RESULT)
{
    LOCAL_ARRAY(STORED, a_tiles, STAGES * TILE_A);
    LOCAL_ARRAY(STORED, b_tiles, STAGES * TILE_B);

    // Tiles of C are walked in bands of RASTER rows, column by column within a band.
    const int band = GROUP_ID(0) / (RASTER * TILES_N);
    const int in_band = GROUP_ID(0) % (RASTER * TILES_N);
    const int left = TILES_M - band * RASTER;
    const int band_rows = left < RASTER ? left : RASTER;
    const int first_row = (band * RASTER + in_band % band_rows) * BLOCK_M;
    const int first_column = in_band / band_rows * BLOCK_N;

    const int batch = GROUP_ID(2);
    a += (size_t)batch * M * K;
    b += (size_t)batch * K * N;
    const int first_tile = GROUP_ID(1) * SPLIT_TILES;
    const int tiles = TILES_K - first_tile < SPLIT_TILES ? TILES_K - first_tile : SPLIT_TILES;

    const int thread_m = LOCAL_ID(0) / THREADS_N, thread_n = LOCAL_ID(0) % THREADS_N;
    STORED a_staged[STAGED_A], b_staged[STAGED_B];
    SUM sums[THREAD_M][THREAD_N];
#pragma unroll
    for (int i = 0; i < THREAD_M; i++) {
#pragma unroll
        for (int j = 0; j < THREAD_N; j++) sums[i][j] = 0;
    }

#define FETCH(tile)                                                                             \
    fetch(a, A_ALONG_K, VECTOR_A, BLOCK_M, M, first_row, (first_tile + (tile)) * BLOCK_K,       \
          a_staged);                                                                            \
    fetch(b, B_ALONG_K, VECTOR_B, BLOCK_N, N, first_column, (first_tile + (tile)) * BLOCK_K,    \
          b_staged)
#define STASH(tile)                                                                             \
    stash(a_tiles + (tile) % STAGES * TILE_A, A_ALONG_K, VECTOR_A, BLOCK_M, PITCH_A, a_staged); \
    stash(b_tiles + (tile) % STAGES * TILE_B, B_ALONG_K, VECTOR_B, BLOCK_N, PITCH_B, b_staged)

    FETCH(0);
    STASH(0);
    BARRIER();
    for (int tile = 0; tile < tiles; tile++) {
        const int more = tile + 1 < tiles;
        if (PREFETCH && more) {
            FETCH(tile + 1);
        }
        multiply(a_tiles + tile % STAGES * TILE_A, b_tiles + tile % STAGES * TILE_B, thread_m,
                 thread_n, sums);
        if (!PREFETCH && more) {
            FETCH(tile + 1);
        }
        if (STAGES == 1) BARRIER();  // nobody still reads the tile that is overwritten now
        if (more) {
            STASH(tile + 1);
        }
        BARRIER();
    }

#pragma unroll
    for (int i = 0; i < THREAD_M; i++) {
        const int row = first_row + owned(i, thread_m, THREADS_M);
        if (M % BLOCK_M != 0 && row >= M) continue;
#pragma unroll
        for (int j = 0; j < THREAD_N; j += VECTOR_TILE) {
            const int column = first_column + owned(j, thread_n, THREADS_N);
#if SPLIT_K > 1
            GLOBAL VALUE *part = partial + ((size_t)batch * SPLIT_K + GROUP_ID(1)) * M * N;
#pragma unroll
            for (int lane = 0; lane < VECTOR_TILE; lane++)
                if (N % BLOCK_N == 0 || column + lane < N)
                    part[row * N + column + lane] = (VALUE)sums[i][j + lane];
#else
            STORED run[VECTOR_TILE];
#pragma unroll
            for (int lane = 0; lane < VECTOR_TILE; lane++)
                if (N % BLOCK_N == 0 || column + lane < N)
                    run[lane] = VALUE_TO_STORED(EPILOGUE((VALUE)sums[i][j + lane],
                                                         (size_t)batch * M + row, column + lane));
            GLOBAL STORED *to = c + ((size_t)batch * M + row) * N + column;
            if (N % VECTOR_TILE == 0) {
                if (N % BLOCK_N == 0 || column < N) write_global(to, VECTOR_TILE, run);
            } else {
#pragma unroll
                for (int lane = 0; lane < VECTOR_TILE; lane++)
                    if (column + lane < N) to[lane] = run[lane];
            }
#endif
        }
    }
}

#if SPLIT_K > 1
KERNEL GROUP_SIZE(REDUCE_THREADS, 1, 1) void reduce(GLOBAL const VALUE *RESTRICT partial,
                                                    GLOBAL STORED *RESTRICT c EPILOGUE_PARAMETERS)
{
    const int element = GROUP_ID(0) * REDUCE_THREADS + LOCAL_ID(0);
    if (element >= M * N) return;
    const size_t batch = GROUP_ID(2);
    GLOBAL const VALUE *part = partial + batch * SPLIT_K * M * N + element;
    VALUE sum = 0;
#pragma unroll
    for (int split = 0; split < SPLIT_K; split++) sum += part[(size_t)split * M * N];
    c[batch * M * N + element] =
        VALUE_TO_STORED(EPILOGUE(sum, batch * M + element / N, element % N));
}
#endif
