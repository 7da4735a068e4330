// C = epilogue(A B) for at most 16 rows of A, or of each group of rows: weights B at memory
// bandwidth (sm_80 on).
//
// Every element of B is used M times and read once, so that the time is that of reading B. What
// counts is the bytes under way: each thread keeps STAGES - 1 rounds of asynchronous copies, of 16
// bytes each, on their way to places in shared memory that are its own, so that nobody waits for
// anybody. (Loads to registers would be fewer: compilers move them down to where they are used.) A
// is small and stays in the L1 cache, which the copies pass by. A warp computes COLUMNS columns of C
// from a part of k; WARPS_K warps of a block, and SPLIT_K blocks, share k, and their sums are added
// at the end.
//
// With MMA the operands of the tensor cores are swapped: 16 columns of B are the 16 rows of the
// instruction, and the rows of A its 8 columns. As a sum may be taken in any order, k is permuted,
// of both alike, so that a thread's 16 bytes are fragments as they come. A quantised B becomes
// numbers in between, two at a time.
//
//   matmul:  groups (columns of C / BLOCK_N, SPLIT_K, BATCH, or groups that have rows); writes C,
//            or sums of a part of k
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

// ---- The workload

#ifndef M
#define M 1  // rows of C, of all groups together
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
#define B_ALONG_K 1  // 1: B is stored n x k; 0: k x n
#endif
#ifndef STORED
#define STORED ushort   // an element of A and B: its bits, or float
#define STORED_BYTES 2  // of it
#define SUM float       // of the sums, of a part of them too: float or int
#define PARTIAL SUM     // the same in memory
#define VALUE float     // of the epilogue
#define C_TYPE ushort   // an element of C
#define STORED_TO_SUM(x) half_to_float(x)
#define VALUE_TO_C(x) float_to_half(x)
#endif
#ifndef A_LOAD
#define A_LOAD 16  // bytes that one load or copy moves, as every row of A begins at a multiple
#define B_LOAD 16  // of them: 16, 8 or 4; or less: element by element
#endif
#ifndef B_BITS
#define B_BITS (8 * STORED_BYTES)  // an element of B: 8 or 4 if it is quantised, and signed
#define QUANTISED 0                // 1: B is (b - zero) * scale in the type of A; 4 bits need B_ALONG_K
#define ZERO_POINT 0               // 1: there are zeros
#define GROUP_SIZE_K K             // neighbours in k that share a scale: all, or a multiple of 8
#define IS_BFLOAT 0                // 1: A, scales and zeros are bfloat16; 0: float16
#endif
#ifndef ROW_GROUPS
#define ROW_GROUPS 0  // groups of rows of A and C, each multiplied with a B of its own; 0: none
#define ROWS M        // of a product, at most 16: all, or those of the largest group
#elif !defined(ROW_GROUPS_H)
#include "row_groups.h"  // every group is one tile
#endif
#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS                   // further kernel parameters, each after a comma
#define EPILOGUE(value, row, column) (value)  // rows are counted through the whole batch
#endif

// ---- The schedule

#ifndef USE_MMA
#define USE_MMA 0  // 1: tensor cores; 0: ordinary multiply-adds
#endif
#ifndef GROUPS
#define GROUPS 2  // groups of columns of a warp
#endif
#ifndef WARPS_N
#define WARPS_N 4  // warps of a block with columns of their own
#endif
#ifndef WARPS_K
#define WARPS_K 2  // warps of a block that share columns, each with a part of k
#endif
#ifndef UNROLL
#define UNROLL 2  // steps of k in a round of copies
#endif
#ifndef STAGES
#define STAGES 4  // rounds of copies in shared memory: one is multiplied, the others are under way
#endif
#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit: compilers keep to the registers that this leaves
#endif
#ifndef SPLIT_K
#define SPLIT_K 1  // parts of k, each of other blocks
#endif

#if SPLIT_K > 1 && !defined(SPLIT_K_H)
#include "split_k.h"
#endif
#if QUANTISED && !defined(QUANTISED_H)
#include "quantised.h"
#endif

// ---- What follows from these

