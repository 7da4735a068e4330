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

#define BATCH 2
#define HEADS 4
#define KV_HEADS 2
#define Q_LEN 1
#define KV_LEN 500
#define HEAD_DIM 96
#define V_DIM 96
#define TOTAL_Q 2
#define SCALE 0.10206207261596577f
#define CAUSAL 0
#define WINDOW 0
#define SOFTCAP 0.0f
#define HAS_SOFTCAP 0
#define ALIBI 0
#define BIAS 0
#define PACKED 0
#define PACKED_KV 0
#define KV_LENGTHS 1
#define LSE 1
#define SCALED_KV 0
#define PAGE_SIZE 16
#define PAGES_PER_SEQUENCE 32
#define K_PAGE_STRIDE 3072
#define V_PAGE_STRIDE 3072
#define Q_BATCH_STRIDE 384
#define Q_HEAD_STRIDE 96
#define Q_ROW_STRIDE 96
#define OUT_BATCH_STRIDE 384
#define OUT_HEAD_STRIDE 96
#define OUT_ROW_STRIDE 96
#define K_BATCH_STRIDE 0
#define K_HEAD_STRIDE 1536
#define K_ROW_STRIDE 96
#define V_BATCH_STRIDE 0
#define V_HEAD_STRIDE 1536
#define V_ROW_STRIDE 96
#define OFFSET int
#define STORED ushort
#define STORED_KV ushort
#define STORED_BYTES 2
#define STORED_KV_BYTES 2
#define STORED_TO_FLOAT(x) half_to_float(x)
#define FLOAT_TO_STORED(x) float_to_half(x)
#define KV_TO_FLOAT(x) half_to_float(x)
#define INPUT_PARAMETERS , GLOBAL const int *RESTRICT kv_lengths, GLOBAL const int *RESTRICT block_table
#define INPUT_ARGUMENTS , kv_lengths, block_table
#define LSE_PARAMETER , GLOBAL float *RESTRICT lse
#define LSE_ARGUMENT , lse

#define STORED_IS_FLOAT 0
#define STORED_IS_HALF 1
#define KV_IS_FLOAT 0
#define KV_IS_HALF 1
#define KV_IS_BFLOAT16 0
#define KV_IS_E5M2 0
#define BLOCK_KEYS 128
#define FETCH_ROWS 0
#define LANES 16
#define SPLITS 1
#define TILE_KEYS 4
#define TILE_ROWS 2
#define TILE_VECTORS 6

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

// Vectors of floats for kernels of attention on CPUs: reading and writing rows, whatever their
// type; transposing; exponentials. Stands after sequence.h.

#ifndef CPU_VECTORS_H
#define CPU_VECTORS_H

#ifndef LANES
#define LANES 16  // elements of a vector: 4, 8 or 16
#endif
#ifndef STORED_IS_HALF
#define STORED_IS_HALF 0   // 1: Q and the output are float16
#define KV_IS_HALF 0       // 1: K and V are
#define STORED_IS_FLOAT 1  // 1: Q and the output are float32
#define KV_IS_FLOAT 1
#define KV_IS_BFLOAT16 0
#define KV_IS_E5M2 0       // 1: they are float8_e5m2; else float8_e4m3
#endif

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define VECTOR JOIN(float, LANES)
#define INTEGERS JOIN(int, LANES)  // also what comparisons give: -1 where true
#define AS_FLOATS JOIN(as_float, LANES)
#define AS_INTEGERS JOIN(as_int, LANES)
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))
#define CEIL_DIV(a, b) (((a) + (b) - 1) / (b))
#define ROUND_UP(a, b) (CEIL_DIV(a, b) * (b))

// ---- Private arrays of floats, aligned to whole vectors

#define ALIGNED __attribute__((aligned(128)))
#define LOAD(from) (*(__private const VECTOR *)(from))
#define STORE(value, to) (*(__private VECTOR *)(to) = (value))
#define LOAD_INTEGERS(from) (*(__private const INTEGERS *)(from))

