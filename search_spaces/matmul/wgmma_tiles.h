// Which tile of C is whose turn, and which stage of shared memory a step takes: integers only, so
// that this part compiles as plain C too, and can be tested on any machine.
//
// A unit of work is a tile of C, or a part of its sums. Blocks of a cluster work on neighbouring
// tiles at the same time. Cluster c takes tiles c, c + CLUSTERS, ... to their end, or the parts of
// them that split-K makes; with stream-K clusters first share the steps of some tiles equally, so
// that all end at the same time.

#ifndef FUNCTION
#define FUNCTION static inline
#endif

// ---- The workload, as the tensor cores see it: the product itself, or its transpose if SWAP

#ifndef M
#define M 4096  // rows of C
#endif
#ifndef N
#define N 4096  // columns of C
#endif
#ifndef K
#define K 4096  // length of the sums
#endif
#ifndef BATCH
#define BATCH 1  // products
#endif
#ifndef ROW_GROUPS
#define ROW_GROUPS 0  // groups of rows of A and C, each multiplied with a B of its own; 0: none
#elif !defined(ROW_GROUPS_H)
#include "row_groups.h"  // its tiles along m are clusters of tiles
#endif

// ---- The schedule

#ifndef SWAP
#define SWAP 0  // 1: compute the transpose of C, so that tiles narrow in n become narrow in m
#endif
#ifndef TILE_M
#define TILE_M 128  // rows of a tile: 64 to 256 by 64 (columns of C if SWAP)
#endif
#ifndef TILE_N
#define TILE_N 64  // columns of a tile: 16 to 256 by 16 (rows of C if SWAP)
#endif
#ifndef TILE_K
#define TILE_K 64  // steps of k in one stage of shared memory; 128 bytes, or a multiple
#endif
#ifndef STAGES
#define STAGES 4  // stages of shared memory that are filled and used in turn
#endif
#ifndef CLUSTER_M
#define CLUSTER_M 1  // blocks of a cluster along the rows; they share tiles of the right operand
#endif
#ifndef CLUSTER_N
#define CLUSTER_N 1  // blocks of a cluster along the columns; they share tiles of the left one
#endif
#ifndef SPLIT_K
#define SPLIT_K 1  // parts of k, each a unit of its own
#endif
#ifndef STREAM_K
#define STREAM_K 0  // 1: tiles that would not fill a round, and a round more, are shared by steps
#endif
#ifndef RASTER
#define RASTER 0  // order of tiles: 0 in bands of rows, 1 of columns, 2 along Hilbert's curve
#endif
#ifndef GROUP
#define GROUP 8  // rows (or columns) of clusters in a band; the side of a curve, a power of two
#endif
#ifndef CLUSTERS
#define CLUSTERS 132  // clusters launched
#endif

// ---- What follows from these

#define ROWS (SWAP ? N : M)
#define COLUMNS (SWAP ? M : N)
#define CEIL_DIVIDE(extent, size) (((extent) + (size)-1) / (size))
#define CLUSTER (CLUSTER_M * CLUSTER_N)
#define CLUSTER_ROWS CEIL_DIVIDE(CEIL_DIVIDE(ROWS, TILE_M), CLUSTER_M)
#define CLUSTER_COLUMNS CEIL_DIVIDE(CEIL_DIVIDE(COLUMNS, TILE_N), CLUSTER_N)
#if ROW_GROUPS
#define ALONG_N (SWAP ? CLUSTER_ROWS : CLUSTER_COLUMNS)
#define CLUSTER_TILES (ALL_ROW_GROUP_TILES * ALONG_N)
#else
#define CLUSTER_TILES (CLUSTER_ROWS * CLUSTER_COLUMNS)
#endif
#define STEPS CEIL_DIVIDE(K, TILE_K)
#define PART_STEPS CEIL_DIVIDE(STEPS, SPLIT_K)
#define UNITS (BATCH * SPLIT_K * CLUSTER_TILES)  // for a cluster, without stream-K
#if STREAM_K
#define STREAM_TILES (UNITS < CLUSTERS ? UNITS : UNITS % CLUSTERS + CLUSTERS)
#else
#define STREAM_TILES 0
#endif

struct Place {
    int row, column;
};

struct Unit {
    int batch, product;       // which A and C, and which B
    int row, column;          // of the tile's first element
    int row_end, column_end;  // of C, or of the group
    int part;                 // of k
    int first_step, steps;    // of it, TILE_K each
    int slot;                 // for the sums of a cluster, where others add to them; else -1
};

struct Slot {
    int stage;
    int phase;  // 0 and 1 in turn, each time round
};

FUNCTION int smaller(int x, int y) { return x < y ? x : y; }

// ---- Order of tiles

// Hilbert's curve through a square of GROUP x GROUP: quadrants are visited in turn, each one a
// smaller curve, turned or mirrored so that the ends meet.
FUNCTION struct Place along_curve(int index)
{
    struct Place at = {0, 0};
    for (int side = 1; side < GROUP; side *= 2) {
        const int down = index / 2 % 2, right = (index + down) % 2;
        if (!right) {
            const int row = down ? side - 1 - at.row : at.row;
            at.row = down ? side - 1 - at.column : at.column;
            at.column = row;
        }
        at.row += down * side;
        at.column += right * side;
        index /= 4;
    }
    return at;
}

