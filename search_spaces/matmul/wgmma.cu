// C = epilogue(A B) on Hopper's tensor cores (sm_90a): TMA loads, asynchronous warpgroup products.
//
// A block is one warpgroup that loads and CONSUMERS that multiply. The loader fills stages of
// shared memory with a TILE_M x TILE_K tile of the left operand and a TILE_N x TILE_K tile of the
// right one, by TMA; a `full` barrier tells the consumers, an `empty` one tells the loader that a
// stage may be filled again. Blocks stay and take one unit of work after another, so that the
// loader runs ahead into the next tile while the consumers still store the last one. Consumers
// share each tile by rows (cooperative), or take tiles in turn (PINGPONG), so that one stores while
// the other multiplies. In a cluster each block loads a part of what it shares with its neighbours,
// and the hardware copies the part to all of them (multicast).
//
// Left and right are A and B; if SWAP, they are B and A, and what is computed is C transposed.
//
//   matmul:  blocks CLUSTERS * CLUSTER; writes C, or sums of a part of k
//   reduce:  adds the parts and writes C, only if SPLIT_K > 1 or STREAM_K

#ifndef KERNEL
#include "../dialects/cuda.h"
#include "../dialects/hopper.h"
#include "wgmma_tiles.h"
#include "wgmma_layout.h"
#include "wgmma_store.h"
#endif

// ---- The schedule: what the headers do not know

#ifndef CONSUMERS
#define CONSUMERS 2  // warpgroups that multiply: 1 to 3
#endif
#ifndef PINGPONG
#define PINGPONG 0  // 1: consumers take tiles in turn; 0: they share each tile by rows
#endif
#ifndef RESIDENT
#define RESIDENT 1  // blocks that share a unit of the GPU
#endif
#ifndef LOADER_REGISTERS
#define LOADER_REGISTERS 40     // registers of a thread that loads, and of one that multiplies;
#define CONSUMER_REGISTERS 232  // 0 leaves what the launch gives
#endif

// ---- The instruction: 64 x TILE_N sums += left right, 32 bytes of k at a time

#ifndef WGMMA
#define WGMMA "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16"
#define WGMMA_OPERANDS                                                                       \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;"
#define WGMMA_KEEP "%34"
#define WGMMA_SUMS(d)                                                                         \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),       \
    "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),   \
    "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), \
    "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), \
    "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#endif

// ---- What follows from these

#define SUMS (TILE_N / 2)                   // registers of a thread for 64 rows of sums
#define SHARERS (PINGPONG ? 1 : CONSUMERS)  // consumers of one tile
#define BLOCKS (TILE_M / 64 / SHARERS)      // times 64 rows of a consumer
#define THREADS (128 * (1 + CONSUMERS))
#define STAGING_BYTES (STORE_TMA && SPLIT_K == 1 ? CONSUMERS * 4 * BUFFERS * PIECE_BYTES : 0)

typedef unsigned long long Descriptor;

// ---- Loads

// Loads this block's share of a tile of `extent` rows (or columns) of an operand: a `share`-th of
// the rows of every panel, or of its steps of k. Boxes outside of the matrix arrive as zeros.
FUNCTION void load_tile(unsigned to, const TensorMap *map, unsigned barrier, const int along_k,
                        const int extent, int first, int step, int batch, const int shares,
                        int share, unsigned short blocks)
{
#pragma unroll
    for (int panel = 0; panel < panels_of(along_k, extent); panel++) {
        const Box box = box_of(along_k, extent, first, step, shares, share, panel);
        if (shares == 1)
            tma_load(to + box.place, map, barrier, box.x, box.y, batch);
        else
            tma_multicast(to + box.place, map, barrier, box.x, box.y, batch, blocks);
    }
}

// ---- Products

// Where an operand's tile lies, for the tensor cores (PTX ISA, "Matrix descriptor"). The high word
// says 128-byte swizzle, and 1024 bytes from one group of 8 lines to the next; the low one holds
// the address within the block and, across k, the bytes from one panel to the next.
FUNCTION unsigned low_word(unsigned tile, const int along_k)
{
    return (tile & 0x3FFFF) >> 4 | (along_k ? 1 : TILE_K * LINE_BYTES >> 4) << 16;
}

FUNCTION Descriptor descriptor(unsigned low)
{
    return (Descriptor)(1 << 30 | 1024 >> 4) << 32 | low;
}

