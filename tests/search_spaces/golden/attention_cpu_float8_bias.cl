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

// Conversions of bfloat16 and float8, kept as their bits, in OpenCL C 1.2 after opencl.h. To
// bfloat16 rounds once, to nearest, ties to even.
#ifndef OPENCL_FORMATS
#define OPENCL_FORMATS

FUNCTION float bfloat16_to_float(ushort bits) { return as_float((uint)bits << 16); }
FUNCTION ushort float_to_bfloat16(float value)
{
    const uint bits = as_uint(value);
    return isnan(value) ? 0x7FFF : (ushort)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// The upper half of a float16.
FUNCTION float float8_e5m2_to_float(uchar bits) { return half_to_float((ushort)(bits << 8)); }

// In the fields of a float16 it is 2^8, the difference of the biases, smaller.
FUNCTION float float8_e4m3_to_float(uchar bits)
{
    const ushort fields = (ushort)((bits & 0x80) << 8 | (bits & 0x7F) << 7);
    return (bits & 0x7F) == 0x7F ? NAN : half_to_float(fields) * 256.0f;
}

#endif

#define BATCH 1
#define HEADS 2
#define KV_HEADS 2
#define Q_LEN 35
#define KV_LEN 35
#define HEAD_DIM 72
#define V_DIM 72
#define TOTAL_Q 35
#define SCALE 0.11785113019775793f
#define CAUSAL 0
#define WINDOW 0
#define SOFTCAP 0.0f
#define HAS_SOFTCAP 0
#define ALIBI 0
#define BIAS 1
#define PACKED 0
#define PACKED_KV 0
#define KV_LENGTHS 0
#define LSE 0
#define SCALED_KV 1
#define PAGE_SIZE 0
#define PAGES_PER_SEQUENCE 0
#define K_PAGE_STRIDE 0
#define V_PAGE_STRIDE 0
#define Q_BATCH_STRIDE 5040
#define Q_HEAD_STRIDE 2520
#define Q_ROW_STRIDE 72
#define OUT_BATCH_STRIDE 5040
#define OUT_HEAD_STRIDE 2520
#define OUT_ROW_STRIDE 72
#define K_BATCH_STRIDE 5040
#define K_HEAD_STRIDE 2520
#define K_ROW_STRIDE 72
#define V_BATCH_STRIDE 5040
#define V_HEAD_STRIDE 2520
#define V_ROW_STRIDE 72
#define OFFSET int
#define STORED ushort
#define STORED_KV uchar
#define STORED_BYTES 2
#define STORED_KV_BYTES 1
#define STORED_TO_FLOAT(x) bfloat16_to_float(x)
#define FLOAT_TO_STORED(x) float_to_bfloat16(x)
#define KV_TO_FLOAT(x) float8_e4m3_to_float(x)
#define INPUT_PARAMETERS , GLOBAL const ushort *RESTRICT bias, float k_scale, float v_scale
#define INPUT_ARGUMENTS , bias, k_scale, v_scale
#define LSE_PARAMETER
#define LSE_ARGUMENT

#define STORED_IS_FLOAT 0
#define STORED_IS_HALF 0
#define KV_IS_FLOAT 0
#define KV_IS_HALF 0
#define KV_IS_BFLOAT16 0
#define KV_IS_E5M2 0
#define BLOCK_KEYS 32
#define COPY_K 1
#define COPY_V 1
#define HEADS_FIRST 0
#define LANES 16
#define PANELS 3
#define SPLITS 1
#define TILE_DIMS 8
#define TILE_KEYS 8
#define TILE_VECTORS 1
#define UNROLL 4

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

// Rows of attention between memory and the private arrays of cpu.cl: panels hold TILE_ROWS rows
// transposed, so that neighbours are of different rows. Stands after cpu_vectors.h.

#ifndef CPU_PANELS_H
#define CPU_PANELS_H

#ifndef TILE_VECTORS
#define TILE_VECTORS 2  // vectors of rows in a panel, and in the register tiles
#endif
#ifndef SPLITS
#define SPLITS 1  // parts that the keys of a block of rows are cut into
#endif
#define TILE_ROWS (TILE_VECTORS * LANES)

// Where results go: to the output, or, of a part of the keys, to what combine.h merges.
#if SPLITS > 1
#define RESULT_PARAMETERS GLOBAL float *RESTRICT partial_out, GLOBAL float *RESTRICT partial_sums
#define RESULT partial_out
#define RESULT_TYPE float
#define RESULT_OFFSET(head, query) (partial_offset(lse_offset(s, head, query), part) * V_DIM)
#define TO_RESULT(value) (value)
#define WRITE_VECTOR(value, to) JOIN(vstore, LANES)(value, 0, to)
#else
#define RESULT_PARAMETERS GLOBAL STORED *RESTRICT out LSE_PARAMETER
#define RESULT out
#define RESULT_TYPE STORED
#define RESULT_OFFSET(head, query) out_offset(s, head, query)
#define TO_RESULT(value) FLOAT_TO_STORED(value)
#define WRITE_VECTOR(value, to) write_stored(value, to)
#endif

// TILE_ROWS rows of Q, from `row` on, times `factor`.
FUNCTION void load_queries(GLOBAL const STORED *q, float *panel, const Sequence s,
                           const int kv_head, const int row_count, const int row,
                           const float factor)
{
    for (int l = 0; l < TILE_ROWS; l += LANES) {
        OFFSET at[LANES];
        for (int i = 0; i < LANES; ++i)
            at[i] = q_offset(s, HEAD_OF(row + l + i), QUERY_OF(row + l + i));
        int d = 0;
        for (; d + LANES <= HEAD_DIM; d += LANES) {
            VECTOR square[LANES];
#pragma unroll
            for (int i = 0; i < LANES; ++i) square[i] = read_stored(q + at[i] + d) * factor;
            transpose(square);
#pragma unroll
            for (int i = 0; i < LANES; ++i) STORE(square[i], panel + (d + i) * TILE_ROWS + l);
        }
        for (; d < HEAD_DIM; ++d)
            for (int i = 0; i < LANES; ++i)
                panel[d * TILE_ROWS + l + i] = STORED_TO_FLOAT(q[at[i] + d]) * factor;
    }
}

// Those that exist of TILE_ROWS rows of the output: sums / totals * factor, 0 where no key is seen;
// of a part of the keys the sums themselves.
FUNCTION void store_sums(GLOBAL RESULT_TYPE *to, const float *sums, const float *totals,
                         const Sequence s, const int kv_head, const int row_count, const int row,
                         const int part, const float factor)
{
    for (int l = 0; l < TILE_ROWS && row + l < row_count; l += LANES) {
        const int count = MIN_OF(LANES, row_count - row - l);
        const VECTOR total = LOAD(totals + l);
        VECTOR scale = select(factor / total, (VECTOR)(0.0f), total == 0.0f);
        if (SPLITS > 1) scale = (VECTOR)(1.0f);
        size_t at[LANES];
        for (int i = 0; i < LANES; ++i)
            at[i] = RESULT_OFFSET(HEAD_OF(row + l + i), QUERY_OF(row + l + i));
        int d = 0;
        for (; d + LANES <= V_DIM; d += LANES) {
            VECTOR square[LANES];
#pragma unroll
            for (int i = 0; i < LANES; ++i)
                square[i] = LOAD(sums + (d + i) * TILE_ROWS + l) * scale;
            transpose(square);
#pragma unroll
            for (int i = 0; i < LANES; ++i)
                if (i < count) WRITE_VECTOR(square[i], to + at[i] + d);
        }
        for (; d < V_DIM; ++d) {
            float lanes[LANES] ALIGNED;
            STORE(LOAD(sums + d * TILE_ROWS + l) * scale, lanes);
            for (int i = 0; i < count; ++i) to[at[i] + d] = TO_RESULT(lanes[i]);
        }
    }
}

// A row of K or V, as floats.
FUNCTION void copy_row(GLOBAL const STORED_KV *from, float *to, const int count)
{
    int d = 0;
    for (; d + LANES <= count; d += LANES) STORE(read_kv(from + d), to + d);
    for (; d < count; ++d) to[d] = KV_TO_FLOAT(from[d]);
}

#endif

// out = softmax(Q K^T) V on a CPU: explicit vectors along the queries, one work-item a group.
//
// A work-item computes BLOCK_ROWS rows: the queries of all heads that share a head of K and V, the
// heads of a query side by side. Its queries lie transposed in panels of TILE_VECTORS vectors, and
// stay in the first-level cache; so do its weights, keys x rows, and its sums, v_dim x rows. With
// the rows along the lanes of vectors
//   - scores are elements of K times vectors of Q, sums are elements of V times vectors of weights:
//     K and V are read as they lie in memory, an element at a time, spread over a vector;
//   - largest scores, exponentials and totals need no operation across the lanes of a vector.
// Tiles of TILE_KEYS keys, and of TILE_DIMS elements of V, by TILE_VECTORS vectors are kept in
// registers; a tile of scores becomes weights before it leaves them.
//
// The softmax is the online one of M. Milakov and N. Gimelshein (arXiv:1805.02867), but what
// exponents refer to is raised only where a score lies SLACK or more above it: in float32 a weight
// may as well be 2^SLACK as 1. FlashAttention-4 does the same.
//
//   attention:  groups (BATCH x KV_HEADS x BLOCKS x SPLITS, 1, 1) of one work-item
//   combine:    merges parts of the keys (combine.h), where SPLITS > 1

#ifndef KERNEL
#include "../dialects/opencl.h"
#include "sequence.h"
#include "cpu_vectors.h"
#include "cpu_panels.h"
#endif

// ---- The schedule

#ifndef TILE_KEYS
#define TILE_KEYS 12  // keys of the register tile of scores
#endif
#ifndef TILE_DIMS
#define TILE_DIMS 12  // elements of v_dim of the register tile of sums
#endif
#ifndef PANELS
#define PANELS 1  // panels of a work-item, which use a block of keys one after another
#endif
#ifndef BLOCK_KEYS
#define BLOCK_KEYS 96  // keys whose weights are kept: a multiple of TILE_KEYS
#endif
#ifndef UNROLL
#define UNROLL 2  // steps of head_dim unrolled
#endif
#ifndef COPY_K
#define COPY_K 0  // 1: copy a block of K before use, as floats; 0: read K where it is
#endif
#ifndef COPY_V
#define COPY_V 0  // 1: the same of V
#endif
#ifndef HEADS_FIRST
#define HEADS_FIRST 0  // 1: neighbouring groups are of different heads; 0: they share K and V
#endif

// ---- What follows from these

#define SLACK 16.0f
#define BLOCK_ROWS (PANELS * TILE_ROWS)
#define BLOCKS CEIL_DIV(Q_LEN * HEADS_PER_KV_HEAD, BLOCK_ROWS)
#define TAIL_DIMS (V_DIM % TILE_DIMS)

#if COPY_K  // no distance of a power of two between rows, which would share sets of a cache
#define K_SPACE __private
#define K_TYPE float
#define K_ROW (ROUND_UP(HEAD_DIM, LANES) + LANES)
#else
#define K_SPACE GLOBAL
#define K_TYPE STORED_KV
#define K_ROW K_ROW_STRIDE
#endif
#if COPY_V
#define V_SPACE __private
#define V_TYPE float
#define V_ROW (ROUND_UP(V_DIM, LANES) + LANES)
#else
#define V_SPACE GLOBAL
#define V_TYPE STORED_KV
#define V_ROW V_ROW_STRIDE
#endif

// What the rows of a panel have: an element each.
typedef struct {
    float shift[TILE_ROWS];  // minus what exponents refer to
    float limit[TILE_ROWS];  // a score that much above it raises it: any score, before the first
    float total[TILE_ROWS];  // of the weights
    int first[TILE_ROWS], end[TILE_ROWS];  // of the keys that it sees
#if ALIBI
    float slope[TILE_ROWS], position[TILE_ROWS];
#elif BIAS
    OFFSET bias_row[TILE_ROWS];  // where its bias begins
#endif
} Rows;

// ---- Scores and weights

#if BIAS
// The bias of `count` keys from `key` on for the rows of a panel, to where their weights will be.
FUNCTION void load_bias(GLOBAL const STORED *bias, float *weights, const Rows *rows,
                        const int key, const int count)
{
    for (int l = 0; l < TILE_ROWS; l += LANES) {
        const OFFSET *row = rows->bias_row + l;
        int j = 0;
        for (; j + LANES <= count; j += LANES) {
            VECTOR square[LANES];
#pragma unroll
            for (int i = 0; i < LANES; ++i) square[i] = read_stored(bias + row[i] + key + j);
            transpose(square);
#pragma unroll
            for (int i = 0; i < LANES; ++i)
                STORE(square[i] * LOG2_E, weights + (j + i) * TILE_ROWS + l);
        }
        for (; j < count; ++j)
            for (int i = 0; i < LANES; ++i)
                weights[j * TILE_ROWS + l + i] = STORED_TO_FLOAT(bias[row[i] + key + j]) * LOG2_E;
    }
}
#endif

// What score() of sequence.h does, for a vector of rows from `l` on, with their `bias`.
FUNCTION VECTOR score_of_rows(VECTOR x, const Rows *rows, const float *bias, const int l,
                              const int key)
{
#if HAS_SOFTCAP
    x = SOFTCAP * LOG2_E * vector_tanh(x);
#endif
#if ALIBI
    x -= LOAD(rows->slope + l) * fabs(LOAD(rows->position + l) - (float)key);
#elif BIAS
    x += LOAD(bias + l);
#endif
    return x + LOAD(rows->shift + l);
}

// The scores of some rows are far above what their exponents refer to: raise it to their `peak`,
// and make what was computed before fit, also the weights of `done` keys of this block.
FUNCTION void raise(VECTOR scores[TILE_KEYS][TILE_VECTORS], const VECTOR *peak, Rows *rows,
                    float *sums, float *weights, const int done)
{
#pragma unroll
    for (int v = 0; v < TILE_VECTORS; ++v) {
        const int l = v * LANES;
        const VECTOR limit = LOAD(rows->limit + l);
        const INTEGERS is_above = peak[v] > limit;
        const VECTOR by = select((VECTOR)(0.0f), peak[v], is_above);
        const VECTOR factor = select(power_of_2(-by), (VECTOR)(1.0f), limit < 0.0f);
        STORE(LOAD(rows->shift + l) - by, rows->shift + l);
        STORE(select(limit, (VECTOR)(SLACK), is_above), rows->limit + l);
        STORE(LOAD(rows->total + l) * factor, rows->total + l);
        for (int d = 0; d < V_DIM; ++d)
            STORE(LOAD(sums + d * TILE_ROWS + l) * factor, sums + d * TILE_ROWS + l);
        for (int j = 0; j < done; ++j)
            STORE(LOAD(weights + j * TILE_ROWS + l) * factor, weights + j * TILE_ROWS + l);
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) scores[i][v] -= by;
    }
}