FUNCTION void clear(float *to, const int count)  // whole vectors
{
    for (int i = 0; i < count; i += LANES) STORE((VECTOR)(0.0f), to + i);
}

// ---- Elements in memory

FUNCTION VECTOR read_stored(GLOBAL const STORED *from)
{
#if STORED_IS_FLOAT
    return JOIN(vload, LANES)(0, from);
#elif STORED_IS_HALF
    return JOIN(vload_half, LANES)(0, (GLOBAL const half *)from);
#else  // bfloat16: the upper half of a float
    return AS_FLOATS(JOIN(convert_int, LANES)(JOIN(vload, LANES)(0, from)) << 16);
#endif
}

FUNCTION void write_stored(const VECTOR value, GLOBAL STORED *to)
{
#if STORED_IS_FLOAT
    JOIN(vstore, LANES)(value, 0, to);
#elif STORED_IS_HALF
    JOIN(JOIN(vstore_half, LANES), _rte)(value, 0, (GLOBAL half *)to);
#else
    float lanes[LANES];
    JOIN(vstore, LANES)(value, 0, lanes);
    for (int l = 0; l < LANES; ++l) to[l] = FLOAT_TO_STORED(lanes[l]);
#endif
}

FUNCTION VECTOR read_kv(GLOBAL const STORED_KV *from)
{
#if KV_IS_FLOAT
    return JOIN(vload, LANES)(0, from);
#elif KV_IS_HALF
    return JOIN(vload_half, LANES)(0, (GLOBAL const half *)from);
#elif KV_IS_BFLOAT16
    return AS_FLOATS(JOIN(convert_int, LANES)(JOIN(vload, LANES)(0, from)) << 16);
#else  // float8: as float16, of which e5m2 is the upper half; see opencl_formats.h
    const INTEGERS bits = JOIN(convert_int, LANES)(JOIN(vload, LANES)(0, from));
    const INTEGERS halves = KV_IS_E5M2 ? bits << 8 : (bits & 0x80) << 8 | (bits & 0x7F) << 7;
    ushort lanes[LANES] ALIGNED;
    JOIN(vstore, LANES)(JOIN(convert_ushort, LANES)(halves), 0, lanes);
    const VECTOR value = JOIN(vload_half, LANES)(0, (const __private half *)lanes);
    if (KV_IS_E5M2) return value;
    return select(value * 256.0f, (VECTOR)(NAN), (bits & 0x7F) == 0x7F);
#endif
}

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

// ---- Rows that share a head of K and V: row r is of query r / HEADS_PER_KV_HEAD of the sequence,
// the heads of a query side by side; behind the last row it is again that

#define QUERY_OF(row) (MIN_OF(row, row_count - 1) / HEADS_PER_KV_HEAD)
#define HEAD_OF(row) \
    (kv_head * HEADS_PER_KV_HEAD + MIN_OF(row, row_count - 1) % HEADS_PER_KV_HEAD)

// ---- Exponentials

// 2^x within 2^-22 of itself for x <= 127; below 2^-126 it stays there, not 0. The nearest integer
// comes from adding a number so large that no fraction has room beside it, and becomes the
// exponent; the polynomial is a minimax one over half a unit on either side.
FUNCTION VECTOR power_of_2(VECTOR x)
{
    const VECTOR large = (VECTOR)(12582912.0f);  // 1.5 * 2^23
    x = max(x, (VECTOR)(-126.0f));
    const VECTOR shifted = x + large;
    const VECTOR rest = x - (shifted - large);
    VECTOR sum = fma(rest, (VECTOR)(0.0013264725f), (VECTOR)(0.00967151206f));
    sum = fma(sum, rest, (VECTOR)(0.0555073358f));
    sum = fma(sum, rest, (VECTOR)(0.240222424f));
    sum = fma(sum, rest, (VECTOR)(0.693147004f));
    sum = fma(sum, rest, (VECTOR)(1.0f));
    return AS_FLOATS(AS_INTEGERS(sum) + (AS_INTEGERS(shifted) << 23));
}