#define VECTOR (16 / STORED_BYTES)  // elements of A in 16 bytes
#define B_VECTOR (128 / B_BITS)     // of B
#define PARTS (B_ALONG_K ? B_VECTOR / VECTOR : 1)  // vectors of A that one of B is multiplied with
#if USE_MMA
#define STEP_K (4 * (B_ALONG_K ? B_VECTOR : VECTOR))   // steps of k of a warp at a time
#define GROUP_COLUMNS (B_ALONG_K ? 16 : 8 * B_VECTOR)  // columns of a group
#define VECTORS (B_ALONG_K ? 2 : VECTOR)               // loads of a thread for them
#else
#define STEP_K (B_ALONG_K ? 32 * VECTOR : VECTOR)
#define GROUP_COLUMNS (B_ALONG_K ? 1 : 32 * VECTOR)
#define VECTORS (B_ALONG_K ? 1 : VECTOR)
#endif
#define COLUMNS (GROUPS * GROUP_COLUMNS)
#define BLOCK_N (WARPS_N * COLUMNS)
#define THREADS (32 * WARPS_N * WARPS_K)
#define STEP_BYTES (16 * GROUPS * VECTORS * THREADS)  // of B that a step of all warps takes
#define CHUNK_K (STEP_K * UNROLL * WARPS_K)  // of k of a block at a time
#define CHUNKS ((K + CHUNK_K - 1) / CHUNK_K)
#define GUARD_K (K % CHUNK_K != 0)
#define GUARD_N (N % BLOCK_N != 0)
#define TILES_M ((ROWS + 7) / 8)  // tensor cores take 8 rows of A

// ---- Which elements a lane loads: the first one of vector v, from the group's and step's first

FUNCTION int vector_column(int lane, int v)
{
    if (USE_MMA) return B_ALONG_K ? lane / 4 + v * 8 : lane / 4 * B_VECTOR;
    return B_ALONG_K ? 0 : lane * VECTOR;
}
FUNCTION int vector_step(int lane, int v)
{
    if (USE_MMA) return lane % 4 * (STEP_K / 4) + (B_ALONG_K ? 0 : v);
    return B_ALONG_K ? lane * VECTOR : v;
}

// ---- Vectors of 16 bytes

// An element of a vector, to be multiplied.
FUNCTION SUM element(const uint4 &v, int i)
{
    const unsigned bits = word(v, i * STORED_BYTES / 4) >> i * STORED_BYTES % 4 * 8;
#if STORED_BYTES == 4
    return __uint_as_float(bits);
#else
    return STORED_TO_SUM((STORED)bits);
#endif
}

// A stored element as the lower bits of a word that has no others.
FUNCTION unsigned element_bits(STORED x)
{
    return STORED_BYTES == 4 ? bits_of(x) : bits_of(x) & ((1u << STORED_BYTES % 4 * 8) - 1);
}

