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

#define M 128
#define N 4096
#define K 4096
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
#define QUANTISED 1
#define B_BITS 4
#define ZERO_POINT 0
#define GROUP_SIZE_K 128
#define IS_BFLOAT 1
#define QUANTUM_COPY 16
#define C_LANES 8
#define BLOCK_K 64
#define BLOCK_M 128
#define BLOCK_N 64
#define FRAGMENTS 2
#define RASTER 1
#define RESIDENT 1
#define SPLIT_K 1
#define STAGED_STORE 1
#define STAGES 4
#define WARP_M 64
#define WARP_N 32
#define REDUCE_THREADS 128


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
#define EPILOGUE(value, row, column) (value)

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

// A quantised B, integers of 8 or 4 bits, made numbers of the type of A: (b - zero) * scale, where
// GROUP_SIZE_K neighbours in k share a zero and a scale. Stands after tensor_core.h.
//
// Needs K, N, B_BITS, ZERO_POINT, GROUP_SIZE_K and IS_BFLOAT, as skinny.cu and mma_sync_schedule.h
// explain them.

#ifndef QUANTISED_H
#define QUANTISED_H

// x y + z of two elements each.
FUNCTION unsigned fma2(unsigned x, unsigned y, unsigned z)
{
    unsigned result;
#if IS_BFLOAT
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(x), "r"(y), "r"(z));
#else
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(x), "r"(y), "r"(z));
#endif
    return result;
}

// A scale and, in the upper half, the zero negated: one register for both.
typedef unsigned Quantum;

FUNCTION Quantum quantum_of(ushort scale, ushort zero)
{
    return ZERO_POINT ? __byte_perm(scale, zero, 0x5410) ^ 0x80000000 : scale;
}
FUNCTION unsigned scale2(Quantum quantum) { return __byte_perm(quantum, 0, 0x1010); }
FUNCTION unsigned zero2(Quantum quantum) { return __byte_perm(quantum, 0, 0x3232); }

// Of a column of B and the group of k that `step` is in; beyond the matrix, of its last ones.
FUNCTION Quantum quantum_at(const ushort *b_scale, const ushort *b_zero, int column, int step)
{
    const int groups = K / GROUP_SIZE_K, found = groups > 1 ? step / GROUP_SIZE_K : 0;
    const int group = found < groups ? found : groups - 1, n = column < N ? column : N - 1;
    const size_t at = (size_t)group * N + n;
    return quantum_of(b_scale[at], ZERO_POINT ? b_zero[at] : 0);
}

// Two whole numbers made those of B.
FUNCTION unsigned scaled(unsigned pair, Quantum quantum)
{
    if (ZERO_POINT) pair = fma2(pair, IS_BFLOAT ? 0x3F803F80 : 0x3C003C00, zero2(quantum));
    return fma2(pair, scale2(quantum), 0x80008000);
}

// Integers between 0 and 15, or 255, as bits beside an exponent, are numbers but for an addend that
// is then taken off: 1024 in float16, 128 in bfloat16 (int4), 2^23 in float32.
FUNCTION unsigned restored(unsigned biased, Quantum quantum)
{
    const unsigned one = IS_BFLOAT ? 0x3F803F80 : 0x3C003C00;
    const unsigned bias = IS_BFLOAT ? 0xC308C308 : B_BITS == 4 ? 0xE408E408 : 0xE480E480;
    return scaled(fma2(biased, one, bias), quantum);
}

// Byte i of a word, 128 taken off, as the bits of a float; the lower half of them is zero.
FUNCTION unsigned float_of_byte(unsigned word, int i)
{
    return bits_of(__uint_as_float(__byte_perm(word, 0x4B000000, 0x7440 + i)) - 8388736.0f);
}

// Two int4 in the lowest bits of either half of a word. A block is one thread deep: a mask that
// compilers do not know stays in a register, where they would move a constant to one each time.
FUNCTION unsigned restored_apart(unsigned word, Quantum quantum)
{
    const unsigned mask = blockDim.z * 0x000F000F;
    return restored((word & mask) ^ (IS_BFLOAT ? 0x43084308 : 0x64086408), quantum);
}

