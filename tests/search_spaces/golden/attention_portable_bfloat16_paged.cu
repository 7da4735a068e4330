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
#define Q_LEN 1
#define KV_LEN 300
#define HEAD_DIM 64
#define V_DIM 64
#define TOTAL_Q 2
#define SCALE 0.125f
#define CAUSAL 0
#define WINDOW 0
#define SOFTCAP 30.0f
#define HAS_SOFTCAP 1
#define ALIBI 1
#define BIAS 0
#define PACKED 0
#define PACKED_KV 0
#define KV_LENGTHS 1
#define LSE 1
#define SCALED_KV 0
#define PAGE_SIZE 16
#define PAGES_PER_SEQUENCE 19
#define K_PAGE_STRIDE 2048
#define V_PAGE_STRIDE 2048
#define Q_BATCH_STRIDE 512
#define Q_HEAD_STRIDE 64
#define Q_ROW_STRIDE 64
#define OUT_BATCH_STRIDE 512
#define OUT_HEAD_STRIDE 64
#define OUT_ROW_STRIDE 64
#define K_BATCH_STRIDE 0
#define K_HEAD_STRIDE 1024
#define K_ROW_STRIDE 64
#define V_BATCH_STRIDE 0
#define V_HEAD_STRIDE 1024
#define V_ROW_STRIDE 64
#define OFFSET int
#define STORED ushort
#define STORED_KV ushort
#define STORED_BYTES 2
#define STORED_KV_BYTES 2
#define STORED_TO_FLOAT(x) bfloat16_to_float(x)
#define FLOAT_TO_STORED(x) float_to_bfloat16(x)
#define KV_TO_FLOAT(x) bfloat16_to_float(x)
#define INPUT_PARAMETERS , GLOBAL const float *RESTRICT alibi_slopes, GLOBAL const int *RESTRICT kv_lengths, GLOBAL const int *RESTRICT block_table
#define INPUT_ARGUMENTS , alibi_slopes, kv_lengths, block_table
#define LSE_PARAMETER , GLOBAL float *RESTRICT lse
#define LSE_ARGUMENT , lse

#define BLOCK_K 32
#define BLOCK_Q 4
#define KV_TILES 1
#define LANES 4
#define LONGEST_FIRST 0
#define PACK_HEADS 1
#define PAD 1
#define PREFETCH 0
#define SHUFFLE 0
#define SPLITS 2
#define THREADS_K 8
#define THREADS_Q 4
#define UNROLL 1
#define VECTOR 4
#define WEIGHTS_LOCAL 1

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

// The schedule of portable.cl, with a default for each knob, and what follows from it. Stands after
// sequence.h.

#ifndef PORTABLE_SCHEDULE_H
#define PORTABLE_SCHEDULE_H

// ---- The schedule

#ifndef BLOCK_Q
#define BLOCK_Q 32  // rows of a work-group
#endif
#ifndef BLOCK_K
#define BLOCK_K 32  // keys of a step
#endif
#ifndef THREADS_Q
#define THREADS_Q 8  // work-items along the rows
#endif
#ifndef THREADS_K
#define THREADS_K 8  // work-items along the keys, and along the columns of the output
#endif
#ifndef VECTOR
#define VECTOR 1  // elements in one global access: 1, 2 or 4
#endif
#ifndef LANES
#define LANES 4  // elements in one local access, and neighbouring columns owned: 1, 2 or 4
#endif
#ifndef PAD
#define PAD 1  // 1: unused elements after rows of Q, K and weights, against bank conflicts
#endif
#ifndef KV_TILES
#define KV_TILES 1  // 1: V takes K's place in local memory, for two more barriers; 2: beside it
#endif
#ifndef PREFETCH
#define PREFETCH 0  // 1: fetch the next tile before multiplying by this one; costs registers
#endif
#ifndef WEIGHTS_LOCAL
#define WEIGHTS_LOCAL 1  // 0: weights stay in registers, where a work-item has whole rows
#endif
#ifndef SHUFFLE
#define SHUFFLE 0  // 1: maxima between lanes of a warp, where the language has that
#endif
#ifndef UNROLL
#define UNROLL 1  // steps of LANES along the head unrolled
#endif
#ifndef PACK_HEADS
#define PACK_HEADS 0  // 1: rows are the queries of all heads that share K and V
#endif
#ifndef LONGEST_FIRST
#define LONGEST_FIRST 0  // 1: the last queries of all heads first, which see most keys
#endif
#ifndef SPLITS
#define SPLITS 1  // parts of the keys, each computed by other work-groups
#endif

