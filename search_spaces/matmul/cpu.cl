// C = epilogue(A B) on a CPU: explicit vectors, one work-item a group.
//
// A work-item computes a block of BLOCK_M x BLOCK_N elements of C. It copies the columns of B that
// it needs into panels of its own (PACK_B), where they lie in the order in which they are read and
// stay in the core's second-level cache, and multiplies them with all rows of its block. The
// innermost tile of C, TILE_M rows by TILE_VECTORS vectors, is kept in registers while k runs.
// After K. Goto and R. van de Geijn, Anatomy of high-performance matrix multiplication (2008); but
// one core packs what it alone uses, so that no cache line travels between cores.
//
//   matmul:  groups (ROW_BLOCKS x COLUMN_BLOCKS, 1, BATCH) of one work-item

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
#define STORED float  // type of the matrices; ushort for the bits of float16
#define SUM float     // type of the sums
#define STORED_IS_HALF 0
#endif
#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS  // further kernel parameters, each after a comma
#define EPILOGUE_ARGUMENTS   // their names, each after a comma
#define EPILOGUE(value, row, column) (value)      // rows are counted through the whole batch
#define EPILOGUE_VEC(value, row, column) (value)  // the same for LANES neighbours in a row
#endif

// ---- The schedule

#ifndef LANES
#define LANES 16  // elements of a vector: 4, 8 or 16
#endif
#ifndef TILE_M
#define TILE_M 6  // rows of the register tile
#endif
#ifndef TILE_VECTORS
#define TILE_VECTORS 4  // vectors in a row of the register tile
#endif
#ifndef BLOCK_M
#define BLOCK_M M  // rows of a work-item's block: a multiple of TILE_M, or M
#endif
#ifndef BLOCK_N
#define BLOCK_N 128  // columns of a work-item's block: a multiple of the tile's
#endif
#ifndef BLOCK_K
#define BLOCK_K 512  // steps of k between two visits of C
#endif
#ifndef UNROLL
#define UNROLL 1  // steps of k unrolled
#endif
#ifndef PACK_A
#define PACK_A 0  // 1: copy a tile's rows of A before use; 0: read A where it is
#endif
#ifndef PACK_B
#define PACK_B 1  // 1: copy a block's columns of B before use; 0: read B where it is
#endif
#ifndef PANELS_ON_STACK
#define PANELS_ON_STACK 0  // 1: panels of B in private memory; 0: in local memory
#endif
#ifndef ROWS_FIRST
#define ROWS_FIRST 1  // 1: neighbouring groups share columns; 0: they share rows
#endif
#ifndef PREFETCH_A
#define PREFETCH_A 0  // 1: fetch the rows of A for the tiles below, each tile its share of them
#endif
#ifndef PREFETCH_C
#define PREFETCH_C 0  // 1: fetch the tile of C into the cache before k runs
#endif

// ---- What follows from these

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define VECTOR JOIN(SUM, LANES)
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define CEIL_DIV(a, b) (((a) + (b) - 1) / (b))

#define TILE_N (TILE_VECTORS * LANES)
#define TAIL_M (M % TILE_M)  // rows of the last tiles, where M is not a multiple
#define TAIL_N (N % TILE_N)
#define ROW_BLOCKS CEIL_DIV(M, BLOCK_M)
#define COLUMN_BLOCKS CEIL_DIV(N, BLOCK_N)
#define PANELS CEIL_DIV(MIN_OF(BLOCK_N, N), TILE_N)  // of TILE_N columns in a block
#define STEPS MIN_OF(BLOCK_K, K)
#define SPLIT (BLOCK_K < K)  // sums are stored and taken up again between two blocks of k

#if STORED_IS_HALF
#define READ(from) vload_half(0, (GLOBAL const half *)(from))
#define WRITE(value, to) vstore_half_rte(value, 0, (GLOBAL half *)(to))
#define READ_VECTOR(from) JOIN(vload_half, LANES)(0, (GLOBAL const half *)(from))
#define WRITE_VECTOR(value, to) JOIN(JOIN(vstore_half, LANES), _rte)(value, 0, (GLOBAL half *)(to))
#else
#define READ(from) (*(from))
#define WRITE(value, to) (*(to) = (value))
#define READ_VECTOR(from) JOIN(vload, LANES)(0, from)
#define WRITE_VECTOR(value, to) JOIN(vstore, LANES)(value, 0, to)
#endif

#if SPLIT && STORED_IS_HALF  // C would round the sums between two visits: they have an array
#define PARTIAL partial
#define PARTIAL_PARAMETER , GLOBAL SUM *RESTRICT partial
#define PARTIAL_ARGUMENT , partial
#else
#define PARTIAL c
#define PARTIAL_PARAMETER
#define PARTIAL_ARGUMENT
#endif

