// Neutral names of the portable kernels, in CUDA C++. Needs no header of the CUDA toolkit.

typedef unsigned short ushort;

#define KERNEL extern "C" __global__
#define GROUP_SIZE(x, y, z) __launch_bounds__((x) * (y) * (z))
#define FUNCTION __device__ __forceinline__
#define GLOBAL
#define LOCAL
#define LOCAL_ARRAY(type, name, count) __shared__ __align__(16) type name[count]
#define RESTRICT __restrict__
#define BARRIER() __syncthreads()
#define GROUP_ID(axis) GROUP_ID_##axis
#define GROUP_ID_0 ((int)blockIdx.x)
#define GROUP_ID_1 ((int)blockIdx.y)
#define GROUP_ID_2 ((int)blockIdx.z)
#define LOCAL_ID(axis) LOCAL_ID_##axis
#define LOCAL_ID_0 ((int)threadIdx.x)
#define LOCAL_ID_1 ((int)threadIdx.y)
#define LOCAL_ID_2 ((int)threadIdx.z)
#define FMA(x, y, z) fma(x, y, z)

// A vector of 2 or 4 elements with members x, y (z, w). CUDA's own are not there for every type.
template <typename T> struct __align__(2 * sizeof(T)) Vector2 { T x, y; };
template <typename T> struct __align__(sizeof(T) < 8 ? 4 * sizeof(T) : 16) Vector4 { T x, y, z, w; };
#define VECTOR2(type) Vector2<type>
#define VECTOR4(type) Vector4<type>

// float16 is kept as its bits in a ushort.
FUNCTION float half_to_float(ushort bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
FUNCTION ushort float_to_half(float value)
{
    ushort bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Arithmetic in float16: what sums need, and no more.
struct half {
    ushort bits;
    __device__ __forceinline__ half() {}
    __device__ __forceinline__ half(float value) : bits(float_to_half(value)) {}
    __device__ __forceinline__ operator float() const { return half_to_float(bits); }
};
FUNCTION half half_of_bits(ushort bits)
{
    half value;
    value.bits = bits;
    return value;
}
FUNCTION half fma(half x, half y, half z)
{
    ushort bits;
    asm("fma.rn.f16 %0, %1, %2, %3;" : "=h"(bits) : "h"(x.bits), "h"(y.bits), "h"(z.bits));
    return half_of_bits(bits);
}
#define HALF_OF_BITS(bits) half_of_bits(bits)

#define M 4096
#define N 4096
#define K 4096
#define BATCH 1
#define OPERAND_BYTES 2
#define C_BYTES 2
#define SUM float
#define VALUE float
#define LEFT_ALONG_K 1
#define RIGHT_ALONG_K 1
#define EPILOGUE_ARGUMENTS
#define SWAP 0
#define TILE_M 128
#define TILE_N 256
#define TILE_K 64
#define STAGES 4
#define CLUSTER_M 2
#define CLUSTER_N 1
#define SPLIT_K 1
#define STREAM_K 0
#define GROUP 8
#define CONSUMERS 2
#define PINGPONG 0
#define RESIDENT 1
#define BUFFERS 2
#define RASTER 0
#define CLUSTERS 66
#define LOADER_REGISTERS 40
#define CONSUMER_REGISTERS 232
#define STORE_TMA 1
#define CHUNK 64
#define REDUCE_LANES 4
#define REDUCE_THREADS 128


#define WGMMA "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16"
#define WGMMA_OPERANDS \
    "{" \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18," \
    "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35," \
    "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52," \
    "%53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69," \
    "%70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86," \
    "%87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103," \
    "%104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117," \
    "%118, %119, %120, %121, %122, %123, %124, %125, %126, %127" \
    "}, %128, %129, p, 1, 1, 0, 0;"
#define WGMMA_KEEP "%130"
#define WGMMA_SUMS(d) \
    "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
    "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), \
    "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), \
    "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), \
    "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), \
    "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), \
    "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), \
    "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), \
    "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), \
    "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), \
    "+f"(d[62]), "+f"(d[63]), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), \
    "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), \
    "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), \
    "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), \
    "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), \
    "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]), "+f"(d[97]), \
    "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), \
    "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), \
    "+f"(d[110]), "+f"(d[111]), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), \
    "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]), "+f"(d[121]), \
    "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