// ---- What follows from these

#define THREADS (THREADS_Q * THREADS_K)
#define ROW_HEADS (PACK_HEADS ? HEADS_PER_KV_HEAD : 1)  // heads of neighbouring rows
#define TILES ((Q_LEN * ROW_HEADS + BLOCK_Q - 1) / BLOCK_Q)  // of the longest sequence
#define TILE_HEADS (HEADS / ROW_HEADS)
#define THREAD_Q (BLOCK_Q / THREADS_Q)  // rows of a work-item
#define THREAD_K (BLOCK_K / THREADS_K)  // keys
#define RUNS ((V_DIM + LANES * THREADS_K - 1) / (LANES * THREADS_K))  // of columns
#define THREAD_V (RUNS * LANES)
#define WHOLE_RUNS (V_DIM % (LANES * THREADS_K) == 0)  // whether all of them are of the output
#define ROUNDED(x) (((x) + LANES - 1) / LANES * LANES)
#define PITCH_D (ROUNDED(HEAD_DIM) + PAD * LANES)  // of rows of Q and K in local memory
#define PITCH_V ROUNDED(V_DIM)
#define PITCH_W (BLOCK_K + PAD * (THREADS_K > LANES ? THREADS_K : LANES))  // of rows of weights
#define TILE_K (BLOCK_K * PITCH_D)
#define TILE_V ((BLOCK_K - 1) * PITCH_V + RUNS * LANES * THREADS_K)  // read to the end of the runs
#define TILES_KV (KV_TILES == 2 ? TILE_K + TILE_V : TILE_K > TILE_V ? TILE_K : TILE_V)
#define TILE_W (WEIGHTS_LOCAL ? BLOCK_Q * PITCH_W : 0)
#define WIDTH (VECTOR < LANES ? VECTOR : LANES)  // elements of a piece in one local access
#define PIECES_K (BLOCK_K * (HEAD_DIM / VECTOR))
#define PIECES_V (BLOCK_K * (V_DIM / VECTOR))
#define STAGED_K ((PIECES_K + THREADS - 1) / THREADS)
#define STAGED_V ((PIECES_V + THREADS - 1) / THREADS)
#define STAGED (STAGED_K > STAGED_V ? STAGED_K : STAGED_V)
#define LOWEST (-3.0e38f)  // below every score, but finite: exp2(-infinity - LOWEST) is 0

#ifdef __OPENCL_VERSION__
#define LARGER(x, y) max(x, y)
#define SHUFFLES 0
#else
#define LARGER(x, y) fmaxf(x, y)
#define SHUFFLES (SHUFFLE && THREADS_K > 1)
#define OTHER_LANE(x, step) __shfl_xor_sync(0xFFFFFFFF, x, step)
#endif
#define REDUCE_LOCAL (THREADS_K > 1 && !SHUFFLES)
#define LOCAL_FLOATS \
    (BLOCK_Q * PITCH_D + TILES_KV + TILE_W + (REDUCE_LOCAL ? BLOCK_Q * THREADS_K : 0))

#endif

// Tiles of portable.cl: from global to local memory as float32, and their products in registers.
// Stands after portable_schedule.h.