// sums = left right (+ sums if `keep`), asynchronously.
FUNCTION void multiply(SUM (&sums)[SUMS], Descriptor left, Descriptor right, int keep)
{
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " WGMMA_KEEP ", 0;\n" WGMMA " " WGMMA_OPERANDS " }"
                 : WGMMA_SUMS(sums)
                 : "l"(left), "l"(right), "r"(keep));
}

// Costs nothing, but no read of the sums moves ahead of it.
FUNCTION void settle(SUM (&sums)[SUMS]) { asm volatile("" : WGMMA_SUMS(sums) : : "memory"); }

// ---- Barriers of a block: two for each stage, and two that tell consumers whose turn it is

struct Stages {
    unsigned tiles, full, empty, turns;  // addresses of the first of each
    int rank;                            // of the block in its cluster

    FUNCTION Stages(unsigned first_tile, unsigned first_barrier, int rank)
        : tiles(first_tile),
          full(first_barrier),
          empty(first_barrier + 8 * STAGES),
          turns(first_barrier + 16 * STAGES),
          rank(rank)
    {
    }

    FUNCTION void init() const
    {
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(full + 8 * stage, 1);
            barrier_init(empty + 8 * stage, (CLUSTER_M + CLUSTER_N - 1) * SHARERS);
        }
        barrier_init(turns, 1);
        barrier_init(turns + 8, 1);
        barriers_publish();
    }

    // One thread of a consumer tells each block of the cluster that writes to this one.
    FUNCTION void release(int stage) const
    {
        const int lane = threadIdx.x % 128;
        if (CLUSTER == 1 && lane == 0) barrier_arrive(empty + 8 * stage);
        if (CLUSTER > 1 && lane < CLUSTER && (partners(rank) >> lane & 1))
            barrier_arrive_at(empty + 8 * stage, lane);
    }
};

// All steps of a unit; leaves one group of products in flight while it waits for the next stage.
FUNCTION Slot multiply_unit(SUM (&sums)[BLOCKS][SUMS], const Stages &stages, Slot slot, int steps,
                            int first_row)
{
    const unsigned first_left =
        low_word(stages.tiles + slice_offset(LEFT_ALONG_K, TILE_M, first_row, 0), LEFT_ALONG_K);
    const unsigned first_right = low_word(stages.tiles + LEFT_BYTES, RIGHT_ALONG_K);
    int previous = 0;
    for (int step = 0; step < steps; step++) {
        const unsigned left = first_left + slot.stage * (STAGE_BYTES >> 4);
        const unsigned right = first_right + slot.stage * (STAGE_BYTES >> 4);
        barrier_wait(stages.full + 8 * slot.stage, slot.phase);
        products_begin();
#pragma unroll
        for (int block = 0; block < BLOCKS; block++) {
#pragma unroll
            for (int slice = 0; slice < SLICES; slice++)
                multiply(
                    sums[block],
                    descriptor(left + (slice_offset(LEFT_ALONG_K, TILE_M, block * 64, slice) >> 4)),
                    descriptor(right + (slice_offset(RIGHT_ALONG_K, TILE_N, 0, slice) >> 4)),
                    step | slice);
        }
        products_commit();
        products_wait<1>();
        if (step > 0) stages.release(previous);
        previous = slot.stage;
        slot = next_slot(slot);
    }
    return slot;
}

// What multiply_unit left: the last products, and the stage they read.
FUNCTION void finish_products(SUM (&sums)[BLOCKS][SUMS], const Stages &stages, Slot next)
{
    products_wait<0>();
    stages.release(next.stage == 0 ? STAGES - 1 : next.stage - 1);
#pragma unroll
    for (int block = 0; block < BLOCKS; block++) settle(sums[block]);
}

// ---- The two roles