// A vector of A: up to `left` elements, then zeros.
FUNCTION uint4 load_vector(const STORED *from, int left)
{
    if (A_LOAD == 16) return left > 0 ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
    unsigned words[4] = {0, 0, 0, 0};
#pragma unroll
    for (int at = 0; at < 16; at += A_LOAD < 4 ? STORED_BYTES : A_LOAD) {
        if (at / STORED_BYTES >= left) continue;
        const STORED *piece = from + at / STORED_BYTES;
        if (A_LOAD == 8) {
            const uint2 pair = *(const uint2 *)piece;
            words[at / 4] = pair.x, words[at / 4 + 1] = pair.y;
        } else if (A_LOAD == 4) {
            words[at / 4] = *(const unsigned *)piece;
        } else {
            words[at / 4] |= element_bits(*piece) << at % 4 * 8;
        }
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// Up to `left` bytes of B to shared memory, then zeros.
FUNCTION void copy_vector(unsigned char *to, const unsigned char *from, int left)
{
#pragma unroll
    for (int at = 0; at < 16; at += B_LOAD) {
        const bool inside = at < left;
        if (B_LOAD >= 4)
            copy_async<B_LOAD < 4 ? 4 : B_LOAD>(shared_address(to + at), from + at, inside);
        else if (B_LOAD == 2)
            *(ushort *)(to + at) = inside ? *(const ushort *)(from + at) : (ushort)0;
        else
            to[at] = inside ? from[at] : (unsigned char)0;
    }
}

// VECTOR neighbours in k of a row of A, which has `rows`; then zeros.
FUNCTION uint4 load_row(const STORED *a, int rows, int row, int k)
{
    const int left = row < rows ? (GUARD_K ? K - k : VECTOR) : 0;
    if (A_ALONG_K) return load_vector(a + (size_t)row * K + k, left);
    unsigned words[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        const int at = i * STORED_BYTES;
        if (i < left) words[at / 4] |= element_bits(a[(size_t)(k + i) * M + row]) << at % 4 * 8;
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// The weights of one step, GROUPS groups of columns from `column` on, to this thread's places.
FUNCTION void copy_weights(unsigned char *to, const unsigned char *b, int column, int k)
{
    const int lane = LOCAL_ID(0) % 32;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const int n = column + group * GROUP_COLUMNS + vector_column(lane, v);
            const int step = k + vector_step(lane, v);
            const bool outside = (GUARD_N && n >= N) || (GUARD_K && step >= K);
            const int rest = B_ALONG_K ? K - step : N - n;  // elements of the line, at most 16 bytes
            const int left = (B_ALONG_K ? GUARD_K : GUARD_N) && rest < B_VECTOR ? rest : B_VECTOR;
            const size_t at = B_ALONG_K ? (size_t)n * K + step : (size_t)step * N + n;
            copy_vector(to + (group * VECTORS + v) * THREADS * 16, b + at * B_BITS / 8,
                        outside ? 0 : left * B_BITS / 8);
        }
    }
}

FUNCTION void load_weights(uint4 (&w)[GROUPS][VECTORS], const unsigned char *from)
{
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            w[group][v] = *(const uint4 *)(from + (group * VECTORS + v) * THREADS * 16);
    }
}

// ---- Products: sums of a lane, and the row and column (within the warp's) of each

#if USE_MMA

#define SUMS (B_ALONG_K ? 1 : B_VECTOR / 2)  // fragments of 16 columns in a group
typedef float Sums[GROUPS][SUMS][TILES_M][4];

#if QUANTISED
#define SCALE_PARAMETERS , const ushort *b_scale, const ushort *b_zero
#else
#define SCALE_PARAMETERS
#endif

// Register i of a fragment of B: rows 0 to 7 or 8 to 15 of the instruction (columns of C), first or
// last half of its k. `half` says which of two products a vector of A is for.
FUNCTION unsigned fragment(const uint4 (&w)[VECTORS], int j, int half, int i)
{
    const int upper = i % 2, pair = half * 2 + i / 2;
    if (B_ALONG_K) return word(w[upper], pair);
    return __byte_perm(word(w[2 * pair % VECTORS], j), word(w[(2 * pair + 1) % VECTORS], j),
                       upper ? 0x7632 : 0x5410);
}

#if QUANTISED && !B_ALONG_K
#define QUANTA B_VECTOR  // of a lane in a group: one for each of its columns

// The same where bytes are restored: column c of a lane is byte c of its vectors.
FUNCTION unsigned fragment(const uint4 (&w)[VECTORS], int j, int half, int i,
                           const Quantum (&quanta)[QUANTA])
{
    const int c = 2 * j + i % 2, pair = half * 2 + i / 2;
    const unsigned bytes = __byte_perm(word(w[2 * pair % VECTORS], c / 4),
                                       word(w[(2 * pair + 1) % VECTORS], c / 4),
                                       c % 4 | (4 + c % 4) << 4);
    return restored_bytes(bytes, 0, 1, quanta[c]);
}
#else
#define QUANTA VECTORS
#endif

FUNCTION void multiply_step(Sums &sums, const uint4 (&w)[GROUPS][VECTORS], const STORED *a,
                            int row_count, int column, int k SCALE_PARAMETERS)
{
    const int lane = LOCAL_ID(0) % 32;
#if QUANTISED
    Quantum quanta[GROUPS][QUANTA];
#endif
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        const int step = k + lane % 4 * (STEP_K / 4) + part * VECTOR;
        unsigned rows[TILES_M][4];
#pragma unroll
        for (int tile = 0; tile < TILES_M; tile++) {
            uint4 v = load_row(a, row_count, tile * 8 + lane / 4, step);
#if QUANTISED
            v = in_order(v);
#endif
            rows[tile][0] = v.x, rows[tile][1] = v.y, rows[tile][2] = v.z, rows[tile][3] = v.w;
        }
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            uint4 weights[VECTORS];
#if QUANTISED && !B_ALONG_K
#pragma unroll
            for (int c = 0; c < QUANTA; c++) {
                const int n = column + group * GROUP_COLUMNS + vector_column(lane, 0) + c;
                quanta[group][c] = quantum_at(b_scale, b_zero, n, step);
            }
#endif
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
#if QUANTISED && B_ALONG_K
                const int n = column + group * GROUP_COLUMNS + vector_column(lane, v);
                if (part == 0 || (GROUP_SIZE_K < K && GROUP_SIZE_K % B_VECTOR != 0))
                    quanta[group][v] = quantum_at(b_scale, b_zero, n, step);
                weights[v] = expanded(w[group][v], part, quanta[group][v]);
#else
                weights[v] = w[group][v];
#endif
            }
#pragma unroll
            for (int j = 0; j < SUMS; j++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    unsigned columns[4];
#pragma unroll
                    for (int i = 0; i < 4; i++)
#if QUANTISED && !B_ALONG_K
                        columns[i] = fragment(weights, j, half, i, quanta[group]);
#else
                        columns[i] = fragment(weights, j, half, i);
#endif
#pragma unroll
                    for (int tile = 0; tile < TILES_M; tile++)
                        multiply(sums[group][j][tile], columns, rows[tile] + half * 2);
                }
            }
        }
    }
}