// As accurate_tanh of sequence.h.
FUNCTION VECTOR vector_tanh(const VECTOR x)
{
    const VECTOR size = min(fabs(x), (VECTOR)(40.0f)), square = x * x;
    const VECTOR far = 1.0f - 2.0f / (1.0f + power_of_2(2.0f * LOG2_E * size));
    VECTOR sum = fma((VECTOR)(0.0156126330f), square, (VECTOR)(-0.0522118067f));
    sum = fma(sum, square, (VECTOR)(0.133131161f));
    sum = fma(sum, square, (VECTOR)(-0.333325982f));
    return select(copysign(far, x), fma(sum * square, x, x), size < 0.6f);
}

#endif

// out = softmax(Q K^T) V of few queries on a CPU: every byte of K and V is read once, in order.
//
// A work-item computes all ROWS rows that share a head of K and V, the queries of its heads, over
// one of SPLITS parts of the keys; with more than one part the kernel of combine.h merges them.
// With so few rows there are not enough for the lanes of vectors, so that these lie along head_dim
// and v_dim: a score is the sum of the lanes of products, which come LANES keys at a time and are
// added across by a tree. Exponents refer to a score that is raised seldom, as in cpu.cl.
//
//   attention:  groups (BATCH x KV_HEADS x SPLITS, 1, 1) of one work-item

#ifndef KERNEL
#include "../dialects/opencl.h"
#include "sequence.h"
#include "cpu_vectors.h"
#include "combine.h"
#endif

// ---- The schedule

#ifndef TILE_ROWS
#define TILE_ROWS 1  // rows of the register tiles
#endif
#ifndef TILE_KEYS
#define TILE_KEYS 4  // keys of the register tile of products: a divisor of LANES
#endif
#ifndef TILE_VECTORS
#define TILE_VECTORS 4  // vectors of v_dim of the register tile of sums
#endif
#ifndef BLOCK_KEYS
#define BLOCK_KEYS 64  // keys whose weights are kept: a multiple of LANES
#endif
#ifndef FETCH_ROWS
#define FETCH_ROWS 0  // 1: fetch rows of K and V into the second-level cache ahead of their use
#endif
#ifndef SPLITS
#define SPLITS 2  // parts that the keys of a sequence are cut into
#endif

// ---- What follows from these

#define SLACK 16.0f
// Rows behind the last are the last one again.
#define ALL_ROWS ROUND_UP(Q_LEN * HEADS_PER_KV_HEAD, TILE_ROWS)
#define K_VECTORS CEIL_DIV(HEAD_DIM, LANES)
#define V_VECTORS CEIL_DIV(V_DIM, LANES)
#define TAIL_VECTORS (V_VECTORS % TILE_VECTORS)
// Where the last vector of a row would reach beyond it, it begins earlier.
#define PLACE(vector, dim) MIN_OF((vector) * LANES, (dim) - LANES)

#ifndef FETCH     // a cache line; simulators know OpenCL's prefetch() only
#ifdef __clang__  // but that does nothing in some runtimes; OpenCL 1.2 has no generic pointers
#define FETCH(from) __builtin_prefetch((const void *)(size_t)(from), 0, 2)
#else
#define FETCH(from) prefetch(from, 1)
#endif
#endif

FUNCTION void fetch_row(GLOBAL const STORED_KV *from, const int count)
{
#pragma unroll
    for (int x = 0; x < count; x += 64 / STORED_KV_BYTES) FETCH(from + x);
}

// ---- Products of queries and keys

// Lane i of the result is the sum of all lanes of parts[i].
FUNCTION VECTOR sums_of_lanes(VECTOR *parts)
{
#pragma unroll
    for (int count = LANES / 2; count; count /= 2) {
#pragma unroll
        for (int i = 0; i < count; ++i) {
            VECTOR even, odd;
            even.lo = parts[2 * i].even, even.hi = parts[2 * i + 1].even;
            odd.lo = parts[2 * i].odd, odd.hi = parts[2 * i + 1].odd;
            parts[i] = even + odd;
        }
    }
    return parts[0];
}

