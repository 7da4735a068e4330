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