// Neighbours 2 i and 2 i + 1 of the eight int4 of a word.
FUNCTION unsigned restored_nibbles(unsigned word, int i, Quantum quantum)
{
    return restored_apart(__byte_perm(word, word >> 4, i | (4 + i) << 8), quantum);
}

// Two bytes of a word.
FUNCTION unsigned restored_bytes(unsigned word, int first, int second, Quantum quantum)
{
    const unsigned bytes = word ^ 0x80808080;
    if (IS_BFLOAT) {
        const unsigned low = float_of_byte(bytes, first), high = float_of_byte(bytes, second);
        return scaled(__byte_perm(low, high, 0x7632), quantum);
    }
    return restored(__byte_perm(bytes, 0x64646464, first | 0x4040 | second << 8), quantum);
}

// Eight elements of a vector of B as those of A are kept. Those of int4 come as 0 and 4, 1 and 5,
// 2 and 6, 3 and 7: neighbours of a register that are 16 bits apart in memory.
FUNCTION uint4 expanded(const uint4 &v, int part, Quantum quantum)
{
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
#if B_BITS == 4
        pairs[i] = restored_apart(word(v, part) >> 4 * i, quantum);
#else
        pairs[i] = restored_bytes(word(v, 2 * part + i / 2), i % 2 * 2, i % 2 * 2 + 1, quantum);
#endif
    }
    return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

// A vector of A in the order of `expanded`.
FUNCTION uint4 in_order(const uint4 &v)
{
    if (B_BITS != 4) return v;
    return make_uint4(__byte_perm(v.x, v.z, 0x5410), __byte_perm(v.x, v.z, 0x7632),
                      __byte_perm(v.y, v.w, 0x5410), __byte_perm(v.y, v.w, 0x7632));
}

#endif

// The operands of a step beside a quantised B: 32 of k, for two products, B still as integers.
//
// A sum may be taken in any order, so a step's k are dealt out to suit the loads: lane l multiplies
// elements 8 (l % 4) to 8 (l % 4) + 7, pair x of them (k = 8 (l % 4) + 2 x and the next) as half
// x % 2 of product x / 2. Those of A are a vector, those of B one word of int4 or two of int8, and
// have one scale. Where k is not the fast axis, lines of a tile lie such that pair x of all four
// is eight neighbouring lines (`in_turn`), which a transposing load takes.
//
// The operands are swapped: 16 columns of B are the rows of the instruction, 8 rows of A its
// columns. Of its rows it wants two, with two pairs of each, in four registers side by side, where
// restored numbers can be made; a vector of A has four pairs of one row, right for two columns.

#ifndef MMA_SYNC_QUANTISED_H
#define MMA_SYNC_QUANTISED_H

#define COLUMN_WORDS (B_BITS / 4)  // of eight elements of B

struct Operands {
    unsigned a[FRAGMENTS_M][2][4];  // 8 rows, then 8 more: for the first product, for the second
    unsigned b[FRAGMENTS_N][2 * COLUMN_WORDS];
    Quantum quanta[FRAGMENTS_N][2];

    // Of `step` of the tile in a stage that begins at `tile_k`, `before` being those of the step
    // before; `row`, `column`: of the warp.
    FUNCTION void load(const unsigned char *stage, int row, int column, int step, int tile_k,
                       const Operands &before)
    {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) load_a(a[i], stage, row + i * 16, step);
        const unsigned char *tile = stage + A_TILE_BYTES;
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; j++) load_b(b[j], tile, column + j * 16, step);
        if (QUANTUM_LINES > 1 || step == 0)
            load_quanta(tile + B_TILE_BYTES, column, step, tile_k);
        else
            keep_quanta(before);
    }

    static FUNCTION void load_a(unsigned (&r)[2][4], const unsigned char *tile, int row, int step)
    {
        const int lane = LOCAL_ID(0) % 32;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (A_ALONG_K) {  // 8 rows further in the second half
                const int lane_offset = TileA::offset(lane / 4, step * STEP_K + lane % 4 * 8);
                const unsigned char *rows = tile + (row + half * 8) * TileA::PITCH;
                const uint4 v = *(const uint4 *)(rows + lane_offset);
                r[half][0] = v.x, r[half][1] = v.y, r[half][2] = v.z, r[half][3] = v.w;
            } else {  // the second product
                unsigned words[4];
                load_across_k2<TileA, 1>(words, tile, row, 2 * step + half);
#pragma unroll
                for (int i = 0; i < 4; i++) r[i / 2][2 * half + i % 2] = words[i];
            }
        }
    }

    // Words of a column, then of that 8 further; across k, pair x of columns 2 (l / 4) and on.
    static FUNCTION void load_b(unsigned (&r)[2 * COLUMN_WORDS], const unsigned char *tile,
                                int column, int step)
    {
        const int lane = LOCAL_ID(0) % 32;
#if B_ALONG_K
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int byte = (step * STEP_K + lane % 4 * 8) / B_PACKED;
            const unsigned char *columns = tile + (column + half * 8) * TileB::PITCH;
            const unsigned char *from = columns + TileB::offset(lane / 4, byte);
#if B_BITS == 4
            r[half] = *(const unsigned *)from;
#else
            const uint2 v = *(const uint2 *)from;
            r[2 * half] = v.x, r[2 * half + 1] = v.y;
#endif
        }