// Bands of GROUP rows, walked column by column, to and fro. With Hilbert's order every whole
// square of a band is walked along the curve instead.
FUNCTION struct Place in_bands(int index, int rows, int columns)
{
    const int band = index / (GROUP * columns);
    const int height = rows % GROUP == 0 ? GROUP : smaller(GROUP, rows - band * GROUP);
    const int inside = index % (GROUP * columns);
    struct Place at = {inside % height, inside / height};
    if (RASTER == 2 && height == GROUP) {
        const int square = inside / (GROUP * GROUP);
        if ((square + 1) * GROUP <= columns) {
            at = along_curve(inside % (GROUP * GROUP));
            at.column += square * GROUP;
        }
    }
    at.row += band * GROUP;
    if (band % 2) at.column = columns - 1 - at.column;
    return at;
}

FUNCTION struct Place place_of(int index, int rows, int columns)
{
    struct Place at;
    if (RASTER == 1) {
        const struct Place turned = in_bands(index, columns, rows);
        at.row = turned.column;
        at.column = turned.row;
    } else {
        at = in_bands(index, rows, columns);
    }
    return at;
}

// ---- Stream-K: the steps of the first STREAM_TILES tiles, one after the other, in equal shares

#if STREAM_K
FUNCTION long long share_begin(int cluster)
{
    return (long long)STREAM_TILES * STEPS * cluster / CLUSTERS;
}

// The tiles that a cluster has a share of, the first one and the one after the last.
FUNCTION int share_first(int cluster) { return (int)(share_begin(cluster) / STEPS); }

FUNCTION int share_end(int cluster)
{
    const long long begin = share_begin(cluster), end = share_begin(cluster + 1);
    return (int)(begin < end ? (end - 1) / STEPS + 1 : begin / STEPS);
}

// The cluster whose share holds a step, counted through all tiles.
FUNCTION int sharer_of(long long step)
{
    int cluster = (int)(step * CLUSTERS / ((long long)STREAM_TILES * STEPS));
    while (share_begin(cluster + 1) <= step) cluster++;
    return cluster;
}

// Where a cluster leaves its sums of a tile that it shares: its first one, or its last.
FUNCTION int slot_of(int cluster, int tile) { return 2 * cluster + (tile > share_first(cluster)); }

// Narrows a unit to a cluster's share of the tile.
FUNCTION void share(struct Unit *unit, int cluster, int tile)
{
    const long long begin = share_begin(cluster) - (long long)tile * STEPS;
    const long long end = share_begin(cluster + 1) - (long long)tile * STEPS;
    unit->first_step = begin > 0 ? (int)begin : 0;
    unit->steps = (end < STEPS ? (int)end : STEPS) - unit->first_step;
    if (unit->steps < STEPS) unit->slot = slot_of(cluster, tile);
}
#endif

// ---- Units of work

FUNCTION int shared_units_of(int cluster)
{
#if STREAM_K
    return share_end(cluster) - share_first(cluster);
#else
    return 0 * cluster;
#endif
}

FUNCTION int units_of(int cluster)
{
    const int whole = UNITS - STREAM_TILES - cluster;
    return shared_units_of(cluster) + (whole > 0 ? CEIL_DIVIDE(whole, CLUSTERS) : 0);
}

// A cluster's unit number `turn`, for the block of that rank. Where clusters do not divide the
// tiles, a tile may lie wholly outside of C: it is computed from zeros, and stores nothing.
FUNCTION struct Unit unit_of(int cluster, int turn, int rank)
{
    int index = STREAM_TILES + cluster + (turn - shared_units_of(cluster)) * CLUSTERS;
#if STREAM_K
    const int shared = turn < shared_units_of(cluster);
    if (shared) index = share_first(cluster) + turn;
#endif
    struct Unit unit;
    struct Place at;
    int inside = index % CLUSTER_TILES;
    unit.part = index / CLUSTER_TILES % SPLIT_K;
    unit.first_step = unit.part * PART_STEPS;
    unit.steps = smaller(PART_STEPS, STEPS - unit.first_step);
    unit.slot = -1;
#if STREAM_K
    if (shared) share(&unit, cluster, index);
#endif
    unit.row_end = ROWS;
    unit.column_end = COLUMNS;
#if ROW_GROUPS
    const struct RowGroup group = row_group_of_tile(inside / ALONG_N);
    inside -= group.first_tile * ALONG_N;
    at = SWAP ? place_of(inside, ALONG_N, group.tiles) : place_of(inside, group.tiles, ALONG_N);
    unit.batch = 0;
    unit.product = group.index;
    unit.row = SWAP ? 0 : group.first_row;
    unit.column = SWAP ? group.first_row : 0;
    *(SWAP ? &unit.column_end : &unit.row_end) = group.end_row;
#else
    at = place_of(inside, CLUSTER_ROWS, CLUSTER_COLUMNS);
    unit.batch = unit.product = index / CLUSTER_TILES / SPLIT_K;
    unit.row = unit.column = 0;
#endif
    unit.row += (at.row * CLUSTER_M + rank % CLUSTER_M) * TILE_M;
    unit.column += (at.column * CLUSTER_N + rank / CLUSTER_M) * TILE_N;
    return unit;
}

// ---- Stages: step i of a block takes stage i % STAGES; the phase changes each time round

FUNCTION struct Slot next_slot(struct Slot slot)
{
    const int wraps = slot.stage + 1 == STAGES;
    slot.stage = wraps ? 0 : slot.stage + 1;
    slot.phase ^= wraps;
    return slot;
}

FUNCTION struct Slot skip_slots(struct Slot slot, int steps)
{
    const int stage = slot.stage + steps;
    slot.stage = stage % STAGES;
    slot.phase ^= stage / STAGES % 2;
    return slot;
}
