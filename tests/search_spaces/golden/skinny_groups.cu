// Neutral names of the portable kernels, in CUDA C++. Needs no header of the CUDA toolkit.

typedef unsigned short ushort;

#define KERNEL extern "C" __global__
#define GROUP_SIZE(x, y, z) __launch_bounds__((x) * (y) * (z))
#define FUNCTION __device__ __forceinline__
#define GLOBAL
#define LOCAL
#define LOCAL_ARRAY(type, name, count) __shared__ __align__(16) type name[count]
#define RESTRICT __restrict__
#define BARRIER() __syncthreads()
#define GROUP_ID(axis) GROUP_ID_##axis
#define GROUP_ID_0 ((int)blockIdx.x)
#define GROUP_ID_1 ((int)blockIdx.y)
#define GROUP_ID_2 ((int)blockIdx.z)
#define LOCAL_ID(axis) LOCAL_ID_##axis
#define LOCAL_ID_0 ((int)threadIdx.x)
#define LOCAL_ID_1 ((int)threadIdx.y)
#define LOCAL_ID_2 ((int)threadIdx.z)
#define FMA(x, y, z) fma(x, y, z)

// A vector of 2 or 4 elements with members x, y (z, w). CUDA's own are not there for every type.
template <typename T> struct __align__(2 * sizeof(T)) Vector2 { T x, y; };
template <typename T> struct __align__(sizeof(T) < 8 ? 4 * sizeof(T) : 16) Vector4 { T x, y, z, w; };
#define VECTOR2(type) Vector2<type>
#define VECTOR4(type) Vector4<type>