// One step of head_dim: TILE_KEYS x TILE_VECTORS multiplications.
#define STEP(d)                                                                                \
    {                                                                                          \
        VECTOR from_q[TILE_VECTORS];                                                           \
        _Pragma("unroll") for (int v = 0; v < TILE_VECTORS; ++v)                               \
            from_q[v] = LOAD(q + (d) * TILE_ROWS + v * LANES);                                 \
        _Pragma("unroll") for (int i = 0; i < TILE_KEYS; ++i) {                                \
            const VECTOR from_k = (VECTOR)(k[at[i] + (d)]);                                    \
            _Pragma("unroll") for (int v = 0; v < TILE_VECTORS; ++v)                           \
                scores[i][v] = fma(from_k, from_q[v], scores[i][v]);                           \
        }                                                                                      \
    }

// The weights of keys [key, key + count) for the rows of a panel, in the place of their bias.
// `masked`: not every row sees all TILE_KEYS of them, or there are fewer. `done`: keys of the block
// before these.
FUNCTION void weigh(K_SPACE const K_TYPE *k, const float *q, float *weights, float *sums,
                    Rows *rows, const int key, const int count, const int done,
                    const int masked)
{
    VECTOR scores[TILE_KEYS][TILE_VECTORS];
#pragma unroll
    for (int i = 0; i < TILE_KEYS; ++i)
#pragma unroll
        for (int v = 0; v < TILE_VECTORS; ++v)
            scores[i][v] = SCORE_IS_LINEAR ? LOAD(rows->shift + v * LANES) : (VECTOR)(0.0f);
    int at[TILE_KEYS];  // rows of K; where there are fewer, the last one again
#pragma unroll
    for (int i = 0; i < TILE_KEYS; ++i) at[i] = (masked ? MIN_OF(i, count - 1) : i) * K_ROW;
    int d = 0;
    for (; d + UNROLL <= HEAD_DIM; d += UNROLL)
#pragma unroll
        for (int u = 0; u < UNROLL; ++u) STEP(d + u)
#if HEAD_DIM % UNROLL
    for (; d < HEAD_DIM; ++d) STEP(d)
#endif

    VECTOR peak[TILE_VECTORS];
    INTEGERS is_above = (INTEGERS)(0);
#pragma unroll
    for (int v = 0; v < TILE_VECTORS; ++v) {
        const int l = v * LANES;
        peak[v] = (VECTOR)(MINUS_INFINITY);
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) {
            const int j = masked ? MIN_OF(i, count - 1) : i;
            if (!SCORE_IS_LINEAR)
                scores[i][v] = score_of_rows(scores[i][v], rows, weights + (done + j) * TILE_ROWS,
                                             l, key + j);
            if (masked) {
                const INTEGERS is_seen = (key + i >= LOAD_INTEGERS(rows->first + l)) &
                                         (key + i < LOAD_INTEGERS(rows->end + l)) &
                                         (INTEGERS)(i < count ? -1 : 0);
                scores[i][v] = select((VECTOR)(MINUS_INFINITY), scores[i][v], is_seen);
            }
            peak[v] = max(peak[v], scores[i][v]);
        }
        is_above |= peak[v] > LOAD(rows->limit + l);
    }
    if (any(is_above)) raise(scores, peak, rows, sums, weights, done);