FUNCTION void load(const TensorMap *left_map, const TensorMap *right_map, const Stages &stages,
                   int cluster)
{
    map_acquire(left_map);
    map_acquire(right_map);
    const unsigned short row_blocks = same_rows(stages.rank);
    const unsigned short column_blocks = same_columns(stages.rank);
    Slot slot = {0, 1};
    const int turns = units_of(cluster);
    for (int turn = 0; turn < turns; turn++) {
        const Unit unit = unit_of(cluster, turn, stages.rank);
#pragma unroll 1  // the loader has few registers
        for (int step = unit.first_step; step < unit.first_step + unit.steps; step++) {
            const unsigned left = stages.tiles + slot.stage * STAGE_BYTES;
            const unsigned full = stages.full + 8 * slot.stage;
            barrier_wait(stages.empty + 8 * slot.stage, slot.phase);
            barrier_expect(full, STAGE_BYTES);
            load_tile(left, left_map, full, LEFT_ALONG_K, TILE_M, unit.row, step,
                      SWAP ? unit.product : unit.batch, CLUSTER_N, stages.rank / CLUSTER_M,
                      row_blocks);
            load_tile(left + LEFT_BYTES, right_map, full, RIGHT_ALONG_K, TILE_N, unit.column, step,
                      SWAP ? unit.batch : unit.product, CLUSTER_M, stages.rank % CLUSTER_M,
                      column_blocks);
            slot = next_slot(slot);
        }
    }
}

FUNCTION void consume(const Stages &stages, unsigned staging, int consumer, int cluster,
                      RESULT SHARES)
{
    const int warp = threadIdx.x / 32 % 4;
    const int first_row = PINGPONG ? 0 : consumer * BLOCKS * 64;
    const unsigned buffers = staging + (consumer * 4 + warp) * BUFFERS * PIECE_BYTES;
    int buffer = 0, turn_phase = consumer ^ 1;
    Slot slot = {0, 0};
    SUM sums[BLOCKS][SUMS];
#if SPLIT_K == 1 && STORE_TMA
    if (threadIdx.x % 32 == 0) map_acquire(c_map);
#endif
    const int turns = units_of(cluster);
    for (int turn = 0; turn < turns; turn++) {
        const Unit unit = unit_of(cluster, turn, stages.rank);
        if (PINGPONG && turn % CONSUMERS != consumer) {
            slot = skip_slots(slot, unit.steps);
            continue;
        }
        if (PINGPONG) barrier_wait(stages.turns + 8 * consumer, turn_phase);
        turn_phase ^= 1;
        slot = multiply_unit(sums, stages, slot, unit.steps, first_row);
        if (PINGPONG && threadIdx.x % 128 == 0) barrier_arrive(stages.turns + 8 * (consumer ^ 1));
        finish_products(sums, stages, slot);
#if STREAM_K
        if (unit.slot >= 0) {
#pragma unroll
            for (int block = 0; block < BLOCKS; block++)
                store_share(sums[block], partial, unit.slot * CLUSTER + stages.rank,
                            first_row / 64 + block);
            continue;
        }
#endif
#pragma unroll
        for (int block = 0; block < BLOCKS; block++)
            store_rows(sums[block], unit, unit.row + first_row + block * 64 + warp * 16, buffers,
                       buffer, RESULT_ARGUMENTS);
    }
#if SPLIT_K == 1 && STORE_TMA
    if (threadIdx.x % 32 == 0) tma_await_reads<0>();
#endif
}

// ---- Kernels

KERNEL __launch_bounds__(THREADS, RESIDENT)
#if CLUSTER > 1
    __cluster_dims__(CLUSTER, 1, 1)
#endif
        void matmul(const TensorMap *RESTRICT left_map, const TensorMap *RESTRICT right_map,
                    RESULT SHARES)
{
    extern __shared__ char dynamic_memory[];
    const unsigned memory = (unsigned)__cvta_generic_to_shared(dynamic_memory);
    const unsigned tiles = (memory + 1023) / 1024 * 1024;  // swizzle repeats every 1024 bytes
    const unsigned staging = tiles + STAGES * STAGE_BYTES;
    const Stages stages(tiles, staging + STAGING_BYTES, CLUSTER > 1 ? cluster_rank() : 0);
    const int cluster = blockIdx.x / CLUSTER;

    if (threadIdx.x == 0) stages.init();
    if (CLUSTER > 1)
        cluster_meet();
    else
        __syncthreads();

    const int warpgroup = __shfl_sync(0xFFFFFFFF, threadIdx.x / 128, 0);
    if (warpgroup == 0) {
#if LOADER_REGISTERS
        registers_give<LOADER_REGISTERS>();
#endif
        if (threadIdx.x == 0) load(left_map, right_map, stages, cluster);
    } else {
#if CONSUMER_REGISTERS
        registers_take<CONSUMER_REGISTERS>();
#endif
        consume(stages, staging, warpgroup - 1, cluster, RESULT_ARGUMENTS SHARES_ARGUMENT);
    }
    if (CLUSTER > 1) cluster_meet();  // none leaves while others still write to it
}