FUNCTION void share(PARTIAL *shared, Sums &sums)
{
    const int lane = LOCAL_ID(0) % 32;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
#pragma unroll
        for (int j = 0; j < SUMS; j++) {
#pragma unroll
            for (int at = 0; at < TILES_M * 4; at++) {
                const int i = at % 4, row = at / 4 * 8 + sum_column(lane, i);
                const int across = vector_column(lane, 0) + 2 * j + i / 2;
                const int column = B_ALONG_K ? sum_row(lane, i) : across;
                if (row < ROWS)
                    shared[row * BLOCK_N + group * GROUP_COLUMNS + column] = sums[group][j][at / 4][i];
            }
        }
    }
}

#elif B_ALONG_K

typedef SUM Sums[GROUPS][ROWS];

FUNCTION void multiply_step(Sums &sums, const uint4 (&w)[GROUPS][VECTORS], const STORED *a,
                            int row_count, int column, int k)
{
    uint4 rows[ROWS];
#pragma unroll
    for (int row = 0; row < ROWS; row++)
        rows[row] = load_row(a, row_count, row, k + LOCAL_ID(0) % 32 * VECTOR);
#pragma unroll
    for (int i = 0; i < VECTOR; i++) {
        SUM weights[GROUPS];
#pragma unroll
        for (int group = 0; group < GROUPS; group++) weights[group] = element(w[group][0], i);
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            const SUM x = element(rows[row], i);
#pragma unroll
            for (int group = 0; group < GROUPS; group++) sums[group][row] += x * weights[group];
        }
    }
}

// Every lane has a part of each sum.
FUNCTION void share(PARTIAL *shared, Sums &sums)
{
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            SUM sum = sums[group][row];
#pragma unroll
            for (int apart = 16; apart > 0; apart /= 2)
                sum += __shfl_xor_sync(0xFFFFFFFF, sum, apart);
            if (LOCAL_ID(0) % 32 == 0) shared[row * BLOCK_N + group] = sum;
        }
    }
}

#else

typedef SUM Sums[GROUPS][VECTOR][ROWS];

FUNCTION void multiply_step(Sums &sums, const uint4 (&w)[GROUPS][VECTORS], const STORED *a,
                            int row_count, int column, int k)
{
    uint4 rows[ROWS];
#pragma unroll
    for (int row = 0; row < ROWS; row++) rows[row] = load_row(a, row_count, row, k);
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
#pragma unroll
        for (int step = 0; step < VECTOR; step++) {
#pragma unroll
            for (int j = 0; j < VECTOR; j++) {
                const SUM weight = element(w[group][step], j);
#pragma unroll
                for (int row = 0; row < ROWS; row++)
                    sums[group][j][row] += element(rows[row], step) * weight;
            }
        }
    }
}

FUNCTION void share(PARTIAL *shared, Sums &sums)
{
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
#pragma unroll
            for (int j = 0; j < VECTOR; j++)
                shared[row * BLOCK_N + group * GROUP_COLUMNS + LOCAL_ID(0) % 32 * VECTOR + j] =
                    sums[group][j][row];
        }
    }
}

#endif

// ---- The kernel

#if SPLIT_K > 1
#define RESULT PARTIAL *RESTRICT partial  // BATCH x SPLIT_K x M x N
#else
#define RESULT C_TYPE *RESTRICT c EPILOGUE_PARAMETERS
#endif