#pragma unroll
    for (int v = 0; v < TILE_VECTORS; ++v) {
        VECTOR total = LOAD(rows->total + v * LANES);
#pragma unroll
        for (int i = 0; i < TILE_KEYS; ++i) {
            VECTOR weight = power_of_2(scores[i][v]);
            if (masked || BIAS)  // a bias may be minus infinity, too
                weight = select(weight, (VECTOR)(0.0f), scores[i][v] == MINUS_INFINITY);
            total += weight;
            STORE(weight, weights + (done + i) * TILE_ROWS + v * LANES);
        }
        STORE(total, rows->total + v * LANES);
    }
}

// ---- Sums of V

// `dims` elements of V for the rows of a panel, over `count` keys; `dims` is a constant.
FUNCTION void add_values(V_SPACE const V_TYPE *value, const float *weights, float *to,
                         const int count, const int dims)
{
    VECTOR sums[TILE_DIMS][TILE_VECTORS];
#pragma unroll
    for (int i = 0; i < dims; ++i)
#pragma unroll
        for (int v = 0; v < TILE_VECTORS; ++v) sums[i][v] = LOAD(to + i * TILE_ROWS + v * LANES);
    for (int j = 0; j < count; ++j) {
        VECTOR weight[TILE_VECTORS];
#pragma unroll
        for (int v = 0; v < TILE_VECTORS; ++v)
            weight[v] = LOAD(weights + j * TILE_ROWS + v * LANES);
#pragma unroll
        for (int i = 0; i < dims; ++i) {
            const VECTOR from_v = (VECTOR)(value[i]);
#pragma unroll
            for (int v = 0; v < TILE_VECTORS; ++v)
                sums[i][v] = fma(from_v, weight[v], sums[i][v]);
        }
        value += V_ROW;
    }
#pragma unroll
    for (int i = 0; i < dims; ++i)
#pragma unroll
        for (int v = 0; v < TILE_VECTORS; ++v) STORE(sums[i][v], to + i * TILE_ROWS + v * LANES);
}