// Products of TILE_ROWS rows of `q` and the TILE_KEYS keys that begin at `k`, the lanes not added
// yet, to `parts`: LANES keys a row.
FUNCTION void multiply(GLOBAL const STORED_KV *k, const OFFSET *at, const float *q, float *parts)
{
    VECTOR sums[TILE_ROWS][TILE_KEYS];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) sums[r][i] = (VECTOR)(0.0f);
#pragma unroll 8
    for (int v = 0; v < K_VECTORS; ++v) {
        VECTOR from_k[TILE_KEYS];
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) from_k[i] = read_kv(k + at[i] + PLACE(v, HEAD_DIM));
#pragma unroll
        for (int r = 0; r < TILE_ROWS; ++r) {
            const VECTOR from_q = LOAD(q + (r * K_VECTORS + v) * LANES);
#pragma unroll
            for (int i = 0; i < TILE_KEYS; ++i) sums[r][i] = fma(from_q, from_k[i], sums[r][i]);
        }
    }
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) STORE(sums[r][i], parts + (r * LANES + i) * LANES);
}

// What score() of sequence.h does, for the LANES keys from `key` on of one query.
FUNCTION VECTOR score_of_keys(VECTOR x, const Bias bias, const Sequence s, const int query,
                              const int key, const int last)
{
#if HAS_SOFTCAP
    x = SOFTCAP * LOG2_E * vector_tanh(x);
#endif
#if ALIBI || BIAS
    float lanes[LANES] ALIGNED;
    for (int l = 0; l < LANES; ++l) lanes[l] = bias_at(bias, s, query, MIN_OF(key + l, last));
    x += LOAD(lanes);
#endif
    return x;
}

// ---- Weights

typedef struct {
    float shift;  // minus what exponents refer to
    float limit;  // the score that raises it: any score, before the first
    int first, end;  // of the keys that it sees
} Row;

FUNCTION float largest_lane(const VECTOR x)
{
    float lanes[LANES] ALIGNED, largest = MINUS_INFINITY;
    STORE(x, lanes);
    for (int l = 0; l < LANES; ++l) largest = MAX_OF(largest, lanes[l]);
    return largest;
}

// Scores of `count` keys from `key` on become weights.
FUNCTION void weigh(float *scores, Row *row, float *sums, float *total, const int key,
                    const int count)
{
    const int is_masked = key < row->first || key + ROUND_UP(count, LANES) > row->end;
    VECTOR peak = (VECTOR)(MINUS_INFINITY);
    for (int j = 0; j < count; j += LANES) {
        VECTOR x = LOAD(scores + j);
        if (is_masked) {
            for (int l = 0; l < LANES; ++l)
                if (key + j + l < row->first || key + j + l >= row->end)
                    scores[j + l] = MINUS_INFINITY;
            x = LOAD(scores + j);
        }
        peak = max(peak, x);
    }
    if (any(peak > row->limit)) {
        const float largest = largest_lane(peak);
        const VECTOR factor = power_of_2((VECTOR)(-row->shift - largest));
        if (row->limit > -FLT_MAX) {
            STORE(LOAD(total) * factor, total);
            for (int v = 0; v < V_VECTORS; ++v)
                STORE(LOAD(sums + v * LANES) * factor, sums + v * LANES);
        }
        row->shift = -largest;
        row->limit = largest + SLACK;
    }
    VECTOR own = LOAD(total);
    for (int j = 0; j < count; j += LANES) {
        const VECTOR x = LOAD(scores + j);
        VECTOR weight = power_of_2(x + row->shift);
        if (is_masked || BIAS) weight = select(weight, (VECTOR)(0.0f), x == MINUS_INFINITY);
        own += weight;
        STORE(weight, scores + j);
    }
    STORE(own, total);
}