#ifndef PORTABLE_TILES_H
#define PORTABLE_TILES_H

// ---- Vectors of 1, 2 or 4 elements, aligned to their size

#define READER(name, type, space)                                                \
    FUNCTION void name(space const type *from, const int lanes, type *to)        \
    {                                                                            \
        if (lanes == 4) {                                                        \
            const VECTOR4(type) v = *(space const VECTOR4(type) *)from;          \
            to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;                  \
        } else if (lanes == 2) {                                                 \
            const VECTOR2(type) v = *(space const VECTOR2(type) *)from;          \
            to[0] = v.x, to[1] = v.y;                                            \
        } else {                                                                 \
            to[0] = *from;                                                       \
        }                                                                        \
    }
#define WRITER(name, type, space)                                                \
    FUNCTION void name(space type *to, const int lanes, const type *from)        \
    {                                                                            \
        if (lanes == 4) {                                                        \
            VECTOR4(type) v;                                                     \
            v.x = from[0], v.y = from[1], v.z = from[2], v.w = from[3];          \
            *(space VECTOR4(type) *)to = v;                                      \
        } else if (lanes == 2) {                                                 \
            VECTOR2(type) v;                                                     \
            v.x = from[0], v.y = from[1];                                        \
            *(space VECTOR2(type) *)to = v;                                      \
        } else {                                                                 \
            *to = from[0];                                                       \
        }                                                                        \
    }

READER(read_q, STORED, GLOBAL)
READER(read_kv, STORED_KV, GLOBAL)
READER(read_local, float, LOCAL)
WRITER(write_local, float, LOCAL)

// ---- Rows: of the head `first_head`, or of it and the following ones side by side

FUNCTION int row_query(int row) { return row / ROW_HEADS; }
FUNCTION int row_head(int row, int first_head) { return first_head + row % ROW_HEADS; }

// ---- From global to local memory, through registers: pieces of VECTOR neighbours along a row
//
// A piece is told by its number; as HEAD_DIM and V_DIM are multiples of VECTOR it lies in one row.

FUNCTION void convert_piece(LOCAL float *to, const STORED_KV *piece)
{
    float values[VECTOR];
#pragma unroll
    for (int lane = 0; lane < VECTOR; lane++) values[lane] = KV_TO_FLOAT(piece[lane]);
#pragma unroll
    for (int lane = 0; lane < VECTOR; lane += WIDTH) write_local(to + lane, WIDTH, values + lane);
}

// Piece `number` of the tile of K (or V) from key `first` on; of the last key behind it. No branch
// stands before the read, so that several are under way.
FUNCTION void fetch_piece(GLOBAL const STORED_KV *from, const int is_v, Sequence s, int kv_head,
                          int first, int number, STORED_KV *piece)
{
    const int per_row = (is_v ? V_DIM : HEAD_DIM) / VECTOR;
    const int row = first + number / per_row, column = number % per_row * VECTOR;
    const int key = row < s.keys ? row : s.keys - 1;
    read_kv(from + (is_v ? v_offset(s, kv_head, key) : k_offset(s, kv_head, key)) + column, VECTOR,
            piece);
}

FUNCTION void stash_piece(LOCAL float *tile, const int is_v, int number, const STORED_KV *piece)
{
    const int per_row = (is_v ? V_DIM : HEAD_DIM) / VECTOR;
    const int row = number / per_row, column = number % per_row * VECTOR;
    convert_piece(tile + row * (is_v ? PITCH_V : PITCH_D) + column, piece);
}

// All pieces that are this work-item's into registers, and from there into local memory.
FUNCTION void fetch(GLOBAL const STORED_KV *from, const int is_v, Sequence s, int kv_head,
                    int first, STORED_KV staged[STAGED][VECTOR])
{
    const int pieces = is_v ? PIECES_V : PIECES_K;
#pragma unroll
    for (int i = 0; i < (is_v ? STAGED_V : STAGED_K); i++) {
        const int number = LOCAL_ID(0) + i * THREADS;
        const int inside = pieces % THREADS == 0 || number < pieces;
        fetch_piece(from, is_v, s, kv_head, first, inside ? number : pieces - 1, staged[i]);
    }
}

