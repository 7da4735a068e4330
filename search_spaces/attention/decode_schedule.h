// The schedule of decode.cu, and what follows from it: stands before the headers that use it.

#ifndef DECODE_SCHEDULE_H
#define DECODE_SCHEDULE_H

#ifndef K_COPY
#define K_COPY 16  // bytes that one copy moves: 16 or 8, as every row begins at a multiple of them
#define V_COPY 16
#endif

// ---- The schedule

#ifndef USE_MMA
#define USE_MMA 1  // 1: rows are multiplied by tensor cores; 0: a single one by multiply-add units
#endif
#ifndef WARP_ROWS
#define WARP_ROWS 16  // rows of a warp: 16 or 32
#endif
#ifndef WARPS_ROWS
#define WARPS_ROWS 1  // warps of a block that have the same keys and other rows
#endif
#ifndef WARPS_KEYS
#define WARPS_KEYS 4  // warps of a block that cut a tile of keys
#endif
#ifndef TILE_KEYS
#define TILE_KEYS 16  // keys of a warp at a time: 16 or 32; of float8 32
#endif
#ifndef STAGES
#define STAGES 4  // such tiles in shared memory, in turn
#endif
#ifndef Q_REGISTERS
#define Q_REGISTERS 1  // 1: Q stays in registers; 0: its fragments are loaded again for each tile
#endif
#ifndef SPLITS
#define SPLITS 1  // parts of the keys, each by other blocks, that a second kernel merges
#endif
#ifndef CLUSTER
#define CLUSTER 1  // blocks that share a part, and merge what they found (sm_90 on)
#endif
#ifndef EVEN_PARTS
#define EVEN_PARTS 1  // 1: each sequence is cut evenly; 0: into pieces of the longest's size
#endif
#ifndef LAZY_RESCALE
#define LAZY_RESCALE 1  // 1: weights may grow to 2^8 before earlier sums are scaled down
#endif
#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit: compilers keep to the registers that this leaves
#endif

// ---- What follows from these

#define THREADS (32 * WARPS_ROWS * WARPS_KEYS)
#define RING_THREADS (32 * WARPS_ROWS)  // that share a ring
#define ROW_HEADS HEADS_PER_KV_HEAD     // rows of a query
#define HEAD_ROWS (Q_LEN * ROW_HEADS)   // of one head of K, at most
#define BLOCK_ROWS (WARPS_ROWS * WARP_ROWS)
#define KEPT_ROWS (HEAD_ROWS < BLOCK_ROWS ? HEAD_ROWS : BLOCK_ROWS)  // of a block that may exist
#define BLOCK_KEYS (WARPS_KEYS * TILE_KEYS)
#define CUTS (SPLITS * CLUSTER)  // of a sequence, a block each
#define WINDOW_KEYS ((CAUSAL ? 1 : 2) * WINDOW + Q_LEN)  // that some query sees
#define MOST_TILES                                                      \
    (WINDOW && WINDOW_KEYS < KV_LEN ? WINDOW_KEYS / BLOCK_KEYS + 2 /* where they are unaligned */ \
                                    : (KV_LEN + BLOCK_KEYS - 1) / BLOCK_KEYS)
#define QK_WIDTH ((HEAD_DIM + 15) / 16 * 16)  // elements of a line of Q and K, zeros included
#define V_WIDTH ((V_DIM + 15) / 16 * 16)
#define Q_TILE_BYTES (Q_REGISTERS ? 0 : BLOCK_ROWS * QK_WIDTH * 2)
#define K_TILE_BYTES (TILE_KEYS * QK_WIDTH * STORED_KV_BYTES)
#define STAGE_BYTES (K_TILE_BYTES + TILE_KEYS * V_WIDTH * STORED_KV_BYTES)

// ---- What warps leave in shared memory

#define PITCH (V_WIDTH + 8)  // floats of a row there: eight rows apart by eight banks

// What is known of a row: the unit of its weights, in log2, and their sum.
struct Mark {
    float base, sum;
};

#endif