// float16 is kept as its bits in a ushort.
FUNCTION float half_to_float(ushort bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
FUNCTION ushort float_to_half(float value)
{
    ushort bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Arithmetic in float16: what sums need, and no more.
struct half {
    ushort bits;
    __device__ __forceinline__ half() {}
    __device__ __forceinline__ half(float value) : bits(float_to_half(value)) {}
    __device__ __forceinline__ operator float() const { return half_to_float(bits); }
};
FUNCTION half half_of_bits(ushort bits)
{
    half value;
    value.bits = bits;
    return value;
}
FUNCTION half fma(half x, half y, half z)
{
    ushort bits;
    asm("fma.rn.f16 %0, %1, %2, %3;" : "=h"(bits) : "h"(x.bits), "h"(y.bits), "h"(z.bits));
    return half_of_bits(bits);
}
#define HALF_OF_BITS(bits) half_of_bits(bits)

#define M 29
#define ROWS 16
#define N 2048
#define K 1024
#define A_ALONG_K 1
#define B_ALONG_K 1
#define MMA "m16n8k16.row.col.f32.bf16.bf16.f32"
#define STORED ushort
#define STORED_BYTES 2
#define SUM float
#define PARTIAL float
#define VALUE float
#define STORED_TO_SUM(x) bfloat16_to_float(x)
#define A_LOAD 16
#define B_LOAD 16
#define B_BITS 16
#define QUANTISED 0
#define ZERO_POINT 0
#define GROUP_SIZE_K 1024
#define IS_BFLOAT 1
#define GROUPS 2
#define RESIDENT 1
#define SPLIT_K 1
#define STAGES 4
#define UNROLL 1
#define USE_MMA 1
#define WARPS_K 2
#define WARPS_N 2
#define REDUCE_THREADS 128

#define ROW_GROUPS 4
#define ROW_GROUP_ENDS {1, 1, 13, 29}
#define ROW_GROUP_TILES {1, 1, 2, 3}
#define ALL_ROW_GROUP_TILES 3

// Conversions of bfloat16 and float8, kept as their bits, in CUDA C++ after cuda.h. Needs no header
// of the CUDA toolkit. All round once, to nearest, ties to even; float8 saturates. Conversions to
// bfloat16 need sm_80, those of float8 sm_89. In a pair the first value is the lower half.
#ifndef CUDA_FORMATS
#define CUDA_FORMATS

FUNCTION float bfloat16_to_float(ushort bits) { return __uint_as_float((unsigned)bits << 16); }
FUNCTION ushort float_to_bfloat16(float value)
{
    ushort bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
FUNCTION unsigned floats_to_bfloat16x2(float x, float y)
{
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION unsigned floats_to_halfx2(float x, float y)
{
    return (unsigned)float_to_half(x) | (unsigned)float_to_half(y) << 16;
}

FUNCTION ushort floats_to_float8_e4m3x2(float x, float y)
{
    ushort bits;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION ushort floats_to_float8_e5m2x2(float x, float y)
{
    ushort bits;
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION unsigned char float_to_float8_e4m3(float value)
{
    return (unsigned char)floats_to_float8_e4m3x2(value, 0.0f);
}
FUNCTION unsigned char float_to_float8_e5m2(float value)
{
    return (unsigned char)floats_to_float8_e5m2x2(value, 0.0f);
}
FUNCTION float float8_e4m3_to_float(unsigned char bits)
{
    unsigned halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((ushort)bits));
    return half_to_float((ushort)halves);
}
FUNCTION float float8_e5m2_to_float(unsigned char bits) { return half_to_float((ushort)(bits << 8)); }

#endif

#define C_TYPE ushort
#define VALUE_TO_C(x) float_to_bfloat16(x)
#define VALUES_TO_C2(x, y) floats_to_bfloat16x2(x, y)

#define EPILOGUE_PARAMETERS
FUNCTION float silu(float x) { return x / (1.0f + exp(-x)); }
#define EPILOGUE(value, row, column) silu((value))

// Asynchronous copies, matrix loads and matrix products of CUDA, one function an instruction.
//
// From sm_80 on; float8 from sm_89 on. Stands after cuda.h. Lane l of a warp keeps, of a matrix of
// 8 rows of 16 bytes, bytes 4 (l % 4) to 4 (l % 4) + 3 of row l / 4: that is what `load_matrices`
// gives and `multiply` takes. PTX ISA 8.5: cp.async, ldmatrix, mma, ld.

#ifndef TENSOR_CORE_H
#define TENSOR_CORE_H

#ifndef MMA
#define MMA "m16n8k16.row.col.f32.f16.f16.f32"  // shape and types of a product: 32 bytes of k
#endif

// What instructions call an address in shared memory.
FUNCTION unsigned shared_address(const void *pointer)
{
    return (unsigned)__cvta_generic_to_shared(pointer);
}

// ---- Copies from global to shared memory that the thread need not wait for

// BYTES are 16, 8 or 4, aligned to that; where not `inside`, zeros are written and nothing is read.
template <int BYTES> FUNCTION void copy_async(unsigned to, const void *from, bool inside)
{
    const int read = inside ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                     :
                     : "r"(to), "l"(from), "r"(read)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                     :
                     : "r"(to), "l"(from), "n"(BYTES), "r"(read)
                     : "memory");
}

// Ends a group of copies.
FUNCTION void copy_commit() { asm volatile("cp.async.commit_group;" : : : "memory"); }

// Waits until at most PENDING of this thread's groups, the latest ones, are still under way.
template <int PENDING> FUNCTION void copy_wait()
{
    asm volatile("cp.async.wait_group %0;" : : "n"(PENDING) : "memory");
}

// ---- Four 8 x 16-byte matrices from shared memory

// Lane l gives the address of row l % 8 of matrix l / 8; r[i] is a piece of matrix i.
FUNCTION void load_matrices(unsigned (&r)[4], unsigned address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// The same of the matrices transposed, as 8 x 8 elements of 2 bytes.
FUNCTION void load_transposed(unsigned (&r)[4], unsigned address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// ---- Products: sums += a b, a of 16 rows and b of 8 columns by 32 bytes of k
//
// a: rows 0 to 7 and 8 to 15 of the first 16 bytes of k, then of the last; b: first, last. Sums of
// 32 bits: two neighbours of row l / 4, columns 2 (l % 4) and on, then of row l / 4 + 8; of float16:
// the same pairs, each in a register.

FUNCTION void multiply(float (&d)[4], const unsigned *a, const unsigned *b)
{
    asm volatile("mma.sync.aligned." MMA
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

FUNCTION void multiply(int (&d)[4], const unsigned *a, const unsigned *b)
{
    asm volatile("mma.sync.aligned." MMA
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

FUNCTION void multiply(unsigned (&d)[2], const unsigned *a, const unsigned *b)
{
    asm volatile("mma.sync.aligned." MMA " {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
                 : "+r"(d[0]), "+r"(d[1])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- Stores of 16, 8 and 4 bytes, which a compiler may otherwise take apart

FUNCTION void store_words(void *to, const unsigned (&w)[4])
{
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
                 : "memory");
}
FUNCTION void store_words(void *to, const unsigned (&w)[2])
{
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" : : "l"(to), "r"(w[0]), "r"(w[1]) : "memory");
}
FUNCTION void store_words(void *to, const unsigned (&w)[1]) { *(unsigned *)to = w[0]; }

// ---- Elements in registers

// Words of 16 bytes, in the order of memory.
FUNCTION unsigned word(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Bits of an element, as the lower ones of a register; and neighbours, packed for one store.
FUNCTION unsigned bits_of(float x) { return __float_as_uint(x); }
FUNCTION unsigned bits_of(int x) { return (unsigned)x; }
FUNCTION unsigned bits_of(ushort x) { return x; }
FUNCTION unsigned bits_of(unsigned char x) { return x; }

template <int COUNT, typename T> FUNCTION void store(T *to, const T *values)
{
    const int each = sizeof(T) < 4 ? 4 / sizeof(T) : 1;  // elements of a word
    if (COUNT % each == 0) {
        unsigned words[COUNT < each ? 1 : COUNT / each];
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const unsigned bits = bits_of(values[i]) << i % each * 8 * (int)sizeof(T);
            words[i / each] = i % each ? words[i / each] | bits : bits;
        }
        store_words(to, words);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++) to[i] = values[i];
    }
}

#endif

// Which tile of C is whose turn, which part of k, and where a tile lies in shared memory: integers
// only, so that this part compiles as plain C too and can be tested on any machine.

#ifndef TILES_H
#define TILES_H

#ifndef FUNCTION
#define FUNCTION static inline
#endif

// ---- Order of tiles: bands of `raster` rows of tiles, column by column within a band

FUNCTION int band_of(int index, int columns, int raster) { return index / (raster * columns); }

FUNCTION int band_height(int band, int rows, int raster)
{
    const int left = rows - band * raster;
    return left < raster ? left : raster;
}

FUNCTION int tile_row(int index, int rows, int columns, int raster)
{
    const int band = band_of(index, columns, raster);
    return band * raster + index % (raster * columns) % band_height(band, rows, raster);
}

FUNCTION int tile_column(int index, int rows, int columns, int raster)
{
    const int band = band_of(index, columns, raster);
    return index % (raster * columns) / band_height(band, rows, raster);
}

// ---- Parts of k: each of equally many steps, but the last, which may have fewer

FUNCTION int first_step_of(int part, int steps, int parts)
{
    return part * ((steps + parts - 1) / parts);
}

FUNCTION int steps_of(int part, int steps, int parts)
{
    const int most = (steps + parts - 1) / parts, left = steps - first_step_of(part, steps, parts);
    return left < most ? left : most;
}

// ---- A tile in shared memory: lines of `chunks` times 16 bytes, neighbours in global memory
//
// Shared memory has 32 banks of 4 bytes: eight chunks side by side use all of them. Matrix loads
// and fragments take one chunk of each of eight lines at a time (or, for 4-byte elements across the
// lines and for vectors of 8 bytes, two chunks of each of four lines: `turn` 2; for vectors of 16,
// four of each of two: 4), and a copy fills whole lines. So the chunks of a line are permuted by
// exclusive or with the line's number, as far as eight chunks reach.

FUNCTION int swizzled(int line, int chunk, const int chunks, const int turn)
{
    const int lines = chunks < 8 ? 8 / chunks : 1;  // that share the 128 bytes of all banks
    const int permuted = chunk ^ (line / lines * turn & (chunks < 8 ? chunks - 1 : 7));
    return (line * chunks + permuted) * 16;
}

// Where a line of k goes that pairs of k are taken from: pair x of each of four eights side by side.
FUNCTION int in_turn(int line)
{
    return line / 32 * 32 + line / 2 % 4 * 8 + line / 8 % 4 * 2 + line % 2;
}

// ---- What lane `lane` of a warp keeps of the sums of 16 rows by 8 columns

FUNCTION int sum_row(int lane, int i) { return lane / 4 + i / 2 * 8; }
FUNCTION int sum_column(int lane, int i) { return lane % 4 * 2 + i % 2; }

#endif

// Groups of rows of A and C, each multiplied with a B of its own: which one a tile or a row is of.
// Integers only, so that this part compiles as plain C too and can be tested on any machine.

#ifndef ROW_GROUPS_H
#define ROW_GROUPS_H

#ifndef FUNCTION
#define FUNCTION static inline
#endif
#ifdef __CUDACC__
#define TABLE __constant__
#else
#define TABLE static const
#endif

#ifndef ROW_GROUPS
#define ROW_GROUPS 1             // how many; for each:
#define ROW_GROUP_ENDS {4096}    // the row that it ends before,
#define ROW_GROUP_TILES {32}     // how many tiles it and those before it are along m
#define ALL_ROW_GROUP_TILES 32   // the last of these
#endif

TABLE int row_group_ends[ROW_GROUPS] = ROW_GROUP_ENDS;
TABLE int row_group_tiles[ROW_GROUPS] = ROW_GROUP_TILES;

struct RowGroup {
    int index;               // of its B
    int first_row, end_row;  // the last one is before that
    int first_tile, tiles;   // along m, none of them in two groups
};

// The first group whose entry is above the value.
FUNCTION int row_group_above(const int *table, int value)
{
    int low = 0, high = ROW_GROUPS - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (table[middle] > value)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

FUNCTION int row_group_of_row(int row) { return row_group_above(row_group_ends, row); }

FUNCTION struct RowGroup row_group_of_tile(int tile)
{
    struct RowGroup group;
    group.index = row_group_above(row_group_tiles, tile);
    group.first_row = group.index == 0 ? 0 : row_group_ends[group.index - 1];
    group.end_row = row_group_ends[group.index];
    group.first_tile = group.index == 0 ? 0 : row_group_tiles[group.index - 1];
    group.tiles = row_group_tiles[group.index] - group.first_tile;
    return group;
}

#endif

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
