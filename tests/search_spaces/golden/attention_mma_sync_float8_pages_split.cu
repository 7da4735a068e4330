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

#define BATCH 2
#define HEADS 8
#define KV_HEADS 2
#define Q_LEN 16
#define KV_LEN 900
#define HEAD_DIM 128
#define V_DIM 128
#define TOTAL_Q 32
#define SCALE 0.08838834764831843f
#define CAUSAL 0
#define WINDOW 0
#define SOFTCAP 0.0f
#define HAS_SOFTCAP 0
#define ALIBI 1
#define BIAS 0
#define PACKED 0
#define PACKED_KV 0
#define KV_LENGTHS 1
#define LSE 0
#define SCALED_KV 1
#define PAGE_SIZE 16
#define PAGES_PER_SEQUENCE 57
#define K_PAGE_STRIDE 4096
#define V_PAGE_STRIDE 4096
#define Q_BATCH_STRIDE 16384
#define Q_HEAD_STRIDE 2048
#define Q_ROW_STRIDE 128
#define OUT_BATCH_STRIDE 16384
#define OUT_HEAD_STRIDE 2048
#define OUT_ROW_STRIDE 128
#define K_BATCH_STRIDE 0
#define K_HEAD_STRIDE 2048
#define K_ROW_STRIDE 128
#define V_BATCH_STRIDE 0
#define V_HEAD_STRIDE 2048
#define V_ROW_STRIDE 128
#define OFFSET int
#define STORED ushort
#define STORED_KV unsigned char
#define STORED_BYTES 2
#define STORED_KV_BYTES 1
#define STORED_TO_FLOAT(x) bfloat16_to_float(x)
#define FLOAT_TO_STORED(x) float_to_bfloat16(x)
#define KV_TO_FLOAT(x) float8_e4m3_to_float(x)
#define INPUT_PARAMETERS , GLOBAL const float *RESTRICT alibi_slopes, float k_scale, float v_scale, GLOBAL const int *RESTRICT kv_lengths, GLOBAL const int *RESTRICT block_table
#define INPUT_ARGUMENTS , alibi_slopes, k_scale, v_scale, kv_lengths, block_table
#define LSE_PARAMETER
#define LSE_ARGUMENT

#define IS_BFLOAT 1
#define KV_MANTISSA_BITS 3
#define MMA "m16n8k16.row.col.f32.bf16.bf16.f32"
#define K_COPY 16
#define V_COPY 16
#define Q_COPY 16
#define OUT_BYTES 16
#define BACKWARDS 0
#define HALF_STEPS 1
#define HEADS_TOGETHER 1
#define LATE_FIRST 0
#define LAZY_RESCALE 1
#define PACK_HEADS 1
#define POLYNOMIALS 0
#define Q_REGISTERS 1
#define RESIDENT 1
#define SCORES_AHEAD 0
#define SPLITS 4
#define STAGES 2
#define TILE_KEYS 32
#define WARP_ROWS 16
#define WARPS 4

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

// 2^x and what follows from it, by the units for special functions (16 for 128 lanes, from sm_80 to
// sm_100) and beside them. Stands after cuda.h and before sequence.h, whose functions use it.

#ifndef EXPONENTIALS_H
#define EXPONENTIALS_H