// Conversions of bfloat16 and float8, kept as their bits, in CUDA C++ after cuda.h. Needs no header
// of the CUDA toolkit. All round once, to nearest, ties to even; float8 saturates. Conversions to
// bfloat16 need sm_80, those of float8 sm_89. In a pair the first value is the lower half.
#ifndef CUDA_FORMATS
#define CUDA_FORMATS

FUNCTION float bfloat16_to_float(ushort bits) { return __uint_as_float((unsigned)bits << 16); }
FUNCTION ushort float_to_bfloat16(float value)
{
    ushort bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
FUNCTION unsigned floats_to_bfloat16x2(float x, float y)
{
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION unsigned floats_to_halfx2(float x, float y)
{
    return (unsigned)float_to_half(x) | (unsigned)float_to_half(y) << 16;
}

FUNCTION ushort floats_to_float8_e4m3x2(float x, float y)
{
    ushort bits;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION ushort floats_to_float8_e5m2x2(float x, float y)
{
    ushort bits;
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(y), "f"(x));
    return bits;
}
FUNCTION unsigned char float_to_float8_e4m3(float value)
{
    return (unsigned char)floats_to_float8_e4m3x2(value, 0.0f);
}
FUNCTION unsigned char float_to_float8_e5m2(float value)
{
    return (unsigned char)floats_to_float8_e5m2x2(value, 0.0f);
}
FUNCTION float float8_e4m3_to_float(unsigned char bits)
{
    unsigned halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((ushort)bits));
    return half_to_float((ushort)halves);
}
FUNCTION float float8_e5m2_to_float(unsigned char bits) { return half_to_float((ushort)(bits << 8)); }

#endif

#define C_TYPE ushort
#define VALUE_TO_C(x) float_to_bfloat16(x)
#define VALUES_TO_C2(x, y) floats_to_bfloat16x2(x, y)

#define EPILOGUE_PARAMETERS
#define EPILOGUE(value, row, column) (value)

// Barriers, clusters, the copy engine and warpgroup products of Hopper, a function an instruction.
//
// For sm_90a, of sm_90 all but the last two sections. Stands after cuda.h. Addresses are those of
// the shared window, 32 bits. PTX ISA 8.5: mbarrier, cp.async.bulk.tensor, wgmma, setmaxnreg.

#ifndef HOPPER_H
#define HOPPER_H

// ---- Barriers in shared memory

FUNCTION void barrier_init(unsigned barrier, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

FUNCTION void barrier_expect(unsigned barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

// Returns once the barrier has completed the phase; a new barrier counts as past phase 1.
FUNCTION void barrier_wait(unsigned barrier, int phase)
{
    asm volatile(
        "{ .reg .pred done;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again; }" ::"r"(barrier),
        "r"(phase)
        : "memory");
}

FUNCTION void barrier_arrive(unsigned barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// At the same barrier of another block of the cluster. Without .release.cluster, which would be a
// barrier of the whole GPU's memory: for those who only read shared memory before.
FUNCTION void barrier_arrive_at(unsigned barrier, int rank)
{
    asm volatile(
        "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [remote]; }" ::"r"(barrier),
        "r"(rank)
        : "memory");
}

// Makes new barriers known to the copy engine and to the cluster, before all its threads meet.
FUNCTION void barriers_publish()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// ---- Clusters

FUNCTION int cluster_rank()
{
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// All threads of the cluster meet. Relaxed: it does not make earlier writes visible.
FUNCTION void cluster_meet()
{
    asm volatile("barrier.cluster.arrive.relaxed; barrier.cluster.wait.acquire;" ::: "memory");
}

// ---- Copies by TMA: boxes of a tensor of three dimensions, coordinates from the contiguous one on

struct __align__(64) TensorMap {
    char bytes[128];
};

// Before this thread's first use of a map: it lies in global memory, where another may have lain
// that the copy engine still keeps.
FUNCTION void map_acquire(const TensorMap *map)
{
    asm volatile("fence.proxy.tensormap::generic.acquire.sys [%0], 128;" ::"l"(map) : "memory");
}

FUNCTION void tma_load(unsigned to, const TensorMap *map, unsigned barrier, int x, int y, int z)
{
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
        "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
        : "memory");
}

// To the same address, and barrier, in each block of the cluster whose bit is set in `blocks`.
FUNCTION void tma_multicast(unsigned to, const TensorMap *map, unsigned barrier, int x, int y,
                            int z, unsigned short blocks)
{
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
        "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "h"(blocks)
        : "memory");
}

FUNCTION void tma_store(const TensorMap *map, unsigned from, int x, int y, int z)
{
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];\n"
        "cp.async.bulk.commit_group;" ::"l"(map),
        "r"(from), "r"(x), "r"(y), "r"(z)
        : "memory");
}

// Once at most PENDING of this thread's stores, the latest ones, still read shared memory.
template <int PENDING> FUNCTION void tma_await_reads()
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// Makes this thread's writes to shared memory visible to the copy engine.
FUNCTION void tma_publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- Products of a warpgroup, asynchronous: groups of them are begun, committed and awaited

FUNCTION void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

FUNCTION void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int PENDING> FUNCTION void products_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// ---- Registers: from a warpgroup that needs few of them to those that need many

template <int COUNT> FUNCTION void registers_give()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT> FUNCTION void registers_take()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

#endif

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

// How the sums of a warp reach C: through the epilogue and, by TMA, through shared memory; or
// straight from registers; or, unfinished, to the partial sums of split-K.
//
// Stands after cuda.h, hopper.h, wgmma_tiles.h and wgmma_layout.h.

#ifndef WGMMA_STORE_H
#define WGMMA_STORE_H

// ---- The workload: types and the epilogue

#ifndef SUM
#define SUM float    // what the tensor cores add in
#define VALUE float  // what the epilogue computes in
#endif
#ifndef C_TYPE
#include "../dialects/cuda_formats.h"
#define C_TYPE ushort                                     // an element of C in memory
#define VALUE_TO_C(x) float_to_bfloat16(x)                // what a value becomes there
#define VALUES_TO_C2(x, y) floats_to_bfloat16x2(x, y)  // and two neighbours, of 2 bytes or 1
#endif
#ifndef EPILOGUE
#define EPILOGUE_PARAMETERS                   // further kernel parameters, each after a comma
#define EPILOGUE(value, row, column) (value)  // rows are counted through the whole batch
#endif
#ifndef EPILOGUE_ARGUMENTS
#define EPILOGUE_ARGUMENTS  // the same names, each after a comma
#endif

// ---- The schedule

#ifndef STORE_TMA
#define STORE_TMA 1  // 1: C goes through shared memory and TMA; 0: straight from registers
#endif
#ifndef BUFFERS
#define BUFFERS 2  // pieces of C that a warp may have on the way through shared memory
#endif
#ifndef REDUCE_LANES
#define REDUCE_LANES 4  // neighbours in a row that one thread of `reduce` adds: 4, or 1
#define REDUCE_THREADS 128
#endif

// ---- Values
//
// Of 16 rows and 16 columns of sums, a lane of a warp has 8, at these distances from its first,
// which is at row lane / 4 and column lane % 4 * 2.

#define LANE_ROW(i) ((i) / 2 % 2 * 8)
#define LANE_COLUMN(i) ((i) % 2 + (i) / 4 * 8)

// Whether a row, or column, of a unit's tile lies in C, or in the group; most often all do.
#define WHOLE_ROWS ((SWAP || ROW_GROUPS == 0) && ROWS % (TILE_M * CLUSTER_M) == 0)
#define WHOLE_COLUMNS ((!SWAP || ROW_GROUPS == 0) && COLUMNS % (TILE_N * CLUSTER_N) == 0)
#define IN_ROWS(row) (WHOLE_ROWS || (row) < unit.row_end)
#define IN_COLUMNS(column) (WHOLE_COLUMNS || (column) < unit.column_end)

// Which row of C that is, counted through the whole batch.
FUNCTION size_t row_of_c(const Unit &unit, int row, int column)
{
    return (size_t)unit.batch * M + (SWAP ? column : row);
}

// What a sum becomes in C; anything outside of C.
FUNCTION VALUE finished(SUM sum, const Unit &unit, int row, int column EPILOGUE_PARAMETERS)
{
    if (!IN_ROWS(row) || !IN_COLUMNS(column)) return 0;
    return EPILOGUE((VALUE)sum, row_of_c(unit, row, column), SWAP ? row : column);
}

// One element of C, or two neighbours.
FUNCTION void store_one(void *to, VALUE value) { *(C_TYPE *)to = VALUE_TO_C(value); }

FUNCTION void store_two(void *to, VALUE first, VALUE second)
{
#if C_BYTES == 4
    *(Vector2<C_TYPE> *)to = {VALUE_TO_C(first), VALUE_TO_C(second)};
#elif C_BYTES == 2
    *(unsigned *)to = VALUES_TO_C2(first, second);
#else
    *(ushort *)to = VALUES_TO_C2(first, second);
#endif
}

// ---- The three ways

#if SPLIT_K > 1
// Sums of a part of k: SPLIT_K x (BATCH * M) x N.
FUNCTION void store_partial(const SUM *sums, SUM *partial, const Unit &unit, int row, int column)
{
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const int r = row + LANE_ROW(i), q = column + LANE_COLUMN(i);
        const size_t c_row = (size_t)unit.part * BATCH * M + row_of_c(unit, r, q);
        SUM *to = partial + c_row * N + (SWAP ? r : q);
        if (!IN_ROWS(r)) continue;
        if (!SWAP && N % 2 == 0) {
            if (IN_COLUMNS(q)) *(Vector2<SUM> *)to = {sums[i], sums[i + 1]};
        } else {
            if (IN_COLUMNS(q)) to[0] = sums[i];
            if (IN_COLUMNS(q + 1)) to[SWAP ? N : 1] = sums[i + 1];
        }
    }
}
#elif !STORE_TMA
FUNCTION void store_direct(const VALUE *values, char *c, const Unit &unit, int row, int column)
{
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const int r = row + LANE_ROW(i), q = column + LANE_COLUMN(i);
        char *to = c + (row_of_c(unit, r, q) * N + (SWAP ? r : q)) * C_BYTES;
        if (!IN_ROWS(r)) continue;
        if (!SWAP && N % 2 == 0) {
            if (IN_COLUMNS(q)) store_two(to, values[i], values[i + 1]);
        } else {
            if (IN_COLUMNS(q)) store_one(to, values[i]);
            if (IN_COLUMNS(q + 1)) store_one(to + (SWAP ? (size_t)N : 1) * C_BYTES, values[i + 1]);
        }
    }
}
#else
// 16 x 16 values of a warp into its piece of C, from `column` of the piece on; turned if SWAP.
FUNCTION void stage_values(const VALUE *values, unsigned piece, int column)
{
    const int lane = threadIdx.x % 32;
#if C_BYTES == 2
    // Four matrices of 8 x 8; lane l gives the address of row l % 8 of matrix l / 8.
    const int down = lane / 8 % 2 * 8, right = lane / 16 * 8;
    const unsigned to = piece + (SWAP ? staged(column + right + lane % 8, down)
                                      : staged(down + lane % 8, column + right));
#if SWAP
#define STMATRIX "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
#else
#define STMATRIX "stmatrix.sync.aligned.m8n8.x4.shared.b16"
#endif
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = VALUES_TO_C2(values[2 * i], values[2 * i + 1]);
    asm volatile(STMATRIX " [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(pairs[0]), "r"(pairs[1]),
                 "r"(pairs[2]), "r"(pairs[3])
                 : "memory");
#else
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const int r = lane / 4 + LANE_ROW(i), q = column + lane % 4 * 2 + LANE_COLUMN(i);
        if (SWAP) {
            store_one(__cvta_shared_to_generic(piece + staged(q, r)), values[i]);
            store_one(__cvta_shared_to_generic(piece + staged(q + 1, r)), values[i + 1]);
        } else {
            store_two(__cvta_shared_to_generic(piece + staged(r, q)), values[i], values[i + 1]);
        }
    }
