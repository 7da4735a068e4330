// Where tiles lie in shared memory, and which blocks of a cluster share them: integers only, so
// that this part compiles as plain C too, and can be tested on any machine.
//
// Stands after wgmma_tiles.h. A tile of an operand is made of panels 128 bytes across, in the
// direction that is contiguous in memory; a panel is made of lines, and TMA swizzles lines by
// eights: 16-byte unit u of line l lies where unit u ^ (l % 8) would.

// ---- The workload

#ifndef OPERAND_BYTES
#define OPERAND_BYTES 2  // an element of A and B
#endif
#ifndef C_BYTES
#define C_BYTES 2  // an element of C
#endif
#ifndef LEFT_ALONG_K
#define LEFT_ALONG_K 1   // 1: neighbours in memory differ in k; 0: in the row
#define RIGHT_ALONG_K 1  // 1: neighbours in memory differ in k; 0: in the column
#endif

// ---- The schedule

#ifndef CHUNK
#define CHUNK 64  // columns of a piece of C that TMA stores; 128 bytes, or less to divide TILE_N
#endif

#define LINE_BYTES 128
#define PANEL (LINE_BYTES / OPERAND_BYTES)           // elements across a panel
#define LEFT_BYTES (TILE_M * TILE_K * OPERAND_BYTES)
#define RIGHT_BYTES (TILE_N * TILE_K * OPERAND_BYTES)
#define STAGE_BYTES (LEFT_BYTES + RIGHT_BYTES)
#define SLICES (TILE_K * OPERAND_BYTES / 32)         // instructions along k in a stage
#define PIECE_PITCH ((SWAP ? 16 : CHUNK) * C_BYTES)  // bytes of a row of a piece of C
#define PIECE_BYTES (16 * CHUNK * C_BYTES)

struct Box {
    unsigned place;  // bytes from the tile's beginning
    int x, y;        // coordinates of the first element in the matrix, x the contiguous one
};

// Panels of a tile of `extent` rows (or columns).
FUNCTION int panels_of(const int along_k, const int extent)
{
    return (along_k ? TILE_K : extent) / PANEL;
}

// What one of `shares` blocks loads of a panel for all of them: as many of its lines, each a row,
// or a step of k.
FUNCTION struct Box box_of(const int along_k, const int extent, int first, int step,
                           const int shares, int share, const int panel)
{
    const int lines = (along_k ? extent : TILE_K) / shares;
    struct Box box;
    box.place = (panel * shares + share) * lines * LINE_BYTES;
    box.x = (along_k ? step * TILE_K : first) + panel * PANEL;
    box.y = (along_k ? first : step * TILE_K) + share * lines;
    return box;
}

// Bytes from a tile's beginning to a `slice` of 32 bytes of k, from row `first` on, a multiple of
// 64. Slices of a line are told apart by the address alone: the swizzle applies to its bits.
FUNCTION unsigned slice_offset(const int along_k, const int extent, int first, const int slice)
{
    const int per_line = LINE_BYTES / 32;
    const int along = (slice / per_line * extent + first) * LINE_BYTES + slice % per_line * 32;
    const int across = (first / PANEL * TILE_K + slice * (32 / OPERAND_BYTES)) * LINE_BYTES;
    return along_k ? along : across;
}

// Bytes from the beginning of a piece of C to its element; swizzled as TMA is told to expect it, by
// the 128 bytes it lies in, so that banks do not conflict.
FUNCTION unsigned staged(int row, int column)
{
    const unsigned byte = row * PIECE_PITCH + column * C_BYTES;
    return byte ^ (byte >> 7 & (PIECE_PITCH / 16 - 1)) << 4;
}

// ---- Blocks of a cluster: rank % CLUSTER_M along the rows, rank / CLUSTER_M along the columns

// A bit for each block that works on the same rows, and so shares the left operand.
FUNCTION int same_rows(int rank)
{
    int blocks = 0;
    for (int n = 0; n < CLUSTER_N; n++) blocks |= 1 << (rank % CLUSTER_M + n * CLUSTER_M);
    return blocks;
}

FUNCTION int same_columns(int rank)
{
    return ((1 << CLUSTER_M) - 1) << (rank / CLUSTER_M * CLUSTER_M);
}

// Blocks that write to this one's stages, itself too: CLUSTER_M + CLUSTER_N - 1 of them.
FUNCTION int partners(int rank) { return same_rows(rank) | same_columns(rank); }
