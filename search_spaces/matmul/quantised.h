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
