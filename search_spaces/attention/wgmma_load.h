// The warpgroup that loads: tiles of Q, K and V on their way to shared memory by TMA.
//
// Stands after wgmma_store.h. A tile is made of panels, 64 columns or 128 bytes across, of as many
// lines as it has rows; TMA swizzles the 16-byte units of a line by eights of lines, and what lies
// outside of the arrays arrives as zeros.

#ifndef WGMMA_LOAD_H
#define WGMMA_LOAD_H

#ifndef OVERLAP
#define OVERLAP 1  // 1: the next scores are computed beside the product with the values
#endif
#ifndef PAGE_ROWS
#define PAGE_ROWS 0  // rows of a page that one copy loads
#define PAGES 0      // of K, and of V
#endif

#define LINE_BYTES 128
#define Q_PANELS CEIL_DIVIDE(HEAD_DIM, 64)
#define QUERY_BYTES (Q_PANELS * TILE_M * LINE_BYTES)
#define KEY_BYTES (Q_PANELS * TILE_N * LINE_BYTES)
#define VALUE_BYTES (V_PANELS * TILE_N * LINE_BYTES)
#define LOADING_LANES (PAGE_SIZE ? 32 : 1)  // pages are looked up side by side

// ---- Shared memory

struct Ring {
    unsigned tiles, full, empty;  // addresses of the first of each

    FUNCTION unsigned full_of(Slot slot) const { return full + 8 * slot.stage; }
    FUNCTION unsigned empty_of(Slot slot) const { return empty + 8 * slot.stage; }
};

struct Memory {
    unsigned queries, query_full, query_empty, staging;
    Ring keys, values;

    FUNCTION Memory(unsigned first)
    {
        queries = first;
        keys.tiles = queries + QUERY_BYTES;
        values.tiles = keys.tiles + STAGES * KEY_BYTES;
        staging = values.tiles + STAGES * VALUE_BYTES;
        query_full = staging + STAGING_BYTES;
        query_empty = query_full + 8;
        keys.full = query_full + 16;
        keys.empty = keys.full + 8 * STAGES;
        values.full = keys.empty + 8 * STAGES;
        values.empty = values.full + 8 * STAGES;
    }

    FUNCTION void init() const
    {
        barrier_init(query_full, 1);
        barrier_init(query_empty, CONSUMERS);
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(keys.full + 8 * stage, 1);
            barrier_init(keys.empty + 8 * stage, CLUSTER_M * CONSUMERS);
            barrier_init(values.full + 8 * stage, 1);
            barrier_init(values.empty + 8 * stage, CLUSTER_M * CONSUMERS);
        }
        barriers_publish();
    }
};

// ---- Loads

struct Loader {
    const Memory &memory;
    const TensorMap *q_map, *k_map, *v_map;
    int rank;  // of the block in its cluster
    Slot keys, values;

    // Once `empty` says so, announces `bytes` at `full`.
    FUNCTION void begin(unsigned empty, unsigned full, int phase, const int bytes) const
    {
        barrier_wait(empty, phase);
        if (LOADING_LANES == 1 || threadIdx.x == 0) barrier_expect(full, bytes);
    }

    FUNCTION void load_queries(const Unit &unit, const Sequence &s, int phase) const
    {
        begin(memory.query_empty, memory.query_full, phase, QUERY_BYTES);
        if (LOADING_LANES > 1 && threadIdx.x > 0) return;
#pragma unroll
        for (int panel = 0; panel < Q_PANELS; panel++)
            tma_load(memory.queries + panel * TILE_M * LINE_BYTES, q_map, memory.query_full,
                     panel * 64, 0, s.first_query + unit.row / PACK, unit.head,
                     PACKED ? 0 : s.index);
    }

    // Rows of a panel of K or V from row `first` of a tile on.
    FUNCTION void load_panel(unsigned tile_place, const TensorMap *map, unsigned full, int panel,
                             int first, int row, int head, int sequence) const
    {
        const unsigned to = tile_place + (panel * TILE_N + first) * LINE_BYTES;
        if (CLUSTER_M == 1)
            tma_load(to, map, full, panel * 64, row, head, sequence);
        else
            tma_multicast(to, map, full, panel * 64, row, head, sequence, (1 << CLUSTER_M) - 1);
    }

    // A tile of K or V, of which a row is `panels` panels, into the next stage of its ring; in a
    // cluster, this block's share of it, for all.
    FUNCTION void load_tile(const TensorMap *map, const Ring &ring, Slot &slot, const int panels,
                            const Unit &unit, const Sequence &s, int tile) const
    {
        const unsigned to = ring.tiles + slot.stage * (panels * TILE_N * LINE_BYTES);
        const unsigned full = ring.full_of(slot);
        begin(ring.empty_of(slot), full, slot.phase, panels * TILE_N * LINE_BYTES);
#if PAGE_SIZE
#pragma unroll 1
        for (int row = threadIdx.x * PAGE_ROWS; row < TILE_N; row += LOADING_LANES * PAGE_ROWS) {
            const int key = tile * TILE_N + row;
            const int page = key < s.keys ? s.pages[key / PAGE_SIZE] : PAGES;  // there is no such
#pragma unroll
            for (int panel = 0; panel < panels; panel++)
                load_panel(to, map, full, panel, row, key % PAGE_SIZE, kv_head_of(unit), page);
        }
#else
        const int first = rank * (TILE_N / CLUSTER_M);
#pragma unroll
        for (int panel = 0; panel < panels; panel++)
            load_panel(to, map, full, panel, first, s.first_key + tile * TILE_N + first,
                       kv_head_of(unit), PACKED_KV ? 0 : s.index);
#endif
        slot = next_slot(slot);
    }

    FUNCTION void load_keys(const Unit &unit, const Sequence &s, int tile)
    {
        load_tile(k_map, memory.keys, keys, Q_PANELS, unit, s, tile);
    }

    FUNCTION void load_values(const Unit &unit, const Sequence &s, int tile)
    {
        load_tile(v_map, memory.values, values, V_PANELS, unit, s, tile);
    }
};

// By LOADING_LANES threads, in the order in which consumers ask for tiles; keys before Q, which is
// awaited longer.
FUNCTION void load(const TensorMap *q_map, const TensorMap *k_map, const TensorMap *v_map,
                   const Memory &memory, int cluster, int rank INPUT_PARAMETERS)
{
    map_acquire(q_map);
    map_acquire(k_map);
    map_acquire(v_map);
    Loader loader = {memory, q_map, k_map, v_map, rank, {0, 1}, {0, 1}};
    int query_phase = 1;
#pragma unroll 1
    for (int turn = 0; unit_index(cluster, turn) < UNITS; turn++) {
        const Unit unit = unit_of(unit_index(cluster, turn), rank);
        const Sequence s = SEQUENCE(unit.batch);
        const Span span = span_of(unit, s);
        if (span.first == span.end) continue;
        loader.load_keys(unit, s, span.end - 1);
        loader.load_queries(unit, s, query_phase);
        query_phase ^= 1;
#pragma unroll 1
        for (int tile = span.end - 1; tile >= span.first; tile--) {
            const bool more = tile > span.first;
            if (OVERLAP && more) loader.load_keys(unit, s, tile - 1);
            loader.load_values(unit, s, tile);
            if (!OVERLAP && more) loader.load_keys(unit, s, tile - 1);
        }
    }
}

#endif
