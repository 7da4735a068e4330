// Which queries of which head are whose turn, which keys they see, and which stage of shared memory
// holds them: integers only, so that this part compiles as plain C too, and can be tested on any
// machine. Stands after sequence.h.
//
// A unit of work is a tile of TILE_M rows of one line, or a part of its keys. A line is a head of a
// sequence; with PACK, the PACK heads of Q that share a head of K and V, and a row is then one of
// these heads of a query. Lines are taken in sections of TOGETHER, whose K and V stay in L2 while
// the tiles of a section are worked on; under a causal mask the longest tiles come first. Blocks of a
// cluster take neighbouring tiles of a line and walk the same keys, so that they share the loads.

#ifndef WGMMA_TILES_H
#define WGMMA_TILES_H

#ifndef CONSUMERS
#define CONSUMERS 2  // warpgroups that multiply, 64 rows of a tile each: 1 to 3
#endif
#ifndef TILE_N
#define TILE_N 64  // keys of a tile: 16 to 256 by 16
#endif
#ifndef STAGES
#define STAGES 2  // tiles of K, and of V, in shared memory
#endif
#ifndef PACK
#define PACK 1  // heads of Q in a tile: 1, or all that share a head of K and V
#endif
#ifndef TOGETHER
#define TOGETHER 1  // lines whose tiles are taken in turn
#endif
#ifndef SPLITS
#define SPLITS 1  // parts of the keys
#endif
#ifndef CLUSTER_M
#define CLUSTER_M 1  // blocks of a cluster: 1 or 2
#endif
#ifndef CLUSTERS
#define CLUSTERS 132  // launched; each takes one unit after another
#endif

#define CEIL_DIVIDE(extent, size) (((extent) + (size)-1) / (size))
#define TILE_M (64 * CONSUMERS)
#define LINE_HEADS (HEADS / PACK)
#define LINES (BATCH * LINE_HEADS)
#define CLUSTER_ROWS (CLUSTER_M * TILE_M)
#define ROW_TILES CEIL_DIVIDE(Q_LEN * PACK, CLUSTER_ROWS)  // of clusters, in the longest sequence
#define UNITS (LINES * ROW_TILES * SPLITS)  // for a cluster

struct Unit {
    int batch, head;  // of the line: head of Q, or of K and V with PACK
    int row;          // first of the tile, in the line,
    int cluster_row;  // and of all tiles of the cluster
    int part;         // of the keys
};

struct Span {
    int first, end;  // tiles of keys
};

struct Slot {
    int stage;
    int phase;  // 0 and 1 in turn, each time round
};

FUNCTION int smaller(int x, int y) { return x < y ? x : y; }

// The number of a cluster's unit; UNITS or more where it has had its last one. To and fro, as the
// longest come first: who took the longest of a round takes the shortest of the next.
FUNCTION int unit_index(int cluster, int turn)
{
    return turn * CLUSTERS + (turn % 2 ? CLUSTERS - 1 - cluster : cluster);
}

// That unit, for the block of that rank.
FUNCTION struct Unit unit_of(int index, int rank)
{
    const int place = index / SPLITS;
    const int section = place / (TOGETHER * ROW_TILES);
    const int lines = smaller(TOGETHER, LINES - section * TOGETHER);
    const int inside = place % (TOGETHER * ROW_TILES);
    const int line = section * TOGETHER + inside % lines, tile = inside / lines;
    struct Unit unit;
    unit.batch = line / LINE_HEADS;
    unit.head = line % LINE_HEADS;
    unit.cluster_row = (CAUSAL ? ROW_TILES - 1 - tile : tile) * CLUSTER_ROWS;
    unit.row = unit.cluster_row + rank * TILE_M;
    unit.part = index % SPLITS;
    return unit;
}

FUNCTION int query_of(struct Unit unit, int row) { return (unit.row + row) / PACK; }

FUNCTION int head_of(struct Unit unit, int row)
{
    return PACK > 1 ? unit.head * PACK + row % PACK : unit.head;
}

FUNCTION int kv_head_of(struct Unit unit)
{
    return PACK > 1 ? unit.head : unit.head / HEADS_PER_KV_HEAD;
}

// Tiles of keys that any query of the cluster sees, or its part of them; none without queries.
FUNCTION struct Span span_of(struct Unit unit, Sequence s)
{
    const int first = unit.cluster_row / PACK;
    const int last = smaller((unit.cluster_row + CLUSTER_ROWS - 1) / PACK, s.queries - 1);
    struct Span span = {0, 0};
    if (first >= s.queries || end_key(s, last) <= first_key(s, first)) return span;
    const int begin = first_key(s, first) / TILE_N;
    const int tiles = CEIL_DIVIDE(end_key(s, last), TILE_N) - begin;
    span.first = begin + (int)((long long)tiles * unit.part / SPLITS);
    span.end = begin + (int)((long long)tiles * (unit.part + 1) / SPLITS);
    return span;
}

// Tiles of which rows `row` to `row` + `rows` - 1 see every key; the other ones need a mask.
FUNCTION struct Span whole_of(struct Unit unit, Sequence s, int row, int rows)
{
    const struct Span whole = {CEIL_DIVIDE(first_key(s, query_of(unit, row + rows - 1)), TILE_N),
                               end_key(s, query_of(unit, row)) / TILE_N};
    return whole;
}

FUNCTION struct Slot next_slot(struct Slot slot)
{
    const int wraps = slot.stage + 1 == STAGES;
    slot.stage = wraps ? 0 : slot.stage + 1;
    slot.phase ^= wraps;
    return slot;
}

#endif