#else
        load_transposed(r, shared_address(tile + TileB::offset(step * STEP_K + lane, column)));
#endif
    }

    FUNCTION void load_quanta(const unsigned char *tile, int column, int step, int tile_k)
    {
        const int lane = LOCAL_ID(0) % 32, k = step * STEP_K + lane % 4 * 8;
        const int line = QUANTUM_LINES == 1              ? 0
                         : BLOCK_K % GROUP_SIZE_K == 0 ? k / GROUP_SIZE_K
                                                       : (tile_k % GROUP_SIZE_K + k) / GROUP_SIZE_K;
        const unsigned char *own = tile + lane / 4 * (B_INTERLEAVED ? 4 : 2);
#pragma unroll
        for (int at = 0; at < 2 * FRAGMENTS_N; at++) {
            const int within = at / 2 * 16 + at % 2 * (B_INTERLEAVED ? 1 : 8);
            const unsigned char *from = own + (line * BLOCK_N + column + within) * 2;
            const ushort zero = ZERO_POINT ? *(const ushort *)(from + QUANTUM_BYTES) : (ushort)0;
            quanta[at / 2][at % 2] = quantum_of(*(const ushort *)from, zero);
        }
    }

    FUNCTION void keep_quanta(const Operands &before)
    {
#pragma unroll
        for (int at = 0; at < 2 * FRAGMENTS_N; at++)
            quanta[at / 2][at % 2] = before.quanta[at / 2][at % 2];
    }

    // Pair x of half `half` of the columns of fragment j, as numbers.
    FUNCTION unsigned pair(int j, int half, int x) const
    {
        const Quantum quantum = quanta[j][half];
#if B_BITS == 4
        return restored_nibbles(b[j][half], x, quantum);
#elif B_ALONG_K
        return restored_bytes(b[j][2 * half + x / 2], x % 2 * 2, x % 2 * 2 + 1, quantum);
#else
        return restored_bytes(b[j][x], half, half + 2, quantum);
#endif
    }

    // sums += a b
    FUNCTION void multiply_into(SUM (&sums)[FRAGMENTS_M][2 * FRAGMENTS_N][SUM_WORDS]) const
    {
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; j++) {
#pragma unroll
            for (int product = 0; product < 2; product++) {
                unsigned columns[4];
#pragma unroll
                for (int i = 0; i < 4; i++) columns[i] = pair(j, i % 2, product * 2 + i / 2);
#pragma unroll
                for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
                    for (int half = 0; half < 2; half++)
                        multiply(sums[i][j * 2 + half], columns, a[i][half] + 2 * product);
                }
            }
        }
    }
};

// Row and column of C, within a warp's, of sum i of half `half` of a fragment.
FUNCTION int row_of(int fragment, int half, int i)
{
    return fragment * 16 + half * 8 + sum_column(LOCAL_ID(0) % 32, i % 4);
}

FUNCTION int column_of(int fragment, int, int i)
{
    const int column = sum_row(LOCAL_ID(0) % 32, i % 4);
    return fragment * 16 + (B_INTERLEAVED ? column % 8 * 2 + column / 8 : column);
}

#define NEIGHBOURS 1  // sums of a lane in turn that are neighbours in a row

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
