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

#define M 365
#define N 256
#define K 512
#define A_ALONG_K 1
#define B_ALONG_K 1
#define MMA "m16n8k16.row.col.f32.bf16.bf16.f32"
#define STORED ushort
#define STORED_BYTES 2
#define SUM float
#define SUM_WORDS 4
#define PARTIAL float
#define VALUE float
#define A_COPY 16
#define B_COPY 16
#define C_LANES 8
#define BLOCK_K 32
#define BLOCK_M 64
#define BLOCK_N 64
#define FRAGMENTS 2
#define RASTER 2
#define RESIDENT 1
#define SPLIT_K 1
#define STAGED_STORE 1
#define STAGES 3
#define WARP_M 32
#define WARP_N 32
#define REDUCE_THREADS 128

#define ROW_GROUPS 4
#define ROW_GROUP_ENDS {1, 1, 301, 365}
#define ROW_GROUP_TILES {1, 1, 6, 7}
#define ALL_ROW_GROUP_TILES 7

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

#define EPILOGUE_PARAMETERS , GLOBAL const ushort *RESTRICT bias
#define EPILOGUE(value, row, column) ((value) + bfloat16_to_float(bias[(column)]))

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

// Tiles of A and B in shared memory, in lines along the fast axis of the matrix, and how a block's
// threads fill them.

#ifndef MMA_SYNC_TILES_H
#define MMA_SYNC_TILES_H

// LINES by LENGTH elements of memory; TURN as of `swizzled`. If IN_TURN, lines of k lie in the order
// in which a step's products take them.
template <int LINES_, int LENGTH_, int BYTES_, int TURN, int IN_TURN> struct Tile {
    static const int LINES = LINES_, LENGTH = LENGTH_, BYTES = BYTES_;
    static const int PITCH = LENGTH * BYTES, CHUNKS = PITCH / 16;
    static const int PERIOD = IN_TURN ? 32 : 8;  // lines after which places differ by PITCH alone

    // Where, in the tile, an element lies, for a line that was put in its place.
    static FUNCTION int offset(int place, int element)
    {
        return swizzled(place, element * BYTES / 16, CHUNKS, TURN) + element * BYTES % 16;
    }
    static FUNCTION int place(int line) { return IN_TURN ? in_turn(line) : line; }
};

// Fragments of A beside a quantised B are vectors of 16 bytes; of B, 8 bytes of int8, 4 of int4.
#define ACROSS_TURN (STORED_BYTES < 4 ? 1 : 2)
typedef Tile<A_ALONG_K ? BLOCK_M : BLOCK_K, A_ALONG_K ? BLOCK_K : BLOCK_M, STORED_BYTES,
             A_ALONG_K ? (QUANTISED ? 4 : 1) : ACROSS_TURN, QUANTISED && !A_ALONG_K>
    TileA;
typedef Tile<B_ALONG_K ? BLOCK_N : BLOCK_K, B_ALONG_K ? BLOCK_K / B_PACKED : BLOCK_N,
             B_STORED_BYTES, B_ALONG_K ? (QUANTISED && B_BITS == 8 ? 2 : 1) : ACROSS_TURN,
             QUANTISED && !B_ALONG_K>
    TileB;
typedef Tile<QUANTUM_LINES, BLOCK_N, 2, 0, 0> TileQuanta;

// How the block's threads share a tile in pieces of COPY bytes (single elements if that is 0): piece
// i of a thread lies `line(i)` and `element(i)` further than the thread's first one.
template <typename TILE, int COPY> struct Pieces {
    static const int WIDE = COPY ? COPY / TILE::BYTES : 1;  // elements of a piece
    static const int OF_LINE = TILE::LENGTH / WIDE;
    static const int ALL = TILE::LINES * OF_LINE;
    static const int OF_THREAD = (ALL + THREADS - 1) / THREADS;

    // Whether all of a thread's pieces are permuted alike, so that only the first takes arithmetic.
    static const bool STEADY = THREADS % (OF_LINE * TILE::PERIOD) == 0;

    static FUNCTION int first_line() { return LOCAL_ID(0) / OF_LINE; }
    static FUNCTION int first_element() { return LOCAL_ID(0) % OF_LINE * WIDE; }
    static FUNCTION int line(int i) { return i * THREADS / OF_LINE; }
    static FUNCTION int element(int i) { return i * THREADS % OF_LINE * WIDE; }
};