FUNCTION void stash(LOCAL float *tile, const int is_v, STORED_KV staged[STAGED][VECTOR])
{
    const int pieces = is_v ? PIECES_V : PIECES_K;
#pragma unroll
    for (int i = 0; i < (is_v ? STAGED_V : STAGED_K); i++) {
        const int number = LOCAL_ID(0) + i * THREADS;
        if (pieces % THREADS == 0 || number < pieces) stash_piece(tile, is_v, number, staged[i]);
    }
}

// The same without keeping the pieces.
FUNCTION void copy(LOCAL float *tile, GLOBAL const STORED_KV *from, const int is_v, Sequence s,
                   int kv_head, int first)
{
    const int pieces = is_v ? PIECES_V : PIECES_K;
#pragma unroll 8
    for (int i = 0; i < (is_v ? STAGED_V : STAGED_K); i++) {
        const int number = LOCAL_ID(0) + i * THREADS;
        if (pieces % THREADS == 0 || number < pieces) {
            STORED_KV piece[VECTOR];
            fetch_piece(from, is_v, s, kv_head, first, number, piece);
            stash_piece(tile, is_v, number, piece);
        }
    }
}

// The group's rows of Q, times `factor`.
FUNCTION void copy_q(LOCAL float *tile, GLOBAL const STORED *q, Sequence s, int head,
                     int first_row, int last_row, float factor)
{
#pragma unroll 2
    for (int number = LOCAL_ID(0); number < BLOCK_Q * (HEAD_DIM / VECTOR); number += THREADS) {
        const int y = number / (HEAD_DIM / VECTOR), column = number % (HEAD_DIM / VECTOR) * VECTOR;
        const int row = first_row + y < last_row ? first_row + y : last_row;
        STORED piece[VECTOR];
        float values[VECTOR];
        read_q(q + q_offset(s, row_head(row, head), row_query(row)) + column, VECTOR, piece);
#pragma unroll
        for (int lane = 0; lane < VECTOR; lane++)
            values[lane] = STORED_TO_FLOAT(piece[lane]) * factor;
#pragma unroll
        for (int lane = 0; lane < VECTOR; lane += WIDTH)
            write_local(tile + y * PITCH_D + column + lane, WIDTH, values + lane);
    }
}

// ---- Products

// `count` steps of the head from column `d` on: scores += Q K^T.
FUNCTION void score_step(LOCAL const float *q_tile, LOCAL const float *k_tile, const int count,
                         int d, int y, int x, float scores[THREAD_Q][THREAD_K])
{
    float q[THREAD_Q][LANES], k[THREAD_K][LANES];
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++)
        read_local(q_tile + (y + i * THREADS_Q) * PITCH_D + d, count, q[i]);
#pragma unroll
    for (int j = 0; j < THREAD_K; j++)
        read_local(k_tile + (x + j * THREADS_K) * PITCH_D + d, count, k[j]);
#pragma unroll
    for (int lane = 0; lane < count; lane++) {
#pragma unroll
        for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
            for (int j = 0; j < THREAD_K; j++)
                scores[i][j] = FMA(q[i][lane], k[j][lane], scores[i][j]);
        }
    }
}

FUNCTION void multiply_keys(LOCAL const float *q_tile, LOCAL const float *k_tile, int y, int x,
                            float scores[THREAD_Q][THREAD_K])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
        for (int j = 0; j < THREAD_K; j++) scores[i][j] = 0.0f;
    }
#pragma unroll UNROLL
    for (int d = 0; d < HEAD_DIM / LANES * LANES; d += LANES)
        score_step(q_tile, k_tile, LANES, d, y, x, scores);