#if PREFETCH_A
#define AHEAD_ROWS CEIL_DIV(TILE_M, PANELS)
#else
#define AHEAD_ROWS 0
#endif

#ifndef FETCH     // a cache line; simulators know OpenCL's prefetch() only
#ifdef __clang__  // but that does nothing in some runtimes; OpenCL 1.2 has no generic pointers
#define FETCH(from, to_write) __builtin_prefetch((const void *)(size_t)(from), to_write, 2)
#else
#define FETCH(from, to_write) prefetch(from, 1)
#endif
#endif

#if PACK_A  // a panel keeps A's order, but no distance of a power of two, which would share sets
#define A_SPACE __private
#define A_TYPE SUM
#define A_READ(from) (*(from))
#define A_ROW (A_ALONG_K ? STEPS + LANES : 1)  // elements from a row to the next
#define A_STEP (A_ALONG_K ? 1 : TILE_M)        // elements from a step of k to the next
// One more vector than needed: an optimiser of Intel's hoists the use of a one-element array.
#define A_PANEL (A_ALONG_K ? TILE_M * A_ROW : STEPS * A_STEP + LANES)
#else
#define A_SPACE GLOBAL
#define A_TYPE STORED
#define A_READ(from) READ(from)
#define A_ROW (A_ALONG_K ? K : 1)
#define A_STEP (A_ALONG_K ? 1 : M)
#endif

#if PACK_B
#if PANELS_ON_STACK
#define B_SPACE __private
#else
#define B_SPACE LOCAL
#endif
#define B_VECTOR(from, left) (*(B_SPACE const VECTOR *)(from))
#define B_STEP TILE_N
#define B_TYPE SUM
#else
#define B_SPACE GLOBAL
#define B_VECTOR(from, left) ((left) < LANES ? read_within(from, b_end) : READ_VECTOR(from))
#define B_STEP N
#define B_TYPE STORED
#endif

// ---- Packing

#define A_AT(a, row, p) ((a) + (A_ALONG_K ? (size_t)(row) * K + (p) : (size_t)(p) * M + (row)))
#define B_AT(b, p, column) \
    ((b) + (B_ALONG_K ? (size_t)(column) * K + (p) : (size_t)(p) * N + (column)))

#if PACK_A
// Rows [row, row + rows) of A, `steps` of k from `first`.
FUNCTION void pack_a(GLOBAL const STORED *a, A_SPACE SUM *panel, const int row,
                     const int rows, const int first, const int steps)
{
#if A_ALONG_K
    for (int r = 0; r < rows; ++r) {
        int p = 0;
        for (; p + LANES <= steps; p += LANES)
            JOIN(vstore, LANES)(READ_VECTOR(A_AT(a, row + r, first + p)), 0, panel + r * A_ROW + p);
        for (; p < steps; ++p) panel[r * A_ROW + p] = READ(A_AT(a, row + r, first + p));
    }
#else
    for (int p = 0; p < steps; ++p)
        for (int r = 0; r < rows; ++r) panel[p * A_STEP + r] = READ(A_AT(a, row + r, first + p));
#endif
}
#endif

#if PACK_B
// square[i][j] becomes square[j][i], in log2(LANES) perfect shuffles.
FUNCTION void transpose(VECTOR *square)
{
#pragma unroll
    for (int stage = 1; stage < LANES; stage *= 2) {
        VECTOR next[LANES];
#pragma unroll
        for (int i = 0; i < LANES / 2; ++i) {
            next[2 * i].even = square[i].lo, next[2 * i].odd = square[i + LANES / 2].lo;
            next[2 * i + 1].even = square[i].hi, next[2 * i + 1].odd = square[i + LANES / 2].hi;
        }
#pragma unroll
        for (int i = 0; i < LANES; ++i) square[i] = next[i];
    }
}

// Columns [column, column + vectors * LANES) of B stored n x k, a square of vectors at a time.
FUNCTION int pack_b_squares(GLOBAL const STORED *b, B_SPACE SUM *panel,
                            const int column, const int vectors, const int first, const int steps)
{
    int p = 0;
    for (; p + LANES <= steps; p += LANES)
        for (int v = 0; v < vectors; ++v) {
            VECTOR square[LANES];
#pragma unroll
            for (int i = 0; i < LANES; ++i)
                square[i] = READ_VECTOR(B_AT(b, first + p, column + v * LANES + i));
            transpose(square);
#pragma unroll
            for (int i = 0; i < LANES; ++i)
                *(B_SPACE VECTOR *)(panel + (p + i) * TILE_N + v * LANES) = square[i];
        }
    return p;
}

