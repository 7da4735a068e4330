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