// 0 for minus infinity; relative error 2^-22 (PTX ISA 8.5, ex2).
FUNCTION float exp2_special(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Relative error 2^-23 (PTX ISA 8.5, rcp).
FUNCTION float reciprocal_special(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Its absolute error is small, 2^-22, and that is what counts in a score.
FUNCTION float tanh_special(float x)
{
    return 1.0f - 2.0f * reciprocal_special(1.0f + exp2_special(2.885390081777927f * x));
}

// 2^x = 2^n 2^f with a whole n and |f| <= 1/2: a polynomial with a relative error of 2.9e-6 at most
// (fitted for that; FlashAttention-4 takes one of degree 3), n added to the exponent. It is 1 at 0,
// so that 2^-127 becomes 0, and so does all that is less.
FUNCTION float exp2_polynomial(float x)
{
    const float whole = 12582912.0f;  // 1.5 * 2^23: beside it a sum keeps whole numbers alone
    const float least = fmaxf(x, -127.0f), shifted = least + whole, f = least - (shifted - whole);
    float y = fmaf(f, 0.00958285294f, 0.0559064262f);
    y = fmaf(f, y, 0.240240991f);
    y = fmaf(f, y, 0.693124175f);
    y = fmaf(f, y, 1.0f);
    return __uint_as_float(__float_as_uint(y) + (__float_as_uint(shifted) << 23));
}

#define EXP2(x) exp2_special(x)
#define TANH(x) tanh_special(x)

#endif

// Where the rows of an attention lie, which keys a query sees, and what a score is: the workload's
// side of every kernel of attention, in the neutral macros of the preludes. What the workload lacks
// compiles away. The macros that describe it stand above, written by defines.py.
//
// In a kernel with the parameters q, k, v INPUT_PARAMETERS and out LSE_PARAMETER:
//
//   Sequence s = SEQUENCE(b);                   sequence b: s.queries, s.keys, and where they lie
//   q[q_offset(s, head, query) + x]             x < HEAD_DIM; offsets are OFFSET, in elements
//   k[k_offset(s, head / HEADS_PER_KV_HEAD, key) + x], v_offset; out_offset; lse[lse_offset(...)]
//   first_key(s, query), end_key(s, query)      the keys that a query sees: first <= key < end
//
// Both grow with the query: queries a to b together see keys from first_key(s, a) to
// end_key(s, b), and all of them see those from first_key(s, b) to end_key(s, a). Rows given to
// the offsets must exist: query < s.queries, key < s.keys.
//
//   x = SCORE_FACTOR * (sum of q k)             with the scales of float8, in the kernel itself
//   x = score(x, BIAS_OF(s, head), s, query, key)   in units of log2: its weight is exp2(x)
//   out = VALUE_FACTOR * (sum of weights v) / (sum of weights); 0 where no key is seen
//   lse = natural_lse(largest score, sum of exp2(score - largest))
//
// Where SCORE_IS_LINEAR, score() changes nothing: SCORE_FACTOR may then be applied as late as in
// the exponent, exp2(fma(sum, SCORE_FACTOR, -largest)). score() reads the bias of that query and
// key, which must exist. It is capped(x) + bias_at(...), for kernels that want these apart.

#ifndef SEQUENCE_H
#define SEQUENCE_H

#ifndef HEAD_DIM  // by itself: float32, one sequence of 1024 queries and keys, 8 heads of 64
#define BATCH 1
#define HEADS 8
#define KV_HEADS 8
#define Q_LEN 1024   // the longest sequence's, where they differ
#define KV_LEN 1024
#define HEAD_DIM 64  // of Q and K
#define V_DIM 64
#define SCALE 0.125f
#define CAUSAL 0
#define WINDOW 0     // keys seen from a query on, itself included; 0: all
#define SOFTCAP 0.0f
#define HAS_SOFTCAP 0
#define ALIBI 0      // 1: slopes
#define BIAS 0       // 1: of heads x queries x keys; 2: for each sequence too
#define PACKED 0     // 1: queries of all sequences follow one another: q_offsets
#define PACKED_KV 0  // 1: keys too: kv_offsets
#define KV_LENGTHS 0  // 1: kv_lengths
#define PAGE_SIZE 0  // keys of a page; 0: no pages
#define PAGES_PER_SEQUENCE 0  // columns of block_table
#define TOTAL_Q 1024  // rows of Q, of all sequences
#define LSE 0        // 1: a second output
#define SCALED_KV 0  // 1: K and V are float8
#define Q_BATCH_STRIDE 524288  // in elements
#define Q_HEAD_STRIDE 65536
#define Q_ROW_STRIDE 64
#define OUT_BATCH_STRIDE 524288
#define OUT_HEAD_STRIDE 65536
#define OUT_ROW_STRIDE 64
#define K_BATCH_STRIDE 524288
#define K_HEAD_STRIDE 65536
#define K_ROW_STRIDE 64
#define K_PAGE_STRIDE 0
#define V_BATCH_STRIDE 524288
#define V_HEAD_STRIDE 65536
#define V_ROW_STRIDE 64
#define V_PAGE_STRIDE 0
#define OFFSET int       // size_t where an array has more elements
#define STORED float     // an element of Q, of the bias and of the output
#define STORED_KV float  // of K and V
#define STORED_BYTES 4
#define STORED_KV_BYTES 4
#define STORED_TO_FLOAT(x) (x)
#define FLOAT_TO_STORED(x) (x)
#define KV_TO_FLOAT(x) (x)
#define INPUT_PARAMETERS  // further inputs, each after a comma
#define INPUT_ARGUMENTS   // the same to pass on
#define LSE_PARAMETER     // lse, after a comma
#define LSE_ARGUMENT
#endif

#ifndef FUNCTION  // plain C, for tests
#define FUNCTION static inline
#define GLOBAL
#define FMA(x, y, z) ((x) * (y) + (z))
#endif

#ifndef EXP2
#define EXP2(x) exp2(x)  // of softcap; a template may set a faster one
#endif

#define HEADS_PER_KV_HEAD (HEADS / KV_HEADS)
#define MASKED (CAUSAL || WINDOW)  // whether a query may not see every key
#define VARLEN_Q PACKED            // whether s.queries may differ from Q_LEN,
#define VARLEN_KV (PACKED_KV || KV_LENGTHS)  // and s.keys from KV_LEN
#define SCORE_IS_LINEAR (!HAS_SOFTCAP && !ALIBI && !BIAS)

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f
#ifdef __OPENCL_VERSION__
#define MINUS_INFINITY (-INFINITY)
#else
#define MINUS_INFINITY __int_as_float(0xFF800000)
#endif

// ---- Sequences

typedef struct {
    int index;                // in the batch
    int queries, keys;        // how many
    int first_query;          // rows of packed Q before it
    int first_key;            // rows of packed K before it
    GLOBAL const int *pages;  // its row of the block table
} Sequence;

#if PACKED
#define SEQUENCE_QUERIES(b) q_offsets[(b) + 1] - q_offsets[b]
#define SEQUENCE_FIRST_QUERY(b) q_offsets[b]
#else
#define SEQUENCE_QUERIES(b) Q_LEN
#define SEQUENCE_FIRST_QUERY(b) 0
#endif
#if PACKED_KV
#define SEQUENCE_KEYS(b) kv_offsets[(b) + 1] - kv_offsets[b]
#define SEQUENCE_FIRST_KEY(b) kv_offsets[b]
#else
#define SEQUENCE_FIRST_KEY(b) 0
#if KV_LENGTHS
#define SEQUENCE_KEYS(b) kv_lengths[b]
#else
#define SEQUENCE_KEYS(b) KV_LEN
#endif
#endif
#if PAGE_SIZE
#define SEQUENCE_PAGES(b) (block_table + (OFFSET)(b) * PAGES_PER_SEQUENCE)
#else
#define SEQUENCE_PAGES(b) 0
#endif

FUNCTION Sequence sequence_of(int index, int queries, int keys, int first_query, int first_key,
                              GLOBAL const int *pages)
{
    Sequence s;
    s.index = index, s.queries = queries, s.keys = keys;
    s.first_query = first_query, s.first_key = first_key, s.pages = pages;
    return s;
}

// In the kernel itself, or where its parameters are known by their names.
#define SEQUENCE(b)                                                                    \
    sequence_of(b, SEQUENCE_QUERIES(b), SEQUENCE_KEYS(b), SEQUENCE_FIRST_QUERY(b),     \
                SEQUENCE_FIRST_KEY(b), SEQUENCE_PAGES(b))

// ---- Where rows lie

FUNCTION OFFSET q_offset(Sequence s, int head, int query)
{
    return (OFFSET)s.index * Q_BATCH_STRIDE + (OFFSET)head * Q_HEAD_STRIDE +
           (OFFSET)(s.first_query + query) * Q_ROW_STRIDE;
}

FUNCTION OFFSET out_offset(Sequence s, int head, int query)
{
    return (OFFSET)s.index * OUT_BATCH_STRIDE + (OFFSET)head * OUT_HEAD_STRIDE +
           (OFFSET)(s.first_query + query) * OUT_ROW_STRIDE;
}

// Heads before queries, in both layouts.
FUNCTION OFFSET lse_offset(Sequence s, int head, int query)
{
    if (PACKED) return (OFFSET)head * TOTAL_Q + s.first_query + query;
    return ((OFFSET)s.index * HEADS + head) * Q_LEN + query;
}

#if PAGE_SIZE
#define KV_OFFSET(name)                                                              \
    ((OFFSET)s.pages[(unsigned)key / PAGE_SIZE] * name##_PAGE_STRIDE +               \
     (OFFSET)((unsigned)key % PAGE_SIZE) * name##_ROW_STRIDE + (OFFSET)kv_head * name##_HEAD_STRIDE)
#else
#define KV_OFFSET(name)                                                              \
    ((OFFSET)s.index * name##_BATCH_STRIDE + (OFFSET)kv_head * name##_HEAD_STRIDE +  \
     (OFFSET)(s.first_key + key) * name##_ROW_STRIDE)
#endif

FUNCTION OFFSET k_offset(Sequence s, int kv_head, int key) { return KV_OFFSET(K); }
FUNCTION OFFSET v_offset(Sequence s, int kv_head, int key) { return KV_OFFSET(V); }

// ---- What a query sees: the last query stands at the last key

FUNCTION int query_position(Sequence s, int query) { return query + s.keys - s.queries; }

FUNCTION int first_key(Sequence s, int query)
{
    const int first = WINDOW ? query_position(s, query) - WINDOW + 1 : 0;
    return first > 0 ? first : 0;
}

FUNCTION int end_key(Sequence s, int query)
{
    const int end = query_position(s, query) + (CAUSAL ? 1 : WINDOW);
    if (!MASKED || end > s.keys) return s.keys;
    return end > 0 ? end : 0;
}

// ---- Scores, in units of log2

typedef struct {
    float slope;                 // of ALiBi, in units of log2
    GLOBAL const STORED *first;  // of this head's additive bias
} Bias;

FUNCTION Bias bias_of(float slope, GLOBAL const STORED *first)
{
    Bias bias;
    bias.slope = slope, bias.first = first;
    return bias;
}

// In the kernel itself, as SEQUENCE.
#if ALIBI
#define BIAS_OF(s, head) bias_of(alibi_slopes[head] * LOG2_E, 0)
#elif BIAS
#define BIAS_OF(s, head) \
    bias_of(0.0f, bias + ((OFFSET)(BIAS == 2 ? (s).index : 0) * HEADS + (head)) * Q_LEN * KV_LEN)
#else
#define BIAS_OF(s, head) bias_of(0.0f, 0)
#endif

#if SCALED_KV
#define K_FACTOR k_scale
#define VALUE_FACTOR v_scale
#else
#define K_FACTOR 1.0f
#define VALUE_FACTOR 1.0f
#endif
#if HAS_SOFTCAP
#define SCORE_FACTOR (SCALE / SOFTCAP * K_FACTOR)
#else
#define SCORE_FACTOR (SCALE * LOG2_E * K_FACTOR)
#endif

FUNCTION float bias_at(Bias bias, Sequence s, int query, int key)
{
#if ALIBI
    const float distance = (float)(query_position(s, query) - key);
    return -bias.slope * (distance < 0.0f ? -distance : distance);
#elif BIAS
    return STORED_TO_FLOAT(bias.first[(OFFSET)query * KV_LEN + key]) * LOG2_E;
#else
    return 0.0f;
#endif
}

#ifndef TANH
#define TANH(x) accurate_tanh(x)  // of softcap; a template may set a faster one
#endif

// Within 3 * 2^-24 of itself: a polynomial fitted below 0.6, where 1 - 2 / (1 + exp(2 x)) cancels.
FUNCTION float accurate_tanh(float x)
{
    const float size = x < 0.0f ? -x : x, square = x * x;
    const float far = 1.0f - 2.0f / (1.0f + EXP2(2.0f * LOG2_E * size));
    float sum = FMA(0.0156126330f, square, -0.0522118067f);
    sum = FMA(sum, square, 0.133131161f);
    sum = FMA(sum, square, -0.333325982f);
    return size < 0.6f ? FMA(sum * square, x, x) : x < 0.0f ? -far : far;
}

FUNCTION float capped(float x)
{
    return HAS_SOFTCAP ? SOFTCAP * LOG2_E * TANH(x) : x;
}

FUNCTION float score(float x, Bias bias, Sequence s, int query, int key)
{
    return SCORE_IS_LINEAR ? x : capped(x) + bias_at(bias, s, query, key);
}

// ---- Logarithm of the sum of exponentials; minus infinity where no key is seen

FUNCTION float natural_lse(float largest, float sum)
{
    return sum > 0.0f ? (largest + log2(sum)) * LN_2 : MINUS_INFINITY;
}

#endif

// Tiles of Q, K and V in shared memory, and the fragments that a warp's tensor cores multiply.
//
// A tile is lines, each a row of an array of `WIDTH` elements (its dimension, and zeros to a
// multiple of 16). Lines lie 16-byte chunk by chunk, permuted so that neither copies nor matrix
// loads meet in a bank. Stands after tensor_core.h and sequence.h.
//
// K and V may be float8. Their fragments are made of bytes, and so hold other neighbours than those
// of 2-byte elements; `q_column` and `pair_column` say which. k is in whatever order both operands
// of a product agree on.

#ifndef WARP_TILES_H
#define WARP_TILES_H

#ifndef IS_BFLOAT
#define IS_BFLOAT 0         // 1: Q is bfloat16; 0: float16
#define KV_MANTISSA_BITS 0  // of float8: 3 or 2
#endif

#define LINES_OF_LOAD (STORED_KV_BYTES == 1 ? 32 : 16)  // keys whose fragments load at a time
#define ALL_LANES 0xFFFFFFFF

// Where, in bytes, a chunk lies. Eight lines' chunks of one number would meet in as many banks as
// the largest power of two in `chunks` says: that many neighbours are permuted, line by line; the
// permutation is the same eight lines later.
FUNCTION int permuted_chunks(const int chunks) { return chunks % 8 ? chunks & -chunks : 8; }

FUNCTION int turn_of(int line, const int chunks)
{
    const int permuted = permuted_chunks(chunks);
    return line / (8 / permuted) & (permuted - 1);
}

FUNCTION int chunk_offset(int line, int chunk, const int chunks)
{
    return (line * chunks + (chunk ^ turn_of(line, chunks))) * 16;
}

template <int WIDTH, int ELEMENT_BYTES> FUNCTION int element_offset(int line, int element)
{
    const int at = element * ELEMENT_BYTES;
    return chunk_offset(line, at / 16, WIDTH * ELEMENT_BYTES / 16) + at % 16;
}

// What a lane addresses in a matrix load: chunk `chunk`, 0 or 1, of a line. Every other load is
// some lines (a multiple of 8) and chunks (a multiple of 2) further, numbers known when it
// compiles: but for the permuted part they are added to an address, so that few of these occupy
// registers.
template <int CHUNKS> struct LaneChunk {
    unsigned line_address;
    int turned;  // in bytes

    FUNCTION LaneChunk(const unsigned char *tile, int line, int chunk)
        : line_address(shared_address(tile) + line * CHUNKS * 16),
          turned((chunk ^ turn_of(line, CHUNKS)) * 16)
    {
    }
    FUNCTION unsigned further(const int lines, const int chunks) const
    {
        const int within = permuted_chunks(CHUNKS) - 1;
        return line_address + (turned ^ (chunks & within) * 16) +
               (lines * CHUNKS + (chunks & ~within)) * 16;
    }
};

// ---- Copies into tiles

// The pages of a tile's keys, looked up before they are needed: lane l knows those of keys l,
// l + 32 and so on.
template <int LINES> struct TilePages {
    int found[(LINES + 31) / 32];

    FUNCTION void look_up(const Sequence &s, int first)
    {
#if PAGE_SIZE
#pragma unroll
        for (int i = 0; i < (LINES + 31) / 32; i++) {
            const int key = first + i * 32 + LOCAL_ID(0) % 32;
            found[i] = key >= 0 && key < s.keys ? s.pages[(unsigned)key / PAGE_SIZE] : 0;
        }
#endif
    }

    // Of line `line` + `further`, the latter being some times `at_once`, more than any lane's line.
    FUNCTION int of(int line, const int further, const int at_once) const
    {
        const int at = line + further;
        if (32 % at_once == 0) return __shfl_sync(ALL_LANES, found[further / 32], at % 32);
        int page = 0;
#pragma unroll
        for (int i = 0; i < (LINES + 31) / 32; i++) {
            const int candidate = __shfl_sync(ALL_LANES, found[i], at % 32);
            if (at / 32 == i) page = candidate;
        }
        return page;
    }
};

// LINES keys from `first` on, a multiple of them, as lines of K or of V.
template <int OF_V, int LINES> struct KeyLines {
    typedef STORED_KV ELEMENT;
    const STORED_KV *array;
    const Sequence &s;
    const TilePages<LINES> &pages;
    int kv_head, first;

    FUNCTION bool inside(int line) const
    {
        return (!VARLEN_KV && KV_LEN % LINES == 0) || first + line < s.keys;
    }
    FUNCTION const STORED_KV *start(int line, const int further, const int at_once) const
    {
        const OFFSET stride = OF_V ? V_ROW_STRIDE : K_ROW_STRIDE;
#if PAGE_SIZE
        const OFFSET page = pages.of(line, further, at_once);
        const OFFSET in_page = (unsigned)(first + line + further) % PAGE_SIZE;
        return array + page * (OF_V ? V_PAGE_STRIDE : K_PAGE_STRIDE) + in_page * stride +
               (OFFSET)kv_head * (OF_V ? V_HEAD_STRIDE : K_HEAD_STRIDE);
#else
        const int key = first + line;
        return array + (OF_V ? v_offset(s, kv_head, key) : k_offset(s, kv_head, key)) +
               further * stride;
#endif
    }
};

// Rows from `first` on, of Q: HEADS_OF_QUERY heads of a query after one another, from `head` on.
template <int HEADS_OF_QUERY> struct QueryLines {
    typedef STORED ELEMENT;
    const STORED *array;
    const Sequence &s;
    int head, first;

    FUNCTION bool inside(int line) const { return first + line < s.queries * HEADS_OF_QUERY; }
    FUNCTION const STORED *start(int line, const int further, const int) const
    {
        const int row = first + line + further;
        return array + q_offset(s, head + row % HEADS_OF_QUERY, row / HEADS_OF_QUERY);
    }
};

// A tile of LINES, by GROUP threads: in pieces of COPY bytes, or, if that is 0, element by element.
// A thread's pieces stand in one column, so that it asks once whether that is inside. LENGTH is
// what a line has before its zeros.
template <int GROUP, int LINES, int WIDTH, int LENGTH, int COPY, typename ROWS_OF>
FUNCTION void fetch(unsigned char *tile, const ROWS_OF &rows)
{
    typedef typename ROWS_OF::ELEMENT ELEMENT;
    const int bytes = sizeof(ELEMENT), step = COPY ? COPY / bytes : 1;  // elements of a piece
    const int pieces = WIDTH / step, across = pieces < GROUP ? pieces : GROUP;
    const int at_once = GROUP / across;  // lines
    const int first_line = LOCAL_ID(0) / across, first_piece = LOCAL_ID(0) % across;
    const bool idle = GROUP % across != 0 && first_line >= at_once;
#pragma unroll(COPY == 16 ? 64 : 4)
    for (int first = 0; first < LINES; first += at_once) {
        const ELEMENT *from = rows.start(first_line, first, at_once);  // by all lanes together
        if (idle || (LINES % at_once != 0 && first + first_line >= LINES)) continue;
        const bool exists = rows.inside(first + first_line);
        unsigned char *line = tile + first / 8 * 8 * WIDTH * bytes;
        for (int passed = 0; passed < pieces; passed += across) {
            const int piece = passed + first_piece;
            if (pieces % across != 0 && piece >= pieces) break;
            const int element = piece * step;
            const bool inside = exists && (LENGTH == WIDTH || element < LENGTH);
            const int from_line = element_offset<WIDTH, bytes>(first % 8 + first_line, element);
            unsigned char *to = line + from_line;
            if (COPY)
                copy_async<COPY ? COPY : 4>(shared_address(to), from + element, inside);
            else
                *(ELEMENT *)to = inside ? from[element] : (ELEMENT)0;
        }
    }
}

// ---- Elements of float8 as two of Q's type: their bits moved, their exponents' bias made good

#if STORED_KV_BYTES == 1
FUNCTION unsigned times(unsigned pair, unsigned factors)
{
    unsigned result;
#if IS_BFLOAT
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(pair), "r"(factors), "r"(0x80008000));
#else
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(pair), "r"(factors), "r"(0x80008000));
#endif
    return result;
}

// Bytes FIRST and SECOND of a register.
template <int FIRST, int SECOND> FUNCTION unsigned widened(unsigned bytes)
{
    const unsigned upper = __byte_perm(bytes, 0, SECOND << 12 | 4 << 8 | FIRST << 4 | 4);
    const int shift = (IS_BFLOAT ? 3 : 0) + (KV_MANTISSA_BITS == 3 ? 1 : 0);
    const unsigned magnitude = (0x7F00 >> shift) * 0x10001;
    const unsigned pair = upper & 0x80008000 | upper >> shift & magnitude;
    if (shift == 0) return pair;
    // 2^8, or 2^120 and 2^112: both biases' difference.
    const unsigned factor = !IS_BFLOAT ? 0x5C00 : KV_MANTISSA_BITS == 3 ? 0x7B80 : 0x7780;
    return times(pair, factor * 0x10001);
}
#endif

// ---- Fragments: what a lane keeps

// The first of two neighbours in a row of Q that register i of step `step` of k holds.
FUNCTION int q_column(int step, int i)
{
    const int lane = LOCAL_ID(0) % 32;
    return step * 16 + (STORED_KV_BYTES == 1 ? lane % 4 * 4 + i / 2 * 2 : lane % 4 * 2 + i / 2 * 8);
}

// Of the 16 columns of the output from 16 `columns` on, the first of pair i of neighbours; its
// values are sums of `pair_value`.
FUNCTION int pair_column(int columns, int i)
{
    const int lane = LOCAL_ID(0) % 32;
    return columns * 16 + (STORED_KV_BYTES == 1 ? lane % 4 * 4 + i * 2 : lane % 4 * 2 + i * 8);
}

// Value e of that pair, in row `half` * 8 + lane / 4 of the fragment.
FUNCTION float pair_value(const float (*sums)[4], int half, int i, int e)
{
    return STORED_KV_BYTES == 1 ? sums[e][half * 2 + i] : sums[i][half * 2 + e];
}

// Step `step` of 16 rows of Q from the tile's `row` on; K and V are not float8.
template <int WIDTH> struct QueryFragments {
    LaneChunk<WIDTH / 8> lane;

    FUNCTION QueryFragments(const unsigned char *tile, int row)
        : lane(tile, row + LOCAL_ID(0) % 16, LOCAL_ID(0) % 32 / 16)
    {
    }
    FUNCTION void load(unsigned (&a)[4], const int row, const int step) const
    {
        load_matrices(a, lane.further(row, step * 2));
    }
};

// The same straight from global memory.
template <typename ROWS_OF>
FUNCTION void read_queries(unsigned (&a)[4], const ROWS_OF &rows, int row, int step)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int line = row + i % 2 * 8 + LOCAL_ID(0) % 32 / 4, column = q_column(step, i);
        const STORED *from = rows.start(line, 0, 1) + column;
        const bool inside = rows.inside(line);
        if (HEAD_DIM % 2 == 0) {
            a[i] = inside && column < HEAD_DIM ? *(const unsigned *)from : 0;
        } else {
            const unsigned low = inside && column < HEAD_DIM ? from[0] : 0;
            a[i] = low | (inside && column + 1 < HEAD_DIM ? (unsigned)from[1] << 16 : 0);
        }
    }
}