// A panel of B: TILE_N columns from `column`, `steps` of k from `first`. Columns past N become 0,
// up to a whole vector.
FUNCTION void pack_b(GLOBAL const STORED *b, B_SPACE SUM *panel,
                     const int column, const int first, const int steps)
{
    const int columns = MIN_OF(TILE_N, N - column), vectors = columns / LANES;
    int p = B_ALONG_K ? pack_b_squares(b, panel, column, vectors, first, steps) : 0;
    if (!B_ALONG_K && vectors == TILE_VECTORS) {
        for (; p < steps; ++p)
#pragma unroll
            for (int v = 0; v < TILE_VECTORS; ++v)
                *(B_SPACE VECTOR *)(panel + p * TILE_N + v * LANES) =
                    READ_VECTOR(B_AT(b, first + p, column + v * LANES));
        return;
    }
    for (; p < steps; ++p)
        for (int j = 0; j < vectors * LANES; ++j)
            panel[p * TILE_N + j] = READ(B_AT(b, first + p, column + j));
    if (columns % LANES)
        for (p = 0; p < steps; ++p)
            for (int j = vectors * LANES; j < (vectors + 1) * LANES; ++j)
                panel[p * TILE_N + j] = j < columns ? READ(B_AT(b, first + p, column + j)) : 0;
}
#endif

// ---- The register tile

#if !PACK_B
// A vector at the end of a row may hold elements of the next, for columns past N, but none from
// behind the matrix.
FUNCTION VECTOR read_within(GLOBAL const STORED *from, GLOBAL const STORED *end)
{
    if (end - from >= LANES) return READ_VECTOR(from);
    SUM lanes[LANES];
    for (int l = 0; l < LANES; ++l) lanes[l] = from + l < end ? READ(from + l) : 0;
    return JOIN(vload, LANES)(0, lanes);
}
#endif

// One step of k: rows x vectors multiplications of a row of A's tile with B's vectors.
#define STEP(p)                                                                         \
    {                                                                                   \
        VECTOR row_of_b[TILE_VECTORS];                                                  \
        _Pragma("unroll") for (int v = 0; v < vectors; ++v)                             \
            row_of_b[v] = B_VECTOR(b + (p) * B_STEP + v * LANES, columns - v * LANES);  \
        _Pragma("unroll") for (int r = 0; r < rows; ++r) {                              \
            const VECTOR from_a = (VECTOR)(A_READ(a + r * A_ROW + (p) * A_STEP));       \
            _Pragma("unroll") for (int v = 0; v < vectors; ++v)                         \
                sums[r][v] = fma(from_a, row_of_b[v], sums[r][v]);                      \
        }                                                                               \
    }

// The tile of C at (row, column) over `steps` of k. `rows` and `columns` are constants where this
// is inlined. `is_first`: no sums are stored yet; `is_last`: they are complete after this. `ahead`:
// the rows of A that PREFETCH_A fetches. `b_end`: where B ends.
FUNCTION void tile(A_SPACE const A_TYPE *a, B_SPACE const B_TYPE *b,
                   GLOBAL const STORED *ahead, GLOBAL const STORED *b_end,
                   GLOBAL STORED *c, const int rows, const int columns, const int row,
                   const int column, const int steps, const int is_first, const int is_last,
                   const size_t batch PARTIAL_PARAMETER EPILOGUE_PARAMETERS)
{
    const int vectors = CEIL_DIV(columns, LANES);
    const size_t corner = (size_t)row * N + column;
    VECTOR sums[TILE_M][TILE_VECTORS];
#if PREFETCH_C
#pragma unroll
    for (int r = 0; r < rows; ++r)
#pragma unroll
        for (int v = 0; v < vectors; ++v) FETCH(c + corner + (size_t)r * N + v * LANES, 1);
#endif
#pragma unroll
    for (int r = 0; r < rows; ++r)
#pragma unroll
        for (int v = 0; v < vectors; ++v) sums[r][v] = (VECTOR)(0);

    int p = 0;
    for (; p + UNROLL <= steps; p += UNROLL) {
#pragma unroll
        for (int r = 0; r < AHEAD_ROWS; ++r) FETCH(A_AT(ahead, r, p), 0);
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) STEP(u)
        a += UNROLL * A_STEP;
        b += UNROLL * B_STEP;
    }
#if UNROLL > 1
    for (; p < steps; ++p) {
        STEP(0)
        a += A_STEP;
        b += B_STEP;
    }