#endif
}

// Once at most BUFFERS - 1 copies of this warp still read shared memory, the next piece is free.
FUNCTION void await_piece()
{
    if (threadIdx.x % 32 == 0) tma_await_reads<BUFFERS - 1>();
    __syncwarp();
}

FUNCTION void send_piece(const TensorMap *map, unsigned piece, int batch, int row, int column)
{
    tma_publish();
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        tma_store(map, piece, SWAP ? row : column, SWAP ? column : row, batch);
}
#endif

#if SPLIT_K > 1
#define RESULT SUM *RESTRICT partial
#elif STORE_TMA
#define RESULT const TensorMap *RESTRICT c_map EPILOGUE_PARAMETERS
#else
#define RESULT char *RESTRICT c EPILOGUE_PARAMETERS
#endif

// What a warp does with 16 rows of sums, from `row` on. `buffers`: its pieces of shared memory;
// `buffer`, the one whose turn it is.
FUNCTION void store_rows(const SUM *sums, const Unit &unit, int row, unsigned buffers, int &buffer,
                         RESULT)
{
    const int lane = threadIdx.x % 32;
    int first_column = unit.column;
    asm volatile("" : "+r"(first_column));  // or biases would be kept from rows to rows, and spill
#pragma unroll
    for (int chunk = 0; chunk < TILE_N; chunk += CHUNK) {
#if SPLIT_K == 1 && STORE_TMA
        const unsigned piece = buffers + buffer * PIECE_BYTES;
        await_piece();
#endif
#pragma unroll
        for (int at = chunk; at < chunk + CHUNK; at += 16) {
            const int lane_row = row + lane / 4, lane_column = first_column + at + lane % 4 * 2;
#if SPLIT_K > 1
            store_partial(sums + at / 2, partial, unit, lane_row, lane_column);
#else
            VALUE values[8];
#pragma unroll
            for (int i = 0; i < 8; i++)
                values[i] = finished(sums[at / 2 + i], unit, lane_row + LANE_ROW(i),
                                     lane_column + LANE_COLUMN(i) EPILOGUE_ARGUMENTS);
#if STORE_TMA
            stage_values(values, piece, at - chunk);
#else
            store_direct(values, c, unit, lane_row, lane_column);
#endif
#endif
        }
#if SPLIT_K == 1 && STORE_TMA
        send_piece(c_map, piece, unit.batch, row, first_column + chunk);
        buffer = buffer + 1 == BUFFERS ? 0 : buffer + 1;
#endif
    }
}

