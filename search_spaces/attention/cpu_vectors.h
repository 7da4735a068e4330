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