// Step `step` of LINES_OF_LOAD keys from the tile's `key` on: eight of them an operand b[.].
template <int WIDTH> struct KeyFragments {
    LaneChunk<WIDTH * STORED_KV_BYTES / 16> lane;

#if STORED_KV_BYTES == 1
    FUNCTION KeyFragments(const unsigned char *tile) : lane(tile, LOCAL_ID(0) % 32, 0) {}
    FUNCTION void load(unsigned (&b)[4][2], const int key, const int step) const
    {
        unsigned r[4];
        load_matrices(r, lane.further(key, step));
#pragma unroll
        for (int eight = 0; eight < 4; eight++) {
            b[eight][0] = widened<0, 1>(r[eight]);
            b[eight][1] = widened<2, 3>(r[eight]);
        }
    }
#else
    FUNCTION KeyFragments(const unsigned char *tile)
        : lane(tile, LOCAL_ID(0) % 32 / 16 * 8 + LOCAL_ID(0) % 8, LOCAL_ID(0) % 16 / 8)
    {
    }
    FUNCTION void load(unsigned (&b)[2][2], const int key, const int step) const
    {
        unsigned r[4];
        load_matrices(r, lane.further(key, step * 2));
        b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
    }
#endif
};

// 16 `columns` of LINES_OF_LOAD rows of V: operands b[16 keys][8 columns].
template <int WIDTH> struct ValueFragments {
    LaneChunk<WIDTH * STORED_KV_BYTES / 16> lane;

#if STORED_KV_BYTES == 1
    FUNCTION ValueFragments(const unsigned char *tile) : lane(tile, LOCAL_ID(0) % 32, 0) {}
    FUNCTION void load(unsigned (&b)[2][2][2], const int key, const int columns) const
    {
        unsigned r[4];
        load_transposed(r, lane.further(key, columns));
#pragma unroll
        for (int eight = 0; eight < 4; eight++) {
            b[eight / 2][0][eight % 2] = widened<0, 2>(r[eight]);
            b[eight / 2][1][eight % 2] = widened<1, 3>(r[eight]);
        }
    }
#else
    FUNCTION ValueFragments(const unsigned char *tile)
        : lane(tile, LOCAL_ID(0) % 16, LOCAL_ID(0) % 32 / 16)
    {
    }
    FUNCTION void load(unsigned (&b)[1][2][2], const int key, const int columns) const
    {
        unsigned r[4];
        load_transposed(r, lane.further(key, columns * 2));
        b[0][0][0] = r[0], b[0][0][1] = r[1], b[0][1][0] = r[2], b[0][1][1] = r[3];
    }
#endif
};