#pragma unroll
    for (int d = HEAD_DIM / LANES * LANES; d < HEAD_DIM; d++)
        score_step(q_tile, k_tile, 1, d, y, x, scores);
}

// One key: sums += weight V, for each row's weight of it.
FUNCTION void add_values(LOCAL const float *v_row, const float weights[THREAD_Q], int x,
                         float sums[THREAD_Q][THREAD_V])
{
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
        float v[LANES];
        read_local(v_row + (run * THREADS_K + x) * LANES, LANES, v);
#pragma unroll
        for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
            for (int lane = 0; lane < LANES; lane++)
                sums[i][run * LANES + lane] = FMA(weights[i], v[lane], sums[i][run * LANES + lane]);
        }
    }
}

#if WEIGHTS_LOCAL
FUNCTION void multiply_values(LOCAL const float *weights, LOCAL const float *v_tile, int y, int x,
                              float sums[THREAD_Q][THREAD_V])
{
#pragma unroll 1
    for (int key = 0; key < BLOCK_K; key += LANES) {
        float w[THREAD_Q][LANES];
#pragma unroll
        for (int i = 0; i < THREAD_Q; i++)
            read_local(weights + (y + i * THREADS_Q) * PITCH_W + key, LANES, w[i]);
#pragma unroll
        for (int lane = 0; lane < LANES; lane++) {
            float column[THREAD_Q];
#pragma unroll
            for (int i = 0; i < THREAD_Q; i++) column[i] = w[i][lane];
            add_values(v_tile + (key + lane) * PITCH_V, column, x, sums);
        }
    }
}
#else
FUNCTION void multiply_values(float weights[THREAD_Q][THREAD_K], LOCAL const float *v_tile, int x,
                              float sums[THREAD_Q][THREAD_V])
{
#pragma unroll
    for (int key = 0; key < THREAD_K; key++) {
        float column[THREAD_Q];
#pragma unroll
        for (int i = 0; i < THREAD_Q; i++) column[i] = weights[i][key];
        add_values(v_tile + key * PITCH_V, column, x, sums);
    }
}
#endif

#endif

// out = softmax(scores) V: tiles of Q, K and V in local memory as float32, scores and sums in
// registers, one pass over the keys (FlashAttention's online softmax, in powers of two).
//
// A work-group takes BLOCK_Q rows and walks along their keys in steps of BLOCK_K. A row is a query
// of one head, or, with PACK_HEADS, of each head that shares K and V. Work-items stand in a grid of
// THREADS_Q x THREADS_K. Work-item (y, x) computes, of every THREADS_Q-th row from y on, the scores
// of every THREADS_K-th key from x on, and later runs of LANES columns of the output, every
// THREADS_K-th run from x on. So a row's maximum and sum belong to the same work-items in both
// products, and weights change hands in local memory, within their row. Each step:
//
//   scores = Q K^T, row maxima, weights = exp2(scores - maximum), sums = sums * shrink + weights V
//
// Rows beyond the last one repeat it and are not written; so do keys, which are hidden.
//
//   attention:  groups as `tile_of` numbers them; writes out and lse, or its part of the keys' sums
//   combine:    merges the parts (combine.h), only if SPLITS > 1

#ifndef KERNEL
#include "../dialects/opencl.h"
#endif
#ifndef SEQUENCE_H
#include "sequence.h"
#endif
#ifndef PORTABLE_SCHEDULE_H
#include "portable_schedule.h"
#endif
#ifndef PORTABLE_TILES_H
#include "portable_tiles.h"
#endif
#if SPLITS > 1 && !defined(COMBINE_H)
#include "combine.h"
#endif

// ---- Rows of this group

typedef struct {
    int tile, part, head, sequence;  // `head`: the first one of its rows
} Place;