// This thread's pieces of a tile; the first is at `from` in a matrix with lines of `length`. What
// lies `lines_left` lines or `length_left` elements from there, or beyond, is outside, and zero.
template <typename TILE, int COPY, typename T>
FUNCTION void fetch(unsigned char *tile, const T *from, const int length, int lines_left,
                    int length_left)
{
    typedef Pieces<TILE, COPY> PIECES;
    const int first_line = PIECES::first_line(), first_element = PIECES::first_element();
    const int first = TILE::offset(TILE::place(first_line), first_element);
#pragma unroll(COPY == 16 ? PIECES::OF_THREAD : 8)
    for (int i = 0; i < PIECES::OF_THREAD; i++) {
        const int line = PIECES::line(i), element = PIECES::element(i);
        if (PIECES::ALL % THREADS != 0 && i * THREADS + LOCAL_ID(0) >= PIECES::ALL) break;
        const bool inside = line < lines_left && element < length_left;
        const T *piece = from + ((size_t)line * length + element);
        const int place = TILE::place(first_line + line);
        unsigned char *to = tile + (PIECES::STEADY ? first + line * TILE::PITCH
                                                   : TILE::offset(place, first_element + element));
        if (COPY)
            copy_async<COPY ? COPY : 4>(shared_address(to), piece, inside);
        else
            *(T *)to = inside ? *piece : (T)0;
    }
}

// What this thread copies next of a tile's operands, and how far the matrices reach from there.
struct Source {
    const STORED *a;
    const B_STORED *b;
    int a_step, b_step;  // from the tile's first step of k to its first piece
    int rows_left, columns_left, k;
#if QUANTISED
    const ushort *scale, *zero;
    int column;
#endif

    FUNCTION Source(const STORED *first_a, const B_STORED *first_b, int row, int row_end,
                    int column, int first_k)
        : k(first_k)
    {
        typedef Pieces<TileA, A_COPY> PiecesA;
        typedef Pieces<TileB, B_COPY> PiecesB;
        a_step = A_ALONG_K ? PiecesA::first_element() : PiecesA::first_line();
        b_step = B_ALONG_K ? PiecesB::first_element() * B_PACKED : PiecesB::first_line();
        row += A_ALONG_K ? PiecesA::first_line() : PiecesA::first_element();
        column += B_ALONG_K ? PiecesB::first_line() : PiecesB::first_element();
        const int a_k = k + a_step, b_k = k + b_step;
        a = first_a + (A_ALONG_K ? (size_t)row * K + a_k : (size_t)a_k * M + row);
        b = first_b;
        b += B_ALONG_K ? ((size_t)column * K + b_k) / B_PACKED : (size_t)b_k * N + column;
        rows_left = GUARD_M ? row_end - row : BLOCK_M;
        columns_left = GUARD_N ? N - column : BLOCK_N;
    }

    FUNCTION void fetch_next(unsigned char *to)
    {
        const int a_left = GUARD_K ? K - k - a_step : BLOCK_K;
        const int b_left = GUARD_K ? K - k - b_step : BLOCK_K;
        if (A_ALONG_K)
            fetch<TileA, A_COPY>(to, a, K, rows_left, a_left);
        else
            fetch<TileA, A_COPY>(to, a, M, a_left, rows_left);
        to += A_TILE_BYTES;
        if (B_ALONG_K)
            fetch<TileB, B_COPY>(to, b, K / B_PACKED, columns_left,
                                 (b_left + B_PACKED - 1) / B_PACKED);
        else
            fetch<TileB, B_COPY>(to, b, N, b_left, columns_left);
        fetch_quanta(to + B_TILE_BYTES);
        k += BLOCK_K;
        a += (size_t)BLOCK_K * (A_ALONG_K ? 1 : M);
        b += (size_t)BLOCK_K * (B_ALONG_K ? 1 : N) / B_PACKED;
    }

#if QUANTISED
    FUNCTION void fetch_quanta(unsigned char *to) const
    {
        typedef Pieces<TileQuanta, QUANTUM_COPY> PIECES;
        const int group = (QUANTUM_GROUPS == 1 ? 0 : k / GROUP_SIZE_K) + PIECES::first_line();
        const int first = column + PIECES::first_element(), left = GUARD_N ? N - first : BLOCK_N;
        const size_t at = (size_t)group * N + first;
        fetch<TileQuanta, QUANTUM_COPY>(to, scale + at, N, QUANTUM_GROUPS - group, left);
        if (ZERO_POINT)
            fetch<TileQuanta, QUANTUM_COPY>(to + QUANTUM_BYTES, zero + at, N,
                                            QUANTUM_GROUPS - group, left);
    }
#else
    FUNCTION void fetch_quanta(unsigned char *) const {}
#endif
};

// ---- Fragments: 16 rows (columns of B) by 32 bytes of k in four registers
//
// Register i is of rows 0 to 7 or 8 to 15, and of the first or last 16 bytes of k. `half_row` and
// `half_k` say which: for A the rows change faster, for B, where two registers make an operand, k.

template <int IS_B> FUNCTION int half_row(int i) { return IS_B ? i / 2 : i % 2; }
template <int IS_B> FUNCTION int half_k(int i) { return IS_B ? i % 2 : i / 2; }