#endif

// The softmax of scores that a warp keeps as sums of tensor cores, tile of keys by tile of keys
// (online softmax: Milakov and Gimelshein, arXiv:1805.02867): four lanes share a row.
//
// Stands after exponentials.h. Scores are in units of log2, or become so by a factor in the
// exponent.

#ifndef WARP_SOFTMAX_H
#define WARP_SOFTMAX_H

#ifndef EXPONENTIALS_H
#include "exponentials.h"
#endif

#ifndef IS_BFLOAT
#define IS_BFLOAT 0  // 1: weights are bfloat16; 0: float16
#endif

#ifndef ALL_LANES
#define ALL_LANES 0xFFFFFFFF
#endif

// ---- 2^x, for x up to about 8; 0 for minus infinity

// `which` of a thread's exponentials, known when it compiles; OF_8 of eight are the latter.
template <int OF_8> FUNCTION float weight(float x, int which)
{
    return which % 8 < OF_8 ? exp2_polynomial(x) : exp2_special(x);
}

// ---- Over the four lanes of a row

FUNCTION float largest_of_row(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

FUNCTION float sum_of_row(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// ---- What is known of a row so far

struct Row {
    float largest;  // score; if lazy, or one that is up to 8 lower, in units of log2
    float sum;      // of this lane's weights, relative to it
};

FUNCTION Row no_keys()
{
    Row row = {__uint_as_float(0xFF800000), 0.0f};
    return row;
}

// Takes notice of a tile whose largest score is `found`; gives what earlier sums are multiplied by.
// If LAZY, 1 until they are larger by 2^8 than they need be.
template <int LAZY> FUNCTION float advance(Row &row, float found, float factor)
{
    const float before = row.largest, largest = fmaxf(before, found);
    const bool keeps = LAZY && (largest - before) * factor <= 8.0f;
    row.largest = keeps ? before : largest;
    const bool rescales = !keeps && largest != before;
    const float scale = rescales ? exp2_special((before - largest) * factor) : 1.0f;
    row.sum *= scale;
    return scale;
}

// What is taken off a row's scores in the exponent: a number even before any key was seen.
FUNCTION float base_of(const Row &row, float factor)
{
    return row.largest == __uint_as_float(0xFF800000) ? 0.0f : row.largest * factor;
}

// ---- Pairs of weights, as operands of the next product

FUNCTION unsigned packed(float x, float y)
{
    unsigned pair;
#if IS_BFLOAT
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
#else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
#endif
    return pair;
}

#endif

// What a warp does with a tile of keys: scores, weights, sums of the output, all in its registers.
//
// Stands after warp_tiles.h and warp_softmax.h. A warp has WARP_ROWS rows, a multiple of 16, and
// takes TILE_KEYS keys at a time, a multiple of LINES_OF_LOAD. Q stays in registers (Q_REGISTERS),
// or is loaded again for each tile.

#ifndef WARP_PRODUCTS_H
#define WARP_PRODUCTS_H

#ifndef POLYNOMIALS
#define POLYNOMIALS 0  // exponentials, of 8, that are polynomials on multiply-add units
#endif

#ifndef ROW_HEADS
#define ROW_HEADS (PACK_HEADS ? HEADS_PER_KV_HEAD : 1)  // heads of a query among the rows of a tile
#endif
#ifndef QK_WIDTH
#define QK_WIDTH ((HEAD_DIM + 15) / 16 * 16)  // elements of a line of Q and K, with zeros
#define V_WIDTH ((V_DIM + 15) / 16 * 16)
#endif
#define FRAGMENTS (WARP_ROWS / 16)
#define LATE_FACTOR (SCORE_IS_LINEAR && !SCALED_KV)  // scores get theirs in the exponent

typedef float Scores[FRAGMENTS][TILE_KEYS / 8][4];
typedef float Sums[FRAGMENTS][V_WIDTH / 8][4];
typedef Row Rows[FRAGMENTS][2];  // of rows lane / 4 and lane / 4 + 8
typedef Bias Biases[FRAGMENTS][2];
typedef unsigned Weights[FRAGMENTS][TILE_KEYS / 16][4];  // as operands
typedef unsigned Queries[Q_REGISTERS ? QK_WIDTH / 16 : 1][FRAGMENTS][4];

// ---- The products

// Step `step` of 16 rows of Q from the tile's `row` on.
FUNCTION void load_queries(unsigned (&a)[4], const unsigned char *tile, int row, const int step)
{
#if STORED_KV_BYTES == 1
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int line = row + half * 8 + LOCAL_ID(0) % 32 / 4;
        const int offset = element_offset<QK_WIDTH, 2>(line, q_column(step, 0));
        const uint2 four = *(const uint2 *)(tile + offset);
        a[half] = four.x, a[half + 2] = four.y;
    }
#else
    QueryFragments<QK_WIDTH>(tile, row).load(a, 0, step);
#endif
}

// scores = Q K', of a tile of keys and the rows from `row` on of the tile of Q.
FUNCTION void multiply_keys(Scores &scores, Queries &queries, const unsigned char *q_tile, int row,
                            const unsigned char *k_tile)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int j = 0; j < TILE_KEYS / 8; j++) {
#pragma unroll
            for (int at = 0; at < 4; at++) scores[i][j][at] = 0.0f;
        }
    }
    const KeyFragments<QK_WIDTH> fragments(k_tile);