FUNCTION Place tile_of(int group)
{
    Place place;
#if LONGEST_FIRST  // heads and sequences before tiles, and tiles backwards
    place.part = group % SPLITS, group /= SPLITS;
    place.head = group % TILE_HEADS * ROW_HEADS, group /= TILE_HEADS;
    place.sequence = group % BATCH;
    place.tile = TILES - 1 - group / BATCH;
#else  // neighbours share K and V
    place.tile = group % TILES, group /= TILES;
    place.part = group % SPLITS, group /= SPLITS;
    place.head = group % TILE_HEADS * ROW_HEADS;
    place.sequence = group / TILE_HEADS;
#endif
    return place;
}

// Keys from `begin` to `end` are seen by some of the rows and belong to this part; those from
// `all_begin` to `all_end` are seen by every row.
typedef struct {
    int begin, end, all_begin, all_end;
} Keys;

FUNCTION Keys keys_of(Sequence s, int first_row, int last_row, int part)
{
    const int first_query = row_query(first_row), last_query = row_query(last_row);
    const int begin = first_key(s, first_query), end = end_key(s, last_query);
    const int steps = (end - begin + BLOCK_K - 1) / BLOCK_K;
    const int part_keys = (steps + SPLITS - 1) / SPLITS * BLOCK_K;
    Keys keys;
    keys.begin = begin + part * part_keys;
    keys.end = end - keys.begin < part_keys ? end : keys.begin + part_keys;
    keys.all_begin = first_key(s, last_query), keys.all_end = end_key(s, first_query);
    return keys;
}

// ---- Softmax

// Scores from sums of products: capped, biased, and hidden where the row does not see the key.
// `inside`: every row of the group sees every key of the step, which begins at key `first`.
FUNCTION void finish_scores(Sequence s, const Bias biases[THREAD_Q], const int rows[THREAD_Q],
                            int first, int inside, float scores[THREAD_Q][THREAD_K])
{
    if (SCORE_IS_LINEAR && inside) return;
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        const int query = row_query(rows[i]);
        const int seen = first_key(s, query), end = end_key(s, query);
#pragma unroll
        for (int j = 0; j < THREAD_K; j++) {
            const int key = first + j * THREADS_K;
            if (inside || (key >= seen && key < end))
                scores[i][j] = score(scores[i][j], biases[i], s, query, key);
            else
                scores[i][j] = MINUS_INFINITY;
        }
    }
}

// Maxima of the rows over this work-item's keys; of whole rows where lanes can be asked.
FUNCTION void row_maxima(float scores[THREAD_Q][THREAD_K], float maxima[THREAD_Q])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        maxima[i] = scores[i][0];
#pragma unroll
        for (int j = 1; j < THREAD_K; j++) maxima[i] = LARGER(maxima[i], scores[i][j]);
#if SHUFFLES
#pragma unroll
        for (int step = THREADS_K / 2; step > 0; step /= 2)
            maxima[i] = LARGER(maxima[i], OTHER_LANE(maxima[i], step));
#endif
    }
}

#if SHUFFLES
FUNCTION void add_lanes(float totals[THREAD_Q])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
        for (int step = THREADS_K / 2; step > 0; step /= 2)
            totals[i] += OTHER_LANE(totals[i], step);
    }
}
#endif

// Scores become weights, and all that was summed before shrinks where the maximum grows.
FUNCTION void weigh(float scores[THREAD_Q][THREAD_K], const float maxima[THREAD_Q],
                    float largest[THREAD_Q], float totals[THREAD_Q],
                    float sums[THREAD_Q][THREAD_V])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        const float now = LARGER(largest[i], maxima[i]), shrink = EXP2(largest[i] - now);
        largest[i] = now;
        totals[i] *= shrink;
#pragma unroll
        for (int j = 0; j < THREAD_K; j++) {
            scores[i][j] = EXP2(scores[i][j] - now);
            totals[i] += scores[i][j];
        }
