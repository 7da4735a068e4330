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