#pragma unroll
    for (int step = 0; step < QK_WIDTH / 16; step++) {
        unsigned(&q)[FRAGMENTS][4] = queries[Q_REGISTERS ? step : 0];
        if (!Q_REGISTERS) {
#pragma unroll
            for (int i = 0; i < FRAGMENTS; i++) load_queries(q[i], q_tile, row + i * 16, step);
        }
#pragma unroll
        for (int key = 0; key < TILE_KEYS; key += LINES_OF_LOAD) {
            unsigned b[LINES_OF_LOAD / 8][2];
            fragments.load(b, key, step);
#pragma unroll
            for (int j = 0; j < LINES_OF_LOAD / 8; j++) {
#pragma unroll
                for (int i = 0; i < FRAGMENTS; i++) multiply(scores[i][key / 8 + j], q[i], b[j]);
            }
        }
    }
}

// sums += weights V.
FUNCTION void multiply_values(Sums &sums, const Weights &weights, const unsigned char *v_tile)
{
    const ValueFragments<V_WIDTH> fragments(v_tile);
#pragma unroll
    for (int key = 0; key < TILE_KEYS; key += LINES_OF_LOAD) {
#pragma unroll
        for (int columns = 0; columns < V_WIDTH / 16; columns++) {
            unsigned b[LINES_OF_LOAD / 16][2][2];
            fragments.load(b, key, columns);
#pragma unroll
            for (int step = 0; step < LINES_OF_LOAD / 16; step++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
#pragma unroll
                    for (int i = 0; i < FRAGMENTS; i++)
                        multiply(sums[i][2 * columns + half], weights[i][key / 16 + step],
                                 b[step][half]);
                }
            }
        }
    }
}

// ---- Between the products

// Where a warp's rows are, and what they see.
struct Place {
    Sequence s;
    int head;  // of the first row's query head
    int row;   // the warp's first one, of ROW_HEADS to a query
    int first_seen, end_seen;    // keys that some row sees
    int first_common, end_common;  // keys that every row sees
};

// Of a row that exists; of others, the last one.
FUNCTION int query_of(const Place &place, int row)
{
    const int query = row / ROW_HEADS;
    return query < place.s.queries ? query : place.s.queries - 1;
}

// Of a lane's sums in a half of a fragment.
FUNCTION int row_of(const Place &place, int fragment, int half)
{
    return place.row + fragment * 16 + half * 8 + LOCAL_ID(0) % 32 / 4;
}

FUNCTION Place place_of(const Sequence &s, int head, int row)
{
    Place place = {s, head, row, 0, 0, 0, 0};
    if (row < s.queries * ROW_HEADS) {
        const int first = row / ROW_HEADS, last = query_of(place, row + WARP_ROWS - 1);
        place.first_seen = first_key(s, first), place.end_seen = end_key(s, last);
        place.first_common = first_key(s, last), place.end_common = end_key(s, first);
    }
    return place;
}

FUNCTION bool sees(const Place &place, int tile_key)
{
    return tile_key < place.end_seen && tile_key + TILE_KEYS > place.first_seen;
}

// What is added to the scores of a row and of two neighbouring keys, the first of which is `behind`
// keys before the row's position. Keys beyond the last one have any.
FUNCTION void bias_of_pair(float (&added)[2], const Bias &bias, int query, int key, float behind)
{
#if ALIBI
    added[0] = -bias.slope * fabsf(behind);
    added[1] = -bias.slope * fabsf(behind - 1.0f);
#elif BIAS
    const STORED *from = bias.first + (OFFSET)query * KV_LEN + key;
    if (KV_LEN % 2 == 0) {
        const unsigned pair = key < KV_LEN ? *(const unsigned *)from : 0;
        added[0] = STORED_TO_FLOAT((STORED)pair) * LOG2_E;
        added[1] = STORED_TO_FLOAT((STORED)(pair >> 16)) * LOG2_E;
    } else {
        added[0] = key < KV_LEN ? STORED_TO_FLOAT(from[0]) * LOG2_E : 0.0f;
        added[1] = key + 1 < KV_LEN ? STORED_TO_FLOAT(from[1]) * LOG2_E : 0.0f;
    }
#else
    added[0] = added[1] = 0.0f;
#endif
}

// Scores in their final form, minus infinity where a key is not seen.
FUNCTION void finish_scores(Scores &scores, const Place &place, const Biases &biases, int tile_key,
                            float factor)
{
    const bool borders = MASKED || VARLEN_KV || KV_LEN % TILE_KEYS != 0;
    const bool crossed = borders && (tile_key < place.first_common ||
                                     tile_key + TILE_KEYS > place.end_common);
    if (LATE_FACTOR && !crossed) return;
    const int lane_key = tile_key + LOCAL_ID(0) % 4 * 2;
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = query_of(place, row_of(place, i, half));
            const int first = first_key(place.s, query), end = end_key(place.s, query);
            const float behind = (float)(query_position(place.s, query) - lane_key);
#pragma unroll
            for (int j = 0; j < TILE_KEYS / 8; j++) {
                const int key = lane_key + j * 8;
                float added[2];
                bias_of_pair(added, biases[i][half], query, key, behind - (float)(j * 8));
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &x = scores[i][j][half * 2 + e];
                    if (!LATE_FACTOR) x = capped(x * factor);
                    if (!SCORE_IS_LINEAR) x += added[e];
                    if (crossed && !((!WINDOW || key + e >= first) && key + e < end))
                        x = MINUS_INFINITY;
                }
            }
        }
    }
}