#if STREAM_K
#define SHARES , SUM *RESTRICT partial
#define SHARES_ARGUMENT , partial
#else
#define SHARES
#define SHARES_ARGUMENT
#endif

#if SPLIT_K > 1
#define RESULT_ARGUMENTS partial
#elif STORE_TMA
#define RESULT_ARGUMENTS c_map EPILOGUE_ARGUMENTS
#else
#define RESULT_ARGUMENTS c EPILOGUE_ARGUMENTS
#endif

// ---- The parts of split-K

#if SPLIT_K > 1
// Adds the parts in their order, so that the result does not depend on timing.
KERNEL __launch_bounds__(REDUCE_THREADS) void reduce(const SUM *RESTRICT partial,
                                                     char *RESTRICT c EPILOGUE_PARAMETERS)
{
    const size_t elements = (size_t)BATCH * M * N;
    const size_t first = ((size_t)blockIdx.x * REDUCE_THREADS + threadIdx.x) * REDUCE_LANES;
    if (first >= elements) return;
    SUM sums[REDUCE_LANES] = {};
#pragma unroll
    for (int part = 0; part < SPLIT_K; part++) {
        const SUM *from = partial + part * elements + first;
#if REDUCE_LANES == 4
        const Vector4<SUM> four = *(const Vector4<SUM> *)from;
        sums[0] += four.x, sums[1] += four.y, sums[2] += four.z, sums[3] += four.w;
#else
        sums[0] += *from;
#endif
    }
#ifdef EPILOGUE_GROUP
    Unit unit;
    unit.product = row_group_of_row((int)(first / N));
#endif
#pragma unroll
    for (int lane = 0; lane < REDUCE_LANES; lane++)
        store_one(c + (first + lane) * C_BYTES,
                  EPILOGUE((VALUE)sums[lane], first / N, (int)(first % N) + lane));
}
#endif

