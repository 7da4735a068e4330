// Groups of rows of A and C, each multiplied with a B of its own: which one a tile or a row is of.
// Integers only, so that this part compiles as plain C too and can be tested on any machine.

#ifndef ROW_GROUPS_H
#define ROW_GROUPS_H

#ifndef FUNCTION
#define FUNCTION static inline
#endif
#ifdef __CUDACC__
#define TABLE __constant__
#else
#define TABLE static const
#endif

#ifndef ROW_GROUPS
#define ROW_GROUPS 1             // how many; for each:
#define ROW_GROUP_ENDS {4096}    // the row that it ends before,
#define ROW_GROUP_TILES {32}     // how many tiles it and those before it are along m
#define ALL_ROW_GROUP_TILES 32   // the last of these
#endif

TABLE int row_group_ends[ROW_GROUPS] = ROW_GROUP_ENDS;
TABLE int row_group_tiles[ROW_GROUPS] = ROW_GROUP_TILES;

struct RowGroup {
    int index;               // of its B
    int first_row, end_row;  // the last one is before that
    int first_tile, tiles;   // along m, none of them in two groups
};

// The first group whose entry is above the value.
FUNCTION int row_group_above(const int *table, int value)
{
    int low = 0, high = ROW_GROUPS - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (table[middle] > value)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

FUNCTION int row_group_of_row(int row) { return row_group_above(row_group_ends, row); }

FUNCTION struct RowGroup row_group_of_tile(int tile)
{
    struct RowGroup group;
    group.index = row_group_above(row_group_tiles, tile);
    group.first_row = group.index == 0 ? 0 : row_group_ends[group.index - 1];
    group.end_row = row_group_ends[group.index];
    group.first_tile = group.index == 0 ? 0 : row_group_tiles[group.index - 1];
    group.tiles = row_group_tiles[group.index] - group.first_tile;
    return group;
}

#endif