#pragma unroll
        for (int column = 0; column < THREAD_V; column++) sums[i][column] *= shrink;
    }
}

// The work-items of each row exchange a number a row: afterwards all have the largest, or the sum.
FUNCTION void gather(LOCAL const float *shared, const int is_sum, int y, float values[THREAD_Q])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        LOCAL const float *row = shared + (y + i * THREADS_Q) * THREADS_K;
        values[i] = row[0];
#pragma unroll
        for (int x = 1; x < THREADS_K; x++)
            values[i] = is_sum ? values[i] + row[x] : LARGER(values[i], row[x]);
    }
}

FUNCTION void share(LOCAL float *shared, int y, int x, const float values[THREAD_Q])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) shared[(y + i * THREADS_Q) * THREADS_K + x] = values[i];
}

FUNCTION void put_weights(LOCAL float *weights, int y, int x,
                          float scores[THREAD_Q][THREAD_K])
{
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
#pragma unroll
        for (int j = 0; j < THREAD_K; j++)
            weights[(y + i * THREADS_Q) * PITCH_W + x + j * THREADS_K] = scores[i][j];
    }
}

// ---- The output: of a row, or of its part

#if SPLITS > 1
#define RESULT float
#define RESULTS GLOBAL float *RESTRICT partial_out, GLOBAL float *RESTRICT partial_sums
#define FLOAT_TO_RESULT(x) (x)
#else
#define RESULT STORED
#define RESULTS GLOBAL STORED *RESTRICT out LSE_PARAMETER
#define FLOAT_TO_RESULT(x) FLOAT_TO_STORED(x)
#endif
WRITER(write_out, RESULT, GLOBAL)

// This work-item's columns of a row, times `factor`.
FUNCTION void write_row(GLOBAL RESULT *to, int x, const float sums[THREAD_V], float factor)
{
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
#pragma unroll
        for (int lane = 0; lane < LANES; lane += WIDTH) {
            const int column = (run * THREADS_K + x) * LANES + lane;
            RESULT piece[WIDTH];
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                piece[i] = FLOAT_TO_RESULT(sums[run * LANES + lane + i] * factor);
            if (WHOLE_RUNS || column < V_DIM) write_out(to + column, WIDTH, piece);
        }
    }
}

KERNEL GROUP_SIZE(THREADS, 1, 1) void attention(GLOBAL const STORED *RESTRICT q,
                                                GLOBAL const STORED_KV *RESTRICT k,
                                                GLOBAL const STORED_KV *RESTRICT v
                                                INPUT_PARAMETERS, RESULTS)
{
#ifdef __OPENCL_VERSION__
    LOCAL_ARRAY(float, memory, LOCAL_FLOATS);
#else  // more than 48 KiB only where the size comes with the launch
    extern __shared__ __align__(16) float memory[];
#endif
    LOCAL float *q_tile = memory, *k_tile = q_tile + BLOCK_Q * PITCH_D;
    LOCAL float *v_tile = KV_TILES == 1 ? k_tile : k_tile + TILE_K;
#if WEIGHTS_LOCAL
    LOCAL float *weights = k_tile + TILES_KV;
#endif
#if REDUCE_LOCAL
    LOCAL float *shared = k_tile + TILES_KV + TILE_W;  // a number of each work-item for its rows
#endif

    const Place place = tile_of(GROUP_ID(0));
    const int head = place.head, kv_head = head / HEADS_PER_KV_HEAD;
    const Sequence s = SEQUENCE(place.sequence);
    const int first_row = place.tile * BLOCK_Q, rows_end = s.queries * ROW_HEADS;
    if (first_row >= rows_end) return;
    const int last_row = first_row + BLOCK_Q < rows_end ? first_row + BLOCK_Q - 1 : rows_end - 1;
    const int y = LOCAL_ID(0) / THREADS_K, x = LOCAL_ID(0) % THREADS_K;
    const Keys keys = keys_of(s, first_row, last_row, place.part);

    int rows[THREAD_Q];
    Bias biases[THREAD_Q];
    float largest[THREAD_Q], totals[THREAD_Q], sums[THREAD_Q][THREAD_V];
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        const int row = first_row + y + i * THREADS_Q;
        rows[i] = row < last_row ? row : last_row;
        biases[i] = BIAS_OF(s, row_head(rows[i], head));
        largest[i] = LOWEST, totals[i] = 0.0f;
#pragma unroll
        for (int column = 0; column < THREAD_V; column++) sums[i][column] = 0.0f;
    }