// ---- A work-item

#if ALIBI
#define BEGIN_BIAS(rows, l, query, head) \
    (rows).slope[l] = BIAS_OF(s, head).slope, (rows).position[l] = query_position(s, query)
#elif BIAS
#define BEGIN_BIAS(rows, l, query, head) \
    (rows).bias_row[l] = BIAS_OF(s, head).first - bias + (OFFSET)(query) * KV_LEN
#else
#define BEGIN_BIAS(rows, l, query, head)
#endif

// The rows of a panel from `row` on, before the first key; a macro for what BIAS_OF reads.
#define BEGIN_ROWS(rows, row)                                                            \
    for (int l = 0; l < TILE_ROWS; ++l) {                                                \
        const int query = QUERY_OF((row) + l);                                           \
        (rows).shift[l] = 0.0f, (rows).limit[l] = -FLT_MAX, (rows).total[l] = 0.0f;      \
        (rows).first[l] = first_key(s, query), (rows).end[l] = end_key(s, query);        \
        BEGIN_BIAS(rows, l, query, HEAD_OF((row) + l));                                  \
    }

KERNEL GROUP_SIZE(1, 1, 1)
void attention(GLOBAL const STORED *RESTRICT q, GLOBAL const STORED_KV *RESTRICT k,
               GLOBAL const STORED_KV *RESTRICT v INPUT_PARAMETERS, RESULT_PARAMETERS)
{
    const int group = GROUP_ID(0) / SPLITS, part = GROUP_ID(0) % SPLITS;
    const int each = HEADS_FIRST ? group % (BATCH * KV_HEADS) : group / BLOCKS;
    const int block = HEADS_FIRST ? group / (BATCH * KV_HEADS) : group % BLOCKS;
    const int kv_head = each % KV_HEADS;
    const Sequence s = SEQUENCE(each / KV_HEADS);
    const int row_count = s.queries * HEADS_PER_KV_HEAD;
    // Causal rows have the more work the later they are; what takes longest begins first.
    const int first_row = (CAUSAL ? BLOCKS - 1 - block : block) * BLOCK_ROWS;
    if (first_row >= row_count) return;
    const int panel_count = MIN_OF(PANELS, CEIL_DIV(row_count - first_row, TILE_ROWS));

    float panels[PANELS][HEAD_DIM * TILE_ROWS] ALIGNED;
    float sums[PANELS][V_DIM * TILE_ROWS] ALIGNED;
    float weights[BLOCK_KEYS * TILE_ROWS] ALIGNED;
    Rows rows[PANELS] ALIGNED;
#if COPY_K
    float k_block[BLOCK_KEYS * K_ROW] ALIGNED;
#endif
#if COPY_V
    float v_block[BLOCK_KEYS * V_ROW] ALIGNED;
#endif

    for (int panel = 0; panel < panel_count; ++panel) {
        const int row = first_row + panel * TILE_ROWS;
        load_queries(q, panels[panel], s, kv_head, row_count, row, SCORE_FACTOR);
        clear(sums[panel], V_DIM * TILE_ROWS);
        BEGIN_ROWS(rows[panel], row);
    }

    const int from = rows[0].first[0], to = rows[panel_count - 1].end[TILE_ROWS - 1];
    const int share = ROUND_UP(CEIL_DIV(MAX_OF(to - from, 0), SPLITS), TILE_KEYS);
    const int end = MIN_OF(from + (part + 1) * share, to);
    for (int key = from + part * share; key < end; key += BLOCK_KEYS) {
        const int block_end = MIN_OF(key + BLOCK_KEYS, end);
#if COPY_K
        for (int j = key; j < block_end; ++j)
            copy_row(k + k_offset(s, kv_head, j), k_block + (j - key) * K_ROW, HEAD_DIM);
        K_SPACE const K_TYPE *keys = k_block;
#else
        K_SPACE const K_TYPE *keys = k + k_offset(s, kv_head, key);
#endif
#if COPY_V
        for (int j = key; j < block_end; ++j)
            copy_row(v + v_offset(s, kv_head, j), v_block + (j - key) * V_ROW, V_DIM);
        V_SPACE const V_TYPE *values = v_block;
#else
        V_SPACE const V_TYPE *values = v + v_offset(s, kv_head, key);
#endif
        for (int panel = 0; panel < panel_count; ++panel) {
            Rows *own = rows + panel;
            float *to_sums = sums[panel];
            // Any row sees keys of [any_from, any_to), every one all those of [all_from, all_to).
            const int any_from = MAX_OF(key, own->first[0]);
            const int any_to = MIN_OF(block_end, own->end[TILE_ROWS - 1]);
            const int all_from = own->first[TILE_ROWS - 1], all_to = MIN_OF(any_to, own->end[0]);
            const int count = any_to - any_from;
#if BIAS
            load_bias(bias, weights, own, any_from, count);
#endif
            for (int j = any_from; j < any_to; j += TILE_KEYS) {
                K_SPACE const K_TYPE *tile = keys + (OFFSET)(j - key) * K_ROW;
                const int done = j - any_from, left = MIN_OF(TILE_KEYS, any_to - j);
                if (j >= all_from && j + TILE_KEYS <= all_to)
                    weigh(tile, panels[panel], weights, to_sums, own, j, TILE_KEYS, done, 0);
                else
                    weigh(tile, panels[panel], weights, to_sums, own, j, left, done, 1);
            }
            V_SPACE const V_TYPE *first = values + (OFFSET)(any_from - key) * V_ROW;
            int d = 0;
            for (; d + TILE_DIMS <= V_DIM; d += TILE_DIMS)
                add_values(first + d, weights, to_sums + d * TILE_ROWS, count, TILE_DIMS);
#if TAIL_DIMS
            add_values(first + d, weights, to_sums + d * TILE_ROWS, count, TAIL_DIMS);
#endif
        }
    }

    for (int panel = 0; panel < panel_count; ++panel) {
        const int row = first_row + panel * TILE_ROWS;
        store_sums(RESULT, sums[panel], rows[panel].total, s, kv_head, row_count, row, part,
                   VALUE_FACTOR);
#if SPLITS > 1 || LSE
        for (int l = 0; l < TILE_ROWS && row + l < row_count; ++l) {
            const OFFSET number = lse_offset(s, HEAD_OF(row + l), QUERY_OF(row + l));
            const float largest = -rows[panel].shift[l], total = rows[panel].total[l];
#if SPLITS > 1
            partial_sums[partial_offset(number, part) * 2] = largest;
            partial_sums[partial_offset(number, part) * 2 + 1] = total;
#else
            lse[number] = natural_lse(largest, total);
#endif
        }
#endif
    }
}