// From scores to weights; earlier sums are rescaled.
FUNCTION void weigh(Weights &weights, Scores &scores, Rows &rows, Sums &sums, float factor)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
        float scales[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = scores[i][0][half * 2];
#pragma unroll
            for (int j = 0; j < TILE_KEYS / 8; j++)
                largest = fmaxf(largest, fmaxf(scores[i][j][half * 2], scores[i][j][half * 2 + 1]));
            scales[half] = advance<LAZY_RESCALE>(rows[i][half], largest_of_row(largest), factor);
            const float base = base_of(rows[i][half], factor);
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < TILE_KEYS / 8; j++) {
                float pair[2];
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const float x = fmaf(scores[i][j][half * 2 + e], factor, -base);
                    pair[e] = weight<POLYNOMIALS>(x, j * 2 + e);
                }
                sum += pair[0] + pair[1];
                weights[i][j / 2][j % 2 * 2 + half] = packed(pair[0], pair[1]);
            }
            rows[i][half].sum += sum;
        }
        if (!LAZY_RESCALE || scales[0] != 1.0f || scales[1] != 1.0f) {
#pragma unroll
            for (int j = 0; j < V_WIDTH / 8; j++) {
#pragma unroll
                for (int at = 0; at < 4; at++) sums[i][j][at] *= scales[at / 2];
            }
        }
    }
}

FUNCTION void copy(Scores &to, const Scores &from)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int j = 0; j < TILE_KEYS / 8; j++) {
#pragma unroll
            for (int at = 0; at < 4; at++) to[i][j][at] = from[i][j][at];
        }
    }
}

// Q of WARP_ROWS rows from the block's `row` on, straight from global memory to registers.
template <typename ROWS_OF>
FUNCTION void read_queries(Queries &queries, const ROWS_OF &rows, int row)
{
#pragma unroll
    for (int step = 0; step < QK_WIDTH / 16; step++) {
#pragma unroll
        for (int i = 0; i < FRAGMENTS; i++)
            read_queries(queries[step * Q_REGISTERS][i], rows, row + i * 16, step);
    }
}

// Before the first tile: no keys, sums of zero.
FUNCTION void begin(Rows &rows, Sums &sums)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
        rows[i][0] = no_keys(), rows[i][1] = no_keys();
#pragma unroll
        for (int j = 0; j < V_WIDTH / 8; j++) {
#pragma unroll
            for (int at = 0; at < 4; at++) sums[i][j][at] = 0.0f;
        }
    }
}

// In the kernel itself, as BIAS_OF.
#define BIASES_OF(biases, place)                                                              \
    _Pragma("unroll") for (int i = 0; i < FRAGMENTS; i++) {                                   \
        _Pragma("unroll") for (int half = 0; half < 2; half++) biases[i][half] =              \
            BIAS_OF((place).s, (place).head + row_of(place, i, half) % ROW_HEADS);            \
    }

#endif

// Merges the results of parts of the keys: stands after sequence.h, in both dialects.
//
// A kernel whose keys are cut into SPLITS parts writes, for each of its rows and each part, also
// one without keys:
//
//   partial_out[partial_offset(r, part) * V_DIM + x]   sums of exp2(score - largest) v, not scaled
//   partial_sums[partial_offset(r, part) * 2]          the largest score of the part
//   partial_sums[partial_offset(r, part) * 2 + 1]      the sum of exp2(score - largest)
//
// with r = lse_offset(s, head, query). Where the sum is 0 the other two may be anything.
//
//   combine:  groups (elements of out / COMBINE_THREADS, 1, 1); writes out, and lse

#ifndef COMBINE_H
#define COMBINE_H

#ifndef SPLITS
#define SPLITS 2  // parts of the keys
#endif
#ifndef COMBINE_THREADS
#define COMBINE_THREADS 128  // work-items of a group, an element each
#endif

#define ROWS ((OFFSET)HEADS * TOTAL_Q)

FUNCTION size_t partial_offset(OFFSET row, int part) { return (size_t)row * SPLITS + part; }

// Where row `row` of the partial results, numbered as lse is, begins in the output.
FUNCTION OFFSET combined_offset(OFFSET row)
{
    if (PACKED) return row / TOTAL_Q * OUT_HEAD_STRIDE + row % TOTAL_Q * OUT_ROW_STRIDE;
    return row / Q_LEN / HEADS * OUT_BATCH_STRIDE + row / Q_LEN % HEADS * OUT_HEAD_STRIDE +
           row % Q_LEN * OUT_ROW_STRIDE;
}

KERNEL GROUP_SIZE(COMBINE_THREADS, 1, 1) void combine(
    GLOBAL const float *RESTRICT partial_out,
    GLOBAL const float *RESTRICT partial_sums INPUT_PARAMETERS,
    GLOBAL STORED *RESTRICT out LSE_PARAMETER)
{
    const OFFSET element = (OFFSET)GROUP_ID(0) * COMBINE_THREADS + LOCAL_ID(0);
    const OFFSET row = element / V_DIM;
    const int column = element % V_DIM;
    if (row >= ROWS) return;
#if PACKED
    if (row % TOTAL_Q >= q_offsets[BATCH]) return;  // no sequence has this row
#endif
    GLOBAL const float *sums = partial_sums + partial_offset(row, 0) * 2;
    GLOBAL const float *values = partial_out + partial_offset(row, 0) * V_DIM + column;
    float largest = MINUS_INFINITY;
#pragma unroll 32  // as a rule all, so that their loads are under way together
    for (int part = 0; part < SPLITS; part++) {
        const float score = sums[2 * part], weights = sums[2 * part + 1];
        largest = weights > 0.0f && score > largest ? score : largest;
    }
    float sum = 0.0f, value = 0.0f;
#pragma unroll 32
    for (int part = 0; part < SPLITS; part++) {
        const float weights = sums[2 * part + 1];
        const float share = weights > 0.0f ? EXP2(sums[2 * part] - largest) : 0.0f;
        sum += share > 0.0f ? share * weights : 0.0f;
        value += share > 0.0f ? share * values[(size_t)part * V_DIM] : 0.0f;
    }
    out[combined_offset(row) + column] =
        FLOAT_TO_STORED(sum > 0.0f ? value * VALUE_FACTOR / sum : 0.0f);
#if LSE
    if (column == 0) lse[row] = natural_lse(largest, sum);
#endif
}

#endif

// Attention on tensor cores, after FlashAttention-2 (Dao, arXiv:2307.08691), from sm_80 on: tiles
// of K and V come by asynchronous copies into a ring in shared memory; scores, weights and sums of
// the output stay in the registers of the warp that owns their rows.
//
// A block computes BLOCK_ROWS rows of the output, each warp WARP_ROWS of them, from TILE_KEYS keys
// at a time. After a step's barrier the place of what was read before it is filled again: of a tile
// of K and one of V, so that STAGES - 1 of each are under way; or, in half steps, with a wait and a
// barrier for K and another for V, of one of these, so that 2 STAGES - 1 are. Keys that no row of
// the block sees are not read; a warp leaves out tiles that none of its rows sees, and asks for
// single keys only where a border of what they see runs through the tile. Pages are looked up
// before their copies' turn.
//
//   attend:   groups (tiles of rows x heads x sequences, SPLITS); writes the output, or what each
//             part of the keys gives if SPLITS > 1
//   combine:  merges the parts (combine.h), only if SPLITS > 1

#ifndef KERNEL
#include "../dialects/cuda.h"
#endif
#ifndef TENSOR_CORE_H
#include "../dialects/tensor_core.h"
#endif
#ifndef TILES_H
#include "../matmul/tiles.h"
#endif
#ifndef EXPONENTIALS_H
#include "exponentials.h"
#endif
#ifndef SEQUENCE_H
#include "sequence.h"
#endif
#ifndef WARP_TILES_H
#include "warp_tiles.h"
#endif
#ifndef WARP_SOFTMAX_H
#include "warp_softmax.h"
#endif

#ifndef Q_COPY
#define Q_COPY 16    // bytes that one copy moves: 16, 8 or 4, as every row begins at a multiple of
#define K_COPY 16    // them; or 0: element by element through registers
#define V_COPY 16
#define OUT_BYTES 16  // stored at a time: 16, 8, 4 or 2
#endif