// ---- Sums of V

// `vectors` vectors of V, from the one at `first` on, for TILE_ROWS rows; a constant.
FUNCTION void add_values(GLOBAL const STORED_KV *value, const OFFSET *at, const float *weights,
                         float *to, const int count, const int first, const int vectors)
{
    VECTOR sums[TILE_ROWS][TILE_VECTORS];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
        for (int v = 0; v < vectors; ++v)
            sums[r][v] = LOAD(to + (r * V_VECTORS + first + v) * LANES);
    for (int j = 0; j < count; ++j) {
        VECTOR from_v[TILE_VECTORS];
#pragma unroll
        for (int v = 0; v < vectors; ++v)
            from_v[v] = read_kv(value + at[j] + PLACE(first + v, V_DIM));
#pragma unroll
        for (int r = 0; r < TILE_ROWS; ++r) {
            const VECTOR weight = (VECTOR)(weights[r * BLOCK_KEYS + j]);
#pragma unroll
            for (int v = 0; v < vectors; ++v) sums[r][v] = fma(weight, from_v[v], sums[r][v]);
        }
    }
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
        for (int v = 0; v < vectors; ++v)
            STORE(sums[r][v], to + (r * V_VECTORS + first + v) * LANES);
}

// ---- A row of Q

// A vector that begins earlier has zeros for what the one before it holds.
FUNCTION void load_row(GLOBAL const STORED *q, float *to, const float factor)
{
    for (int v = 0; v < K_VECTORS; ++v) {
        STORE(read_stored(q + PLACE(v, HEAD_DIM)) * factor, to + v * LANES);
        for (int l = 0; l < v * LANES - PLACE(v, HEAD_DIM); ++l) to[v * LANES + l] = 0.0f;
    }
}

FUNCTION float sum_of_lanes(const float *from)
{
    float sum = 0.0f;
    for (int l = 0; l < LANES; ++l) sum += from[l];
    return sum;
}

// ---- A work-item

#if SPLITS > 1
#define RESULTS , GLOBAL float *RESTRICT partial_out, GLOBAL float *RESTRICT partial_sums
#else
#define RESULTS , GLOBAL STORED *RESTRICT out LSE_PARAMETER
#endif

