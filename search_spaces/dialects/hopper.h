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
