// The operands of a product, where B has the type of A: 32 bytes of k.

#ifndef MMA_SYNC_PLAIN_H
#define MMA_SYNC_PLAIN_H

// k is the fast axis: the matrices that the instruction loads are just those.
template <typename TILE, int IS_B>
FUNCTION void load_along_k(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    const int lane = LOCAL_ID(0) % 32, i = lane / 8;
    const int line = row + half_row<IS_B>(i) * 8 + lane % 8;
    const int element = step * PRODUCT_K + half_k<IS_B>(i) * (PRODUCT_K / 2);
    load_matrices(r, shared_address(tile + TILE::offset(line, element)));
}

// 4-byte elements across k: a register is one element.
template <typename TILE, int IS_B>
FUNCTION void load_across_k4(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    const int lane = LOCAL_ID(0) % 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int line = step * PRODUCT_K + half_k<IS_B>(i) * 4 + lane % 4;
        const int element = row + half_row<IS_B>(i) * 8 + lane / 4;
        r[i] = *(const unsigned *)(tile + TILE::offset(line, element));
    }
}

// 1-byte elements across k: transposed as pairs of neighbouring rows, which are then taken apart.
// Matrix 2 h + i has lines 4 j + 2 i and 4 j + 2 i + 1 of half h of k, so that a lane ends up with
// four neighbours in k. What was an even row comes first, what was an odd one 8 rows later.
template <typename TILE, int IS_B>
FUNCTION void load_across_k1(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    const int lane = LOCAL_ID(0) % 32, i = lane / 8, j = lane % 8;
    const int line = step * PRODUCT_K + i / 2 * 16 + j / 2 * 4 + i % 2 * 2 + j % 2;
    unsigned pairs[4];
    load_transposed(pairs, shared_address(tile + TILE::offset(line, row)));
#pragma unroll
    for (int at = 0; at < 4; at++) {
        const int h = half_k<IS_B>(at);
        r[at] = __byte_perm(pairs[2 * h], pairs[2 * h + 1], half_row<IS_B>(at) ? 0x7531 : 0x6420);
    }
}

template <typename TILE, int ALONG_K, int IS_B>
FUNCTION void load_fragment(unsigned (&r)[4], const unsigned char *tile, int row, int step)
{
    if (ALONG_K)
        load_along_k<TILE, IS_B>(r, tile, row, step);
    else if (STORED_BYTES == 4)
        load_across_k4<TILE, IS_B>(r, tile, row, step);
    else if (STORED_BYTES == 2)
        load_across_k2<TILE, IS_B>(r, tile, row, step);
    else
        load_across_k1<TILE, IS_B>(r, tile, row, step);
}

struct Operands {
    unsigned a[FRAGMENTS_M][4], b[FRAGMENTS_N][4];

    // Of `step` of the tile in a stage; `row`, `column`: of the warp.
    FUNCTION void load(const unsigned char *stage, int row, int column, int step, int,
                       const Operands &)
    {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++)
            load_fragment<TileA, A_ALONG_K, 0>(a[i], stage, row + i * 16, step);
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; j++)
            load_fragment<TileB, B_ALONG_K, 1>(b[j], stage + A_TILE_BYTES, column + j * 16, step);
    }

    // sums += a b
    FUNCTION void multiply_into(SUM (&sums)[FRAGMENTS_M][2 * FRAGMENTS_N][SUM_WORDS]) const
    {
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
            for (int j = 0; j < 2 * FRAGMENTS_N; j++)
                multiply(sums[i][j], a[i], b[j / 2] + j % 2 * 2);
        }
    }
};

// Row and column of C, within a warp's, of sum i of half `half` of a fragment.
FUNCTION int row_of(int fragment, int, int i)
{
    const int row = sum_row(LOCAL_ID(0) % 32, i % 4);
    return fragment * 16 + (A_INTERLEAVED ? row % 8 * 2 + row / 8 : row);
}

FUNCTION int column_of(int fragment, int half, int i)
{
    const int column = sum_column(LOCAL_ID(0) % 32, i % 4);
    return fragment * 16 + (B_INTERLEAVED ? column * 2 + half : half * 8 + column);
}

#define NEIGHBOURS (B_INTERLEAVED ? 1 : 2)  // sums of a lane in turn that are neighbours in a row

#endif
