// The operands of a step beside a quantised B: 32 of k, for two products, B still as integers.
//
// A sum may be taken in any order, so a step's k are dealt out to suit the loads: lane l multiplies
// elements 8 (l % 4) to 8 (l % 4) + 7, pair x of them (k = 8 (l % 4) + 2 x and the next) as half
// x % 2 of product x / 2. Those of A are a vector, those of B one word of int4 or two of int8, and
// have one scale. Where k is not the fast axis, lines of a tile lie such that pair x of all four
// is eight neighbouring lines (`in_turn`), which a transposing load takes.
//
// The operands are swapped: 16 columns of B are the rows of the instruction, 8 rows of A its
// columns. Of its rows it wants two, with two pairs of each, in four registers side by side, where
// restored numbers can be made; a vector of A has four pairs of one row, right for two columns.

#ifndef MMA_SYNC_QUANTISED_H
#define MMA_SYNC_QUANTISED_H

#define COLUMN_WORDS (B_BITS / 4)  // of eight elements of B

struct Operands {
    unsigned a[FRAGMENTS_M][2][4];  // 8 rows, then 8 more: for the first product, for the second
    unsigned b[FRAGMENTS_N][2 * COLUMN_WORDS];
    Quantum quanta[FRAGMENTS_N][2];

    // Of `step` of the tile in a stage that begins at `tile_k`, `before` being those of the step
    // before; `row`, `column`: of the warp.
    FUNCTION void load(const unsigned char *stage, int row, int column, int step, int tile_k,
                       const Operands &before)
    {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) load_a(a[i], stage, row + i * 16, step);
        const unsigned char *tile = stage + A_TILE_BYTES;
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; j++) load_b(b[j], tile, column + j * 16, step);
        if (QUANTUM_LINES > 1 || step == 0)
            load_quanta(tile + B_TILE_BYTES, column, step, tile_k);
        else
            keep_quanta(before);
    }

    static FUNCTION void load_a(unsigned (&r)[2][4], const unsigned char *tile, int row, int step)
    {
        const int lane = LOCAL_ID(0) % 32;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (A_ALONG_K) {  // 8 rows further in the second half
                const int lane_offset = TileA::offset(lane / 4, step * STEP_K + lane % 4 * 8);
                const unsigned char *rows = tile + (row + half * 8) * TileA::PITCH;
                const uint4 v = *(const uint4 *)(rows + lane_offset);
                r[half][0] = v.x, r[half][1] = v.y, r[half][2] = v.z, r[half][3] = v.w;
            } else {  // the second product
                unsigned words[4];
                load_across_k2<TileA, 1>(words, tile, row, 2 * step + half);
#pragma unroll
                for (int i = 0; i < 4; i++) r[i / 2][2 * half + i % 2] = words[i];
            }
        }
    }

    // Words of a column, then of that 8 further; across k, pair x of columns 2 (l / 4) and on.
    static FUNCTION void load_b(unsigned (&r)[2 * COLUMN_WORDS], const unsigned char *tile,
                                int column, int step)
    {
        const int lane = LOCAL_ID(0) % 32;
#if B_ALONG_K
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int byte = (step * STEP_K + lane % 4 * 8) / B_PACKED;
            const unsigned char *columns = tile + (column + half * 8) * TileB::PITCH;
            const unsigned char *from = columns + TileB::offset(lane / 4, byte);
#if B_BITS == 4
            r[half] = *(const unsigned *)from;
#else
            const uint2 v = *(const uint2 *)from;
            r[2 * half] = v.x, r[2 * half + 1] = v.y;
#endif
        }
#else
        load_transposed(r, shared_address(tile + TileB::offset(step * STEP_K + lane, column)));
#endif
    }

    FUNCTION void load_quanta(const unsigned char *tile, int column, int step, int tile_k)
    {
        const int lane = LOCAL_ID(0) % 32, k = step * STEP_K + lane % 4 * 8;
        const int line = QUANTUM_LINES == 1              ? 0
                         : BLOCK_K % GROUP_SIZE_K == 0 ? k / GROUP_SIZE_K
                                                       : (tile_k % GROUP_SIZE_K + k) / GROUP_SIZE_K;
        const unsigned char *own = tile + lane / 4 * (B_INTERLEAVED ? 4 : 2);
#pragma unroll
        for (int at = 0; at < 2 * FRAGMENTS_N; at++) {
            const int within = at / 2 * 16 + at % 2 * (B_INTERLEAVED ? 1 : 8);
            const unsigned char *from = own + (line * BLOCK_N + column + within) * 2;
            const ushort zero = ZERO_POINT ? *(const ushort *)(from + QUANTUM_BYTES) : (ushort)0;
            quanta[at / 2][at % 2] = quantum_of(*(const ushort *)from, zero);
        }
    }

    FUNCTION void keep_quanta(const Operands &before)
    {
#pragma unroll
        for (int at = 0; at < 2 * FRAGMENTS_N; at++)
            quanta[at / 2][at % 2] = before.quanta[at / 2][at % 2];
    }

    // Pair x of half `half` of the columns of fragment j, as numbers.
    FUNCTION unsigned pair(int j, int half, int x) const
    {
        const Quantum quantum = quanta[j][half];
#if B_BITS == 4
        return restored_nibbles(b[j][half], x, quantum);
#elif B_ALONG_K
        return restored_bytes(b[j][2 * half + x / 2], x % 2 * 2, x % 2 * 2 + 1, quantum);
#else
        return restored_bytes(b[j][x], half, half + 2, quantum);
#endif
    }

    // sums += a b
    FUNCTION void multiply_into(SUM (&sums)[FRAGMENTS_M][2 * FRAGMENTS_N][SUM_WORDS]) const
    {
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; j++) {
#pragma unroll
            for (int product = 0; product < 2; product++) {
                unsigned columns[4];
#pragma unroll
                for (int i = 0; i < 4; i++) columns[i] = pair(j, i % 2, product * 2 + i / 2);
#pragma unroll
                for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
                    for (int half = 0; half < 2; half++)
                        multiply(sums[i][j * 2 + half], columns, a[i][half] + 2 * product);
                }
            }
        }
    }
};

// Row and column of C, within a warp's, of sum i of half `half` of a fragment.
FUNCTION int row_of(int fragment, int half, int i)
{
    return fragment * 16 + half * 8 + sum_column(LOCAL_ID(0) % 32, i % 4);
}

FUNCTION int column_of(int fragment, int, int i)
{
    const int column = sum_row(LOCAL_ID(0) % 32, i % 4);
    return fragment * 16 + (B_INTERLEAVED ? column % 8 * 2 + column / 8 : column);
}

#define NEIGHBOURS 1  // sums of a lane in turn that are neighbours in a row

#endif