// ---- The schedule

#ifndef WARPS
#define WARPS 4  // of a block
#endif
#ifndef WARP_ROWS
#define WARP_ROWS 32  // rows of a warp: 16, 32 or more
#endif
#ifndef TILE_KEYS
#define TILE_KEYS 64  // keys between two rescalings
#endif
#ifndef STAGES
#define STAGES 1  // tiles of K, and of V, in shared memory
#endif
#ifndef HALF_STEPS
#define HALF_STEPS 1  // 1: K and V have a wait and a barrier each; 0: one for both
#endif
#ifndef SCORES_AHEAD
#define SCORES_AHEAD 0  // 1: the next tile's scores are multiplied while this one's are weighed
#endif
#ifndef Q_REGISTERS
#define Q_REGISTERS 0  // 1: Q stays in registers; 0: its fragments are loaded again for each tile
#endif
#ifndef PACK_HEADS
#define PACK_HEADS 0  // 1: query heads that share a head of K and V are rows of one tile
#endif
#ifndef HEADS_TOGETHER
#define HEADS_TOGETHER 1  // heads of sequences whose tiles are walked together, to meet in cache
#endif
#ifndef LATE_FIRST
#define LATE_FIRST 0  // 1: tiles of late queries first, which see more keys
#endif
#ifndef BACKWARDS
#define BACKWARDS 0  // 1: from the last key backwards, so that masked tiles come first
#endif
#ifndef LAZY_RESCALE
#define LAZY_RESCALE 0  // 1: weights may grow to 2^8 before earlier sums are scaled down
#endif
#ifndef POLYNOMIALS
#define POLYNOMIALS 0  // exponentials, of 8, that are polynomials on multiply-add units
#endif
#ifndef SPLITS
#define SPLITS 1  // parts of the keys, each by other blocks
#endif
#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit: compilers keep to the registers that this leaves
#endif

#ifndef WARP_PRODUCTS_H
#include "warp_products.h"
#endif
#if SPLITS > 1 && !defined(COMBINE_H)
#include "combine.h"
#endif

// ---- What follows from these

#define THREADS (32 * WARPS)
#define BLOCK_ROWS (WARPS * WARP_ROWS)
#define TILE_HEADS (HEADS / ROW_HEADS)  // that have tiles of their own
#define TILES ((Q_LEN * ROW_HEADS + BLOCK_ROWS - 1) / BLOCK_ROWS)
#define Q_TILE_BYTES (Q_REGISTERS ? 0 : BLOCK_ROWS * QK_WIDTH * 2)
#define K_TILE_BYTES (TILE_KEYS * QK_WIDTH * STORED_KV_BYTES)
#define STAGE_BYTES (K_TILE_BYTES + TILE_KEYS * V_WIDTH * STORED_KV_BYTES)

// ---- The output

template <int BYTES> FUNCTION void move(STORED *to, const unsigned char *from)
{
    if (BYTES == 16) {
        const uint4 found = *(const uint4 *)from;
        const unsigned words[4] = {found.x, found.y, found.z, found.w};
        store_words(to, words);
    } else if (BYTES == 8) {
        const uint2 found = *(const uint2 *)from;
        const unsigned words[2] = {found.x, found.y};
        store_words(to, words);
    } else if (BYTES == 4) {
        *(unsigned *)to = *(const unsigned *)from;
    } else {
        *to = *(const STORED *)from;
    }
}

// A fragment's 16 rows through the warp's slab of shared memory, so that whole lines are written.
FUNCTION void store_rows(STORED *out, unsigned char *slab, const Place &place, int fragment,
                         const float (&sums)[V_WIDTH / 8][4], const float (&inverses)[2])
{
    const int lane = LOCAL_ID(0) % 32, pieces = V_WIDTH * 2 / OUT_BYTES;
    __syncwarp();
#pragma unroll
    for (int columns = 0; columns < V_WIDTH / 16; columns++) {
#pragma unroll
        for (int at = 0; at < 4; at++) {
            const int half = at / 2, i = at % 2;
            const float x = pair_value(&sums[2 * columns], half, i, 0) * inverses[half];
            const float y = pair_value(&sums[2 * columns], half, i, 1) * inverses[half];
            const int line = half * 8 + lane / 4, column = pair_column(columns, i);
            *(unsigned *)(slab + element_offset<V_WIDTH, 2>(line, column)) = packed(x, y);
        }
    }
    __syncwarp();
    for (int piece = lane; piece < 16 * pieces; piece += 32) {
        const int line = piece / pieces, column = piece % pieces * (OUT_BYTES / 2);
        const int row = place.row + fragment * 16 + line;
        if (row < place.s.queries * ROW_HEADS && column < V_DIM) {
            const OFFSET at = out_offset(place.s, place.head + row % ROW_HEADS, row / ROW_HEADS);
            move<OUT_BYTES>(out + at + column, slab + element_offset<V_WIDTH, 2>(line, column));
        }
    }
}

// Sums of the lane's first row of a fragment, or of the one 8 rows later.
FUNCTION void store_sums(float *partial, const float (&sums)[V_WIDTH / 8][4], int half)
{
#pragma unroll
    for (int columns = 0; columns < V_WIDTH / 16; columns++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int column = pair_column(columns, i);
            const float x = pair_value(&sums[2 * columns], half, i, 0);
            const float y = pair_value(&sums[2 * columns], half, i, 1);
            if (V_DIM % 2 == 0) {
                const unsigned words[2] = {__float_as_uint(x), __float_as_uint(y)};
                if (column < V_DIM) store_words(partial + column, words);
            } else {
                if (column < V_DIM) partial[column] = x;
                if (column + 1 < V_DIM) partial[column + 1] = y;
            }
        }
    }
}

#if SPLITS > 1
// What a part of the keys gives, as combine.h takes it.
FUNCTION void store_part(float *partial_out, float *partial_sums, const Place &place,
                         const Rows &rows, const Sums &sums, float factor, int part)
{
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float sum = sum_of_row(rows[i][half].sum);
            const int row = row_of(place, i, half), head = place.head + row % ROW_HEADS;
            if (row >= place.s.queries * ROW_HEADS) continue;
            const OFFSET result = lse_offset(place.s, head, row / ROW_HEADS);
            const size_t at = partial_offset(result, part);
            store_sums(partial_out + at * V_DIM, sums[i], half);
            if (LOCAL_ID(0) % 4 == 0) {
                partial_sums[at * 2] = rows[i][half].largest * factor;
                partial_sums[at * 2 + 1] = sum;
            }
        }
    }
}
#endif

// ---- Keys and values on their way

// The keys that a block walks, tile by tile, and the ring in shared memory.
struct Walk {
    const STORED_KV *k, *v;
    const Sequence &s;
    unsigned char *ring;
    int kv_head, first_tile, steps;

    FUNCTION int key_of(int step) const
    {
        return (first_tile + (BACKWARDS ? steps - 1 - step : step)) * TILE_KEYS;
    }
    FUNCTION unsigned char *k_tile(int stage) const { return ring + stage * STAGE_BYTES; }
    FUNCTION unsigned char *v_tile(int stage) const { return k_tile(stage) + K_TILE_BYTES; }

    FUNCTION void fetch_k(int step, int stage, const TilePages<TILE_KEYS> &pages) const
    {
        if (step >= steps) return;
        const KeyLines<0, TILE_KEYS> lines = {k, s, pages, kv_head, key_of(step)};
        fetch<THREADS, TILE_KEYS, QK_WIDTH, HEAD_DIM, K_COPY>(k_tile(stage), lines);
    }
    FUNCTION void fetch_v(int step, int stage, const TilePages<TILE_KEYS> &pages) const
    {
        if (step >= steps) return;
        const KeyLines<1, TILE_KEYS> lines = {v, s, pages, kv_head, key_of(step)};
        fetch<THREADS, TILE_KEYS, V_WIDTH, V_DIM, V_COPY>(v_tile(stage), lines);
    }
};

// What a warp has: its rows, and what it has found of them.
struct Own {
    Place place;
    Biases biases;
    Queries queries;
    Rows rows;
    Sums sums;
    const unsigned char *q_tile;
    float score_factor, factor;  // of scores: at once, and in the exponent
};

FUNCTION void score_tile(Scores &scores, Own &own, const unsigned char *k_tile)
{
    multiply_keys(scores, own.queries, own.q_tile, LOCAL_ID(0) / 32 * WARP_ROWS, k_tile);
}