// ---- The shares of stream-K

#if STREAM_K
// Where a thread of a consumer keeps 4 of its sums, of 8 columns: slots are as large as a tile, and
// threads lie side by side.
FUNCTION Vector4<SUM> *share_of(const SUM *partial, int slot, int block, int columns)
{
    const size_t first = ((size_t)slot * (TILE_M / 64) + block) * (TILE_N / 8) + columns;
    return (Vector4<SUM> *)partial + first * 128 + threadIdx.x % 128;
}

// The sums of 64 rows, number `block` of the tile.
FUNCTION void store_share(const SUM *sums, SUM *partial, int slot, int block)
{
#pragma unroll
    for (int columns = 0; columns < TILE_N / 8; columns++) {
        const SUM *four = sums + columns * 4;
        *share_of(partial, slot, block, columns) = {four[0], four[1], four[2], four[3]};
    }
}

// Adds the shares of every tile that has several, in their order. A block is 8 columns of 64 rows.
KERNEL __launch_bounds__(128) void reduce(const SUM *RESTRICT partial,
                                          char *RESTRICT c EPILOGUE_PARAMETERS)
{
    const int columns = blockIdx.x % (TILE_N / 8), rest = blockIdx.x / (TILE_N / 8);
    const int block = rest % (TILE_M / 64), rank = rest / (TILE_M / 64) % CLUSTER;
    const int tile = rest / (TILE_M / 64) / CLUSTER;
    const int first = sharer_of((long long)tile * STEPS);
    const int last = sharer_of((long long)(tile + 1) * STEPS - 1);
    if (first == last) return;

    SUM sums[4] = {};
    for (int sharer = first; sharer <= last; sharer++) {
        if (share_begin(sharer) == share_begin(sharer + 1)) continue;
        const int slot = slot_of(sharer, tile) * CLUSTER + rank;
        const Vector4<SUM> four = *share_of(partial, slot, block, columns);
        sums[0] += four.x, sums[1] += four.y, sums[2] += four.z, sums[3] += four.w;
    }
    const Unit unit = unit_of(first, tile - share_first(first), rank);
    const int lane = threadIdx.x % 32;
    const int row = unit.row + block * 64 + threadIdx.x / 32 * 16 + lane / 4;
    const int column = unit.column + columns * 8 + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int r = row + LANE_ROW(i), q = column + LANE_COLUMN(i);
        const VALUE value = finished(sums[i], unit, r, q EPILOGUE_ARGUMENTS);
        const size_t place = row_of_c(unit, r, q) * N + (SWAP ? r : q);
        if (IN_ROWS(r) && IN_COLUMNS(q)) store_one(c + place * C_BYTES, value);
    }
}
#endif

#endif

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