KERNEL GROUP_SIZE(1, 1, 1)
void attention(GLOBAL const STORED *RESTRICT q, GLOBAL const STORED_KV *RESTRICT k,
               GLOBAL const STORED_KV *RESTRICT v INPUT_PARAMETERS RESULTS)
{
    const int each = GROUP_ID(0) / SPLITS, split = GROUP_ID(0) % SPLITS;
    const int kv_head = each % KV_HEADS;
    const Sequence s = SEQUENCE(each / KV_HEADS);
    const int row_count = s.queries * HEADS_PER_KV_HEAD;
    if (row_count == 0) return;

    float queries[ALL_ROWS * K_VECTORS * LANES] ALIGNED;
    float sums[ALL_ROWS * V_VECTORS * LANES] ALIGNED;
    float totals[ALL_ROWS * LANES] ALIGNED;
    float weights[ALL_ROWS * BLOCK_KEYS] ALIGNED;  // and scores before
    float products[TILE_ROWS * LANES * LANES] ALIGNED;
    Row rows[ALL_ROWS];
    Bias biases[ALL_ROWS];
    OFFSET k_at[BLOCK_KEYS], v_at[BLOCK_KEYS];
    for (int r = 0; r < ALL_ROWS; ++r) {
        const int query = QUERY_OF(r), head = HEAD_OF(r);
        load_row(q + q_offset(s, head, query), queries + r * K_VECTORS * LANES, SCORE_FACTOR);
        rows[r].shift = 0.0f, rows[r].limit = -FLT_MAX;
        rows[r].first = first_key(s, query), rows[r].end = end_key(s, query);
        biases[r] = BIAS_OF(s, head);
    }
    clear(sums, ALL_ROWS * V_VECTORS * LANES);
    clear(totals, ALL_ROWS * LANES);

    const int all_from = rows[0].first, all_to = rows[ALL_ROWS - 1].end;
    const int share = ROUND_UP(CEIL_DIV(MAX_OF(all_to - all_from, 0), SPLITS), LANES);
    const int from = all_from + split * share, to = MIN_OF(from + share, all_to);
    for (int key = from; key < to; key += BLOCK_KEYS) {
        const int count = MIN_OF(BLOCK_KEYS, to - key);
        for (int j = 0; j < ROUND_UP(count, LANES); ++j) {
            const int own = key + MIN_OF(j, count - 1);
            k_at[j] = k_offset(s, kv_head, own), v_at[j] = v_offset(s, kv_head, own);
        }
        for (int j = 0; j < count; j += LANES)
            for (int tile = 0; tile < ALL_ROWS; tile += TILE_ROWS) {
                for (int i = 0; i < LANES; i += TILE_KEYS) {
                    for (int f = j + i; FETCH_ROWS && tile == 0 && f < j + i + TILE_KEYS; ++f) {
                        const int next = MIN_OF(key + f + LANES, to - 1);
                        fetch_row(k + k_offset(s, kv_head, next), HEAD_DIM);
                        fetch_row(v + v_at[f], V_DIM);
                    }
                    multiply(k, k_at + j + i, queries + tile * K_VECTORS * LANES,
                             products + i * LANES);
                }
                for (int r = 0; r < TILE_ROWS; ++r) {
                    const int row = tile + r;
                    VECTOR parts_of_row[LANES];
#pragma unroll
                    for (int i = 0; i < LANES; ++i)
                        parts_of_row[i] = LOAD(products + (r * LANES + i) * LANES);
                    STORE(score_of_keys(sums_of_lanes(parts_of_row), biases[row], s,
                                        QUERY_OF(row), key + j, to - 1),
                          weights + row * BLOCK_KEYS + j);
                }
            }
        for (int r = 0; r < ALL_ROWS; ++r)
            weigh(weights + r * BLOCK_KEYS, rows + r, sums + r * V_VECTORS * LANES,
                  totals + r * LANES, key, count);
        for (int tile = 0; tile < ALL_ROWS; tile += TILE_ROWS) {
            float *own = sums + tile * V_VECTORS * LANES;
            int first = 0;
            for (; first + TILE_VECTORS <= V_VECTORS; first += TILE_VECTORS)
                add_values(v, v_at, weights + tile * BLOCK_KEYS, own, count, first, TILE_VECTORS);
#if TAIL_VECTORS
            add_values(v, v_at, weights + tile * BLOCK_KEYS, own, count, first, TAIL_VECTORS);
#endif
        }
    }

    for (int r = 0; r < row_count; ++r) {
        const float total = sum_of_lanes(totals + r * LANES);
        const float *own = sums + r * V_VECTORS * LANES;
#if SPLITS > 1
        const size_t place = partial_offset(lse_offset(s, HEAD_OF(r), QUERY_OF(r)), split);
        partial_sums[place * 2] = -rows[r].shift, partial_sums[place * 2 + 1] = total;
        for (int x = 0; x < V_VECTORS; ++x)
            JOIN(vstore, LANES)(LOAD(own + x * LANES), 0,
                                partial_out + place * V_DIM + PLACE(x, V_DIM));
#else
        const float scale = total > 0.0f ? VALUE_FACTOR / total : 0.0f;
        GLOBAL STORED *row = out + out_offset(s, HEAD_OF(r), QUERY_OF(r));
        for (int x = 0; x < V_VECTORS; ++x)
            write_stored(LOAD(own + x * LANES) * scale, row + PLACE(x, V_DIM));
#if LSE
        lse[lse_offset(s, HEAD_OF(r), QUERY_OF(r))] = natural_lse(-rows[r].shift, total);
#endif
#endif
    }
}