FUNCTION void finish_tile(Scores &scores, Own &own, int tile_key)
{
    finish_scores(scores, own.place, own.biases, tile_key, own.score_factor);
}

FUNCTION void weigh_tile(Weights &weights, Scores &scores, Own &own)
{
    weigh(weights, scores, own.rows, own.sums, own.factor);
}

FUNCTION int after(int stage) { return stage + 1 == STAGES ? 0 : stage + 1; }

// A tile at a time, its scores and then its values; in half steps, each after a wait of its own.
FUNCTION void walk_tiles(const Walk &walk, Own &own)
{
    TilePages<TILE_KEYS> pages;
#pragma unroll
    for (int stage = 0; stage < STAGES; stage++) {
        const bool is_last = stage == STAGES - 1;
        pages.look_up(walk.s, walk.key_of(stage));
        if (HALF_STEPS || !is_last) walk.fetch_k(stage, stage, pages);
        if (HALF_STEPS) copy_commit();
        if (!is_last) walk.fetch_v(stage, stage, pages);
        if (!is_last) copy_commit();
    }
    int stage = 0, before = STAGES - 1;
    for (int step = 0; step < walk.steps; step++) {
        const int tile_key = walk.key_of(step);
        const bool busy = sees(own.place, tile_key);
        Weights weights;
        copy_wait<HALF_STEPS ? 2 * STAGES - 2 : STAGES - 2>();
        __syncthreads();
        if (!HALF_STEPS) walk.fetch_k(step + STAGES - 1, before, pages);
        walk.fetch_v(step + STAGES - 1, before, pages);
        copy_commit();
        pages.look_up(walk.s, walk.key_of(step + STAGES));
        if (busy) {
            Scores scores;
            score_tile(scores, own, walk.k_tile(stage));
            finish_tile(scores, own, tile_key);
            weigh_tile(weights, scores, own);
        }
        if (HALF_STEPS) {
            copy_wait<2 * STAGES - 2>();
            __syncthreads();
            walk.fetch_k(step + STAGES, stage, pages);
            copy_commit();
        }
        if (busy) multiply_values(own.sums, weights, walk.v_tile(stage));
        before = stage;
        stage = after(stage);
    }
}

// The same with the scores of the next tile ahead: tensor cores have work while a tile's scores
// become weights (FlashAttention-3, arXiv:2407.08608, section 3.2, does so in a warpgroup). The
// compiler interleaves both where no branch is between them.
FUNCTION void walk_ahead(const Walk &walk, Own &own)
{
    TilePages<TILE_KEYS> pages, next_pages;  // of the next tiles of V and K
    pages.look_up(walk.s, walk.key_of(0));
    walk.fetch_k(0, 0, pages);
    copy_commit();
    next_pages.look_up(walk.s, walk.key_of(1));
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        walk.fetch_k(stage + 1, stage + 1, next_pages);
        walk.fetch_v(stage, stage, pages);
        copy_commit();
        pages = next_pages;
        next_pages.look_up(walk.s, walk.key_of(stage + 2));
    }
    Scores scores;
    bool sees_tile = walk.steps > 0 && sees(own.place, walk.key_of(0));
    copy_wait<STAGES - 1>();
    __syncthreads();
    if (sees_tile) score_tile(scores, own, walk.k_tile(0));
    int stage = 0, before = STAGES - 1;
    for (int step = 0; step < walk.steps; step++) {
        const int tile_key = walk.key_of(step);
        const bool sees_next = step + 1 < walk.steps && sees(own.place, walk.key_of(step + 1));
        Scores next_scores;
        Weights weights;
        copy_wait<STAGES - 2>();
        __syncthreads();
        walk.fetch_k(step + STAGES, stage, next_pages);
        walk.fetch_v(step + STAGES - 1, before, pages);
        copy_commit();
        pages = next_pages;
        next_pages.look_up(walk.s, walk.key_of(step + STAGES + 1));
        if (sees_tile) finish_tile(scores, own, tile_key);
        if (sees_tile && sees_next) {
            score_tile(next_scores, own, walk.k_tile(after(stage)));
            weigh_tile(weights, scores, own);
            multiply_values(own.sums, weights, walk.v_tile(stage));
        } else {
            if (sees_next) score_tile(next_scores, own, walk.k_tile(after(stage)));
            if (sees_tile) {
                weigh_tile(weights, scores, own);
                multiply_values(own.sums, weights, walk.v_tile(stage));
            }
        }
        copy(scores, next_scores);
        sees_tile = sees_next;
        before = stage;
        stage = after(stage);
    }
}

// ---- The kernel

#if SPLITS > 1
#define RESULTS float *RESTRICT partial_out, float *RESTRICT partial_sums
#else
#define RESULTS STORED *RESTRICT out LSE_PARAMETER
#endif

KERNEL __launch_bounds__(THREADS, RESIDENT) void attend(
    const STORED *RESTRICT q, const STORED_KV *RESTRICT k,
    const STORED_KV *RESTRICT v INPUT_PARAMETERS, RESULTS)
{
    extern __shared__ __align__(128) unsigned char shared[];

    const int heads = tile_row(GROUP_ID(0), BATCH * TILE_HEADS, TILES, HEADS_TOGETHER);
    const int column = tile_column(GROUP_ID(0), BATCH * TILE_HEADS, TILES, HEADS_TOGETHER);
    const int block_row = (LATE_FIRST ? TILES - 1 - column : column) * BLOCK_ROWS;
    const int head = heads % TILE_HEADS * ROW_HEADS, part = GROUP_ID(1);
    const Sequence s = SEQUENCE(heads / TILE_HEADS);
    const int rows_left = s.queries * ROW_HEADS - block_row;
    if (VARLEN_Q && rows_left <= 0) return;

    // The keys that any row sees, and this part's.
    const int last_row = block_row + (rows_left < BLOCK_ROWS ? rows_left : BLOCK_ROWS) - 1;
    const int first_seen = first_key(s, block_row / ROW_HEADS) / TILE_KEYS;
    const int end_seen = (end_key(s, last_row / ROW_HEADS) + TILE_KEYS - 1) / TILE_KEYS;
    const int first_tile = first_seen + first_step_of(part, end_seen - first_seen, SPLITS);
    const int steps = steps_of(part, end_seen - first_seen, SPLITS);
    const Walk walk = {k, v, s, shared + Q_TILE_BYTES, head / HEADS_PER_KV_HEAD, first_tile, steps};

    const int warp = LOCAL_ID(0) / 32;
    const QueryLines<ROW_HEADS> q_lines = {q, s, head, block_row};
    Own own;
    own.place = place_of(s, head, block_row + warp * WARP_ROWS);
    own.q_tile = shared;
    own.score_factor = SCORE_FACTOR;
    own.factor = LATE_FACTOR ? own.score_factor : 1.0f;
    if (Q_REGISTERS)
        read_queries(own.queries, q_lines, warp * WARP_ROWS);
    else
        fetch<THREADS, BLOCK_ROWS, QK_WIDTH, HEAD_DIM, Q_COPY>(shared, q_lines);
    BIASES_OF(own.biases, own.place);
    begin(own.rows, own.sums);
    if (SCORES_AHEAD)
        walk_ahead(walk, own);
    else
        walk_tiles(walk, own);

#if SPLITS > 1
    store_part(partial_out, partial_sums, own.place, own.rows, own.sums, own.factor, part);
#else
    // The output takes the place of the tiles.
    copy_wait<0>();
    __syncthreads();
    unsigned char *const slab = shared + warp * 16 * V_WIDTH * 2;
#pragma unroll
    for (int i = 0; i < FRAGMENTS; i++) {
        float inverses[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float sum = sum_of_row(own.rows[i][half].sum);
            inverses[half] = sum > 0.0f ? VALUE_FACTOR / sum : 0.0f;
#if LSE
            const int row = row_of(own.place, i, half);
            if (LOCAL_ID(0) % 4 == 0 && row < s.queries * ROW_HEADS)
                lse[lse_offset(s, head + row % ROW_HEADS, row / ROW_HEADS)] =
                    natural_lse(own.rows[i][half].largest * own.factor, sum);
#endif
        }
        store_rows(out, slab, own.place, i, own.sums[i], inverses);
    }
#endif
}