#if PREFETCH
    STORED_KV staged[STAGED][VECTOR];
#define FETCH(from, is_v, first) fetch(from, is_v, s, kv_head, first, staged)
#define ARRIVE(tile, from, is_v, first) stash(tile, is_v, staged)
#else
#define FETCH(from, is_v, first)
#define ARRIVE(tile, from, is_v, first) copy(tile, from, is_v, s, kv_head, first)
#endif

    copy_q(q_tile, q, s, head, first_row, last_row, SCORE_FACTOR);
    if (keys.begin < keys.end) {
        FETCH(k, 0, keys.begin);
        ARRIVE(k_tile, k, 0, keys.begin);
    }
    BARRIER();
    for (int first = keys.begin; first < keys.end; first += BLOCK_K) {
        const int inside = first >= keys.all_begin && first + BLOCK_K <= keys.all_end;
        const int more = first + BLOCK_K < keys.end;
        float scores[THREAD_Q][THREAD_K], maxima[THREAD_Q];
        FETCH(v, 1, first);
        multiply_keys(q_tile, k_tile, y, x, scores);
        finish_scores(s, biases, rows, first + x, inside, scores);
        row_maxima(scores, maxima);
#if REDUCE_LOCAL
        share(shared, y, x, maxima);
#endif
        if (REDUCE_LOCAL || KV_TILES == 1) BARRIER();  // maxima are there, nobody still reads K
        ARRIVE(v_tile, v, 1, first);
#if REDUCE_LOCAL
        gather(shared, 0, y, maxima);
#endif
        weigh(scores, maxima, largest, totals, sums);
#if WEIGHTS_LOCAL
        put_weights(weights, y, x, scores);
#endif
        BARRIER();  // weights and V are there
        if (more) {
            FETCH(k, 0, first + BLOCK_K);
        }
#if WEIGHTS_LOCAL
        multiply_values(weights, v_tile, y, x, sums);
#else
        multiply_values(scores, v_tile, x, sums);
#endif
        if (KV_TILES == 1) BARRIER();  // nobody still reads V
        if (more) {
            ARRIVE(k_tile, k, 0, first + BLOCK_K);
        }
        BARRIER();  // K is there
    }

#if REDUCE_LOCAL
    share(shared, y, x, totals);
    BARRIER();
    gather(shared, 1, y, totals);
#elif SHUFFLES
    add_lanes(totals);
#endif
#pragma unroll
    for (int i = 0; i < THREAD_Q; i++) {
        if (first_row + y + i * THREADS_Q > last_row) continue;
        const int query = row_query(rows[i]), of_head = row_head(rows[i], head);
#if SPLITS > 1
        const size_t part = partial_offset(lse_offset(s, of_head, query), place.part);
        write_row(partial_out + part * V_DIM, x, sums[i], 1.0f);
        if (x == 0) partial_sums[part * 2] = largest[i], partial_sums[part * 2 + 1] = totals[i];
#else
        const float factor = totals[i] > 0.0f ? VALUE_FACTOR / totals[i] : 0.0f;
        write_row(out + out_offset(s, of_head, query), x, sums[i], factor);
#if LSE
        if (x == 0) lse[lse_offset(s, of_head, query)] = natural_lse(largest[i], totals[i]);
#endif
#endif
    }
}