// 2-byte elements across k, of the product `step`: the instruction transposes.
template <typename TILE, int IS_B>
FUNCTION void load_across_k2(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    const int lane = LOCAL_ID(0) % 32, i = lane / 8;
    const int line = step * PRODUCT_K + half_k<IS_B>(i) * 8 + lane % 8;
    load_transposed(r, shared_address(tile + TILE::offset(line, row + half_row<IS_B>(i) * 8)));
}

#endif

// The operands of a product, where B has the type of A: 32 bytes of k.

#ifndef MMA_SYNC_PLAIN_H
#define MMA_SYNC_PLAIN_H

// k is the fast axis: the matrices that the instruction loads are just those.
template <typename TILE, int IS_B>
FUNCTION void load_along_k(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    const int lane = LOCAL_ID(0) % 32, i = lane / 8;
    const int line = row + half_row<IS_B>(i) * 8 + lane % 8;
    const int element = step * PRODUCT_K + half_k<IS_B>(i) * (PRODUCT_K / 2);
    load_matrices(r, shared_address(tile + TILE::offset(line, element)));
}

// 4-byte elements across k: a register is one element.
template <typename TILE, int IS_B>
FUNCTION void load_across_k4(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    const int lane = LOCAL_ID(0) % 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int line = step * PRODUCT_K + half_k<IS_B>(i) * 4 + lane % 4;
        const int element = row + half_row<IS_B>(i) * 8 + lane / 4;
        r[i] = *(const unsigned *)(tile + TILE::offset(line, element));
    }
}

// 1-byte elements across k: transposed as pairs of neighbouring rows, which are then taken apart.
// Matrix 2 h + i has lines 4 j + 2 i and 4 j + 2 i + 1 of half h of k, so that a lane ends up with
// four neighbours in k. What was an even row comes first, what was an odd one 8 rows later.
template <typename TILE, int IS_B>
FUNCTION void load_across_k1(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    const int lane = LOCAL_ID(0) % 32, i = lane / 8, j = lane % 8;
    const int line = step * PRODUCT_K + i / 2 * 16 + j / 2 * 4 + i % 2 * 2 + j % 2;
    unsigned pairs[4];
    load_transposed(pairs, shared_address(tile + TILE::offset(line, row)));
#pragma unroll
    for (int at = 0; at < 4; at++) {
        const int h = half_k<IS_B>(at);
        r[at] = __byte_perm(pairs[2 * h], pairs[2 * h + 1], half_row<IS_B>(at) ? 0x7531 : 0x6420);
    }
}

template <typename TILE, int ALONG_K, int IS_B>
FUNCTION void load_fragment(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    if (ALONG_K)
        load_along_k<TILE, IS_B>(r, tile, row, step);
    else if (STORED_BYTES == 4)
        load_across_k4<TILE, IS_B>(r, tile, row, step);
    else if (STORED_BYTES == 2)
        load_across_k2<TILE, IS_B>(r, tile, row, step);
    else
        load_across_k1<TILE, IS_B>(r, tile, row, step);
}

struct Operands {
    unsigned a[FRAGMENTS_M][4], b[FRAGMENTS_N][4];

    // Of `step` of the tile in a stage; `row`, `column`: of the warp.
    FUNCTION void load(const unsigned char *stage, int row, int column, int step, int,
                       const Operands &)
    {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++)
            load_fragment<TileA, A_ALONG_K, 0>(a[i], stage, row + i * 16, step);
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; j++)
            load_fragment<TileB, B_ALONG_K, 1>(b[j], stage + A_TILE_BYTES, column + j * 16, step);
    }

    // sums += a b
    FUNCTION void multiply_into(SUM (&sums)[FRAGMENTS_M][2 * FRAGMENTS_N][SUM_WORDS]) const
    {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
            for (int j = 0; j < 2 * FRAGMENTS_N; j++)
                multiply(sums[i][j], a[i], b[j / 2] + j % 2 * 2);
        }
    }
};

// Row and column of C, within a warp's, of sum i of half `half` of a fragment.
FUNCTION int row_of(int fragment, int, int i)
{
    const int row = sum_row(LOCAL_ID(0) % 32, i % 4);
    return fragment * 16 + (A_INTERLEAVED ? row % 8 * 2 + row / 8 : row);
}

FUNCTION int column_of(int fragment, int half, int i)
{
    const int column = sum_column(LOCAL_ID(0) % 32, i % 4);
    return fragment * 16 + (B_INTERLEAVED ? column * 2 + half : half * 8 + column);
}

#define NEIGHBOURS (B_INTERLEAVED ? 1 : 2)  // sums of a lane in turn that are neighbours in a row

#endif

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