#if QUANTISED
#define SCALES , b_scale, b_zero
#else
#define SCALES
#endif
#if QUANTISED && ZERO_POINT
#define GIVEN const ushort *RESTRICT b_scale, const ushort *RESTRICT b_zero,
#elif QUANTISED
#define GIVEN const ushort *RESTRICT b_scale,
#else
#define GIVEN
#endif

KERNEL __launch_bounds__(THREADS, RESIDENT) void matmul(const STORED *RESTRICT a,
                                                        const unsigned char *RESTRICT b,
                                                        GIVEN RESULT)
{
    extern __shared__ __align__(128) unsigned char shared[];

    const int part = GROUP_ID(1);
#if ROW_GROUPS
    const RowGroup group = row_group_of_tile(GROUP_ID(2));
    const int batch = 0, product = group.index, first_row = group.first_row;
    const int row_count = group.end_row - first_row;
#else
    const int batch = GROUP_ID(2), product = batch, first_row = 0, row_count = M;
#endif
    const int warp_k = LOCAL_ID(0) / 32 % WARPS_K, warp_n = LOCAL_ID(0) / 32 / WARPS_K;
    const int first_column = GROUP_ID(0) * BLOCK_N, own_column = warp_n * COLUMNS;
    const int first_chunk = first_step_of(part, CHUNKS, SPLIT_K);
    const int chunks = steps_of(part, CHUNKS, SPLIT_K);
    a += (size_t)batch * M * K + (size_t)first_row * (A_ALONG_K ? K : 1);
    b += (size_t)product * K * N * B_BITS / 8;
#if QUANTISED
    b_scale += (size_t)product * (K / GROUP_SIZE_K) * N;
#if ZERO_POINT
    b_zero += (size_t)product * (K / GROUP_SIZE_K) * N;
#else
    const ushort *b_zero = b_scale;  // never read
#endif
#endif

    Sums sums;
    SUM *sum = (SUM *)&sums;
#pragma unroll
    for (int i = 0; i < (int)(sizeof(Sums) / sizeof(SUM)); i++) sum[i] = 0;

    unsigned char *own = shared + LOCAL_ID(0) * 16;
    const int own_k = first_chunk * CHUNK_K + warp_k * UNROLL * STEP_K;
#define COPY_CHUNK(chunk, stage)                                                              \
    if ((chunk) < chunks) {                                                                   \
        _Pragma("unroll") for (int i = 0; i < UNROLL; i++)                                    \
            copy_weights(own + ((stage) * UNROLL + i) * STEP_BYTES, b,                        \
                         first_column + own_column, own_k + (chunk) * CHUNK_K + i * STEP_K);  \
    }                                                                                         \
    copy_commit()

#pragma unroll
    for (int chunk = 0; chunk < STAGES - 1; chunk++) {
        COPY_CHUNK(chunk, chunk);
    }
    int stage = 0, free_stage = STAGES - 1;
    for (int chunk = 0; chunk < chunks; chunk++) {
        COPY_CHUNK(chunk + STAGES - 1, free_stage);
        copy_wait<STAGES - 1>();
#pragma unroll
        for (int i = 0; i < UNROLL; i++) {
            uint4 weights[GROUPS][VECTORS];
            load_weights(weights, own + (stage * UNROLL + i) * STEP_BYTES);
            multiply_step(sums, weights, a, row_count, first_column + own_column,
                          own_k + chunk * CHUNK_K + i * STEP_K SCALES);
        }
        free_stage = stage;
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }

    copy_wait<0>();
    __syncthreads();                     // the copies are used up, and make room
    PARTIAL *parts = (PARTIAL *)shared;  // WARPS_K x ROWS x BLOCK_N
    share(parts + warp_k * ROWS * BLOCK_N + own_column, sums);
    __syncthreads();
    for (int i = LOCAL_ID(0); i < ROWS * BLOCK_N; i += THREADS) {
        const int row = i / BLOCK_N, column = first_column + i % BLOCK_N;
        if ((GUARD_N && column >= N) || row >= row_count) continue;
        PARTIAL total = 0;
#pragma unroll
        for (int warp = 0; warp < WARPS_K; warp++) total += parts[warp * ROWS * BLOCK_N + i];
#if SPLIT_K > 1
        partial[(((size_t)batch * SPLIT_K + part) * M + first_row + row) * N + column] = total;
#else
        const size_t c_row = (size_t)batch * M + first_row + row;
        c[c_row * N + column] = VALUE_TO_C(EPILOGUE((VALUE)total, c_row, column));
#endif
    }
}