#endif

#pragma unroll
    for (int r = 0; r < rows; ++r)
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const size_t at = corner + (size_t)r * N + v * LANES;
            if (columns - v * LANES >= LANES) {
                VECTOR value = sums[r][v];
#if SPLIT
                if (!is_first) value += JOIN(vload, LANES)(0, PARTIAL + at);
                if (!is_last) {
                    JOIN(vstore, LANES)(value, 0, PARTIAL + at);
                    continue;
                }
#endif
                WRITE_VECTOR(EPILOGUE_VEC(value, batch * M + row + r, column + v * LANES), c + at);
            } else {
                SUM lanes[LANES];
                JOIN(vstore, LANES)(sums[r][v], 0, lanes);
                for (int l = 0; l < columns - v * LANES; ++l) {
                    SUM value = lanes[l];
#if SPLIT
                    if (!is_first) value += PARTIAL[at + l];
                    if (!is_last) {
                        PARTIAL[at + l] = value;
                        continue;
                    }
#endif
                    WRITE(EPILOGUE(value, batch * M + row + r, column + v * LANES + l), c + at + l);
                }
            }
        }
}

// ---- The block of a work-item

// The tile's share of the rows below. They may lie behind the matrix: fetching does not fault.
#define AHEAD A_AT(a, row + TILE_M + AHEAD_ROWS * ((column - first_column) / TILE_N), first)
#define TILE_OF(rows, columns)                                                                   \
    tile(a_tile, b_tile, AHEAD, b + (size_t)K * N, c, rows, columns, row, column, steps,         \
         first == 0, first + steps == K, batch PARTIAL_ARGUMENT EPILOGUE_ARGUMENTS)

KERNEL GROUP_SIZE(1, 1, 1)
void matmul(GLOBAL const STORED *RESTRICT a, GLOBAL const STORED *RESTRICT b,
            GLOBAL STORED *RESTRICT c PARTIAL_PARAMETER EPILOGUE_PARAMETERS)
{
    const int block = GROUP_ID(0);
    const int row_block = ROWS_FIRST ? block % ROW_BLOCKS : block / COLUMN_BLOCKS;
    const int column_block = ROWS_FIRST ? block / ROW_BLOCKS : block % COLUMN_BLOCKS;
    const int first_row = row_block * BLOCK_M, end_row = MIN_OF(first_row + BLOCK_M, M);
    const int first_column = column_block * BLOCK_N, end_column = MIN_OF(first_column + BLOCK_N, N);
    const size_t batch = GROUP_ID(2);
    a += batch * M * K;
    b += batch * K * N;
    c += batch * M * N;
#if SPLIT && STORED_IS_HALF
    partial += batch * M * N;
#endif

#if PACK_A
    SUM a_panel[A_PANEL] __attribute__((aligned(128)));
#endif
#if PACK_B
#if PANELS_ON_STACK
    SUM b_panels[PANELS * TILE_N * STEPS] __attribute__((aligned(128)));
#else
    LOCAL SUM b_panels[PANELS * TILE_N * STEPS] __attribute__((aligned(128)));
#endif
#endif

    for (int first = 0; first < K; first += STEPS) {
        const int steps = MIN_OF(STEPS, K - first);
#if PACK_B
        for (int column = first_column; column < end_column; column += TILE_N)
            pack_b(b, b_panels + (column - first_column) * STEPS, column, first, steps);
#endif
        for (int row = first_row; row < end_row; row += TILE_M) {
#if PACK_A
            pack_a(a, a_panel, row, MIN_OF(TILE_M, M - row), first, steps);
            A_SPACE const A_TYPE *a_tile = a_panel;
#else
            A_SPACE const A_TYPE *a_tile = A_AT(a, row, first);
#endif
            for (int column = first_column; column < end_column; column += TILE_N) {
#if PACK_B
                B_SPACE const B_TYPE *b_tile = b_panels + (column - first_column) * STEPS;
#else
                B_SPACE const B_TYPE *b_tile = B_AT(b, first, column);
#endif
#if TAIL_M && TAIL_N
                if (row + TILE_M > M && column + TILE_N > N) {
                    TILE_OF(TAIL_M, TAIL_N);
                    continue;
                }
#endif
#if TAIL_M
                if (row + TILE_M > M) {
                    TILE_OF(TAIL_M, TILE_N);
                    continue;
                }
#endif
#if TAIL_N
                if (column + TILE_N > N) {
                    TILE_OF(TILE_M, TAIL_N);
                    continue;
                }
#endif
                TILE_OF(TILE_M, TILE_N);
            }
        }
    }
}
