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
