// Hopper's instructions for cuda_emulation.cpp: barriers, the copy engine, warpgroup products.
//
// The blocks of a cluster run together, their shared memories told apart by the bits of addresses
// above 24, as on the silicon. With EMULATION_LATE, what is asynchronous happens as late as it may:
// loads when somebody waits for their barrier, products and stores when they are awaited.

#include "cuda_emulation.h"

namespace emulation {
static unsigned char *shared_at(uint64_t address, unsigned bytes);
}

#define EMULATION_CLUSTERS
#define parse parse_plain
#define launch launch_plain
#include "cuda_emulation.cpp"
#undef parse
#undef launch

#include <algorithm>
#include <array>
#include <deque>
#include <functional>

#include "hopper_emulation.h"

namespace emulation {

// ---- Clusters: fibres of one block after another

static const unsigned MAX_CLUSTER = 4, RANK_SHIFT = 24;
alignas(1024) static unsigned char memories[MAX_CLUSTER][SHARED_BYTES];
static Meeting cluster_meeting, block_meetings[MAX_CLUSTER];
unsigned cluster_blocks = 1;

static unsigned rank() { return unsigned(running / (fibres.size() / cluster_blocks)); }

void wait_for_block(const void *place)
{
    meet(block_meetings[rank()], fibres.size() / cluster_blocks, place, [] {});
}

unsigned shared_window(const void *pointer)
{
    return rank() << RANK_SHIFT | unsigned((const unsigned char *)pointer - dynamic_shared);
}

static uint64_t at_rank(uint64_t address, unsigned rank)
{
    return (address & ((1 << RANK_SHIFT) - 1)) | (uint64_t)rank << RANK_SHIFT;
}

static unsigned char *shared_at(uint64_t address, unsigned bytes)
{
    const uint64_t block = address >> RANK_SHIFT, offset = at_rank(address, 0);
    if (block >= cluster_blocks || offset + bytes > SHARED_BYTES)
        fail("an address outside of shared memory");
    if (address % bytes) fail("an address in shared memory that is not aligned");
    return memories[block] + offset;
}

void *shared_pointer(unsigned address) { return shared_at(address, 1); }

typedef std::function<void()> Action;

static std::deque<Action> loads;  // of the block, on their way
struct Pending {
    std::vector<std::vector<Action>> products, stores;  // of a thread; the last group is open
    size_t over = 0;                                    // groups of products
};
static std::map<size_t, Pending> pending;

static Pending &of_thread(size_t thread)
{
    Pending &found = pending[thread];
    if (found.products.empty()) found.products.resize(1), found.stores.resize(1);
    return found;
}

static Pending &mine() { return of_thread(running); }

struct NamedBarrier {
    size_t arrived, generation;
};
static std::map<std::pair<unsigned, uint64_t>, NamedBarrier> named_barriers;  // by block and number

static void await(std::vector<std::vector<Action>> &groups, size_t left)
{
    while (groups.size() > left + 1) {
        for (const Action &action : groups.front()) action();
        groups.erase(groups.begin());
    }
}

static size_t run_threads(size_t first_block)
{
    const size_t threads = fibres.size() / cluster_blocks;
    size_t ended = 0;
    for (size_t i = 0; i < fibres.size(); i++) {
        running = reversed ? fibres.size() - 1 - i : i;
        if (fibres[running].done) continue;
        thread_index = index_of(running % threads, block_size);
        block_index = index_of(first_block + running / threads, grid_size);
        dynamic_shared = memories[running / threads];
        swapcontext(&scheduler, &fibres[running].context);
        if (fibres[running].done) ended++, progress = true;
    }
    return ended;
}

static void run_cluster(size_t first_block, unsigned shared_bytes, unsigned char *stacks)
{
    memset(memories, 0xFF, sizeof memories);  // NaN
    loads.clear(), pending.clear(), named_barriers.clear(), cluster_meeting = {};
    std::fill_n(block_meetings, MAX_CLUSTER, Meeting{});
    for (size_t at = 0; at < fibres.size(); at++) {
        Fibre &fibre = fibres[at];
        fibre.done = false;
        fibre.groups.assign(1, {});
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = stacks + at * STACK_BYTES;
        fibre.context.uc_stack.ss_size = STACK_BYTES;
        fibre.context.uc_link = nullptr;
        makecontext(&fibre.context, trampoline, 0);
    }
    for (size_t ended = 0; ended < fibres.size();) {
        progress = false;
        ended += run_threads(first_block);
        if (!progress) fail("threads wait for each other, or for threads that have ended");
    }
    for (unsigned block = 0; block < MAX_CLUSTER; block++)
        for (size_t at = block < cluster_blocks ? shared_bytes : 0; at < SHARED_BYTES; at++)
            if (memories[block][at] != 0xFF) fail("a write beyond the shared memory of the launch");
}

void launch(const unsigned (&grid)[3], const unsigned (&group)[3], unsigned shared_bytes,
            void (*entry)(void *), void *argument)
{
    static unsigned char *stacks = (unsigned char *)mmap(
        nullptr, 2048 * STACK_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {group[0], group[1], group[2]};
    const size_t blocks = (size_t)grid[0] * grid[1] * grid[2];
    if (blocks % cluster_blocks) fail("a grid that is not made of whole clusters");
    fibres.resize((size_t)group[0] * group[1] * group[2] * cluster_blocks);
    meetings.assign(fibres.size() / 32 + 1, Meeting{});
    entry_point = entry, entry_argument = argument;
    for (size_t first = 0; first < blocks; first += cluster_blocks)
        run_cluster(first, shared_bytes, stacks);
}

static void cluster_rank(Site &, const Operand *operands)
{
    const unsigned value = rank();
    memcpy(operands[0].at, &value, sizeof value);
}

static void cluster_meet(Site &site, const Operand *)
{
    meet(cluster_meeting, fibres.size(), &site, [] {});
}

// mapa.u64: the same place in the memory of another block.
static void map_pointer(Site &site, const Operand *operands)
{
    const uint64_t offset = argument(site, operands, 1) - (uint64_t)dynamic_shared;
    set(site, operands, 0, 0, shared_at(at_rank(offset, argument(site, operands, 2)), 1));
}

// ---- Barriers: 8 bytes of shared memory

struct Barrier {
    int16_t expected, awaited : 15;
    uint16_t phase : 1;
    int32_t bytes;
};
static_assert(sizeof(Barrier) <= 8);

static Barrier &barrier_at(uint64_t address) { return *(Barrier *)shared_at(address, 8); }

static void change(Barrier &barrier, int arrivals, int bytes)
{
    barrier.awaited -= arrivals;
    barrier.bytes += bytes;
    if (barrier.awaited < 0) fail("more arrivals at a barrier than its phase expects");
    if (barrier.awaited == 0 && barrier.bytes == 0) {
        barrier.phase ^= 1;
        barrier.awaited = barrier.expected;
    }
    progress = true;
}

static void barrier_init(Site &site, const Operand *operands)
{
    const int16_t count = argument(site, operands, 1);
    barrier_at(argument(site, operands, 0)) = {count, count, 0, 0};
}

static void barrier_expect(Site &site, const Operand *operands)
{
    change(barrier_at(argument(site, operands, 0)), 1, argument(site, operands, 1));
}

static void barrier_arrive(Site &site, const Operand *operands)
{
    const bool remote = site.has("shared::cluster");  // its address is made before, by mapa
    const uint64_t barrier = operands[0].value;
    change(barrier_at(remote ? at_rank(barrier, operands[1].value) : barrier), 1, 0);
}

static void barrier_wait(Site &site, const Operand *operands)
{
    const Barrier &barrier = barrier_at(argument(site, operands, 0));
    const unsigned phase = argument(site, operands, 1);
    wait_until([&] {
        while (barrier.phase == phase && !loads.empty()) {
            const Action load = loads.front();
            loads.pop_front();
            load();
        }
        return barrier.phase != phase;
    });
}

// ---- The copy engine

static uint64_t swizzled(uint64_t address, uint64_t width)
{
    return width < 32 ? address : address ^ (address >> 7 & (width / 16 - 1)) << 4;
}

typedef std::array<int, 5> Coordinates;

static Coordinates coordinates(Site &site, const Operand *operands, size_t group)
{
    Coordinates at = {};
    for (size_t i = 0; i < site.arguments.at(group).size(); i++)
        at[i] = argument(site, operands, group, i);
    return at;
}

// Each element of a box: its shared address, and that in the tensor or null outside.
template <typename ACT>
static void walk(const TensorMap &map, uint64_t shared, const Coordinates &at, ACT act)
{
    const int repeat = map.swizzle_bytes * 8;  // bytes after which the pattern repeats
    if (shared % (map.swizzle_bytes ? repeat : 128)) fail("a box that is not aligned");
    Coordinates inside_box = {};
    int count = 1;
    for (int extent : map.box) count *= extent;
    for (int done = 0; done < count; done++, shared += map.element_bytes) {
        bool inside = true;
        unsigned char *element = map.first;
        for (int i = 0; i < 5; i++) {
            const int64_t place = at[i] + inside_box[i];
            inside &= place >= 0 && place < map.shape[i];
            element += place * (i ? map.stride_bytes[i - 1] : map.element_bytes);
        }
        act(shared_at(swizzled(shared, map.swizzle_bytes), map.element_bytes),
            inside ? element : nullptr);
        for (int i = 0; i < 5 && ++inside_box[i] == map.box[i]; i++) inside_box[i] = 0;
    }
}

static void tma_load(Site &site, const Operand *operands)
{
    const uint64_t to = argument(site, operands, 0), barrier = argument(site, operands, 3);
    const TensorMap &map = *(const TensorMap *)argument(site, operands, 1);
    const Coordinates at = coordinates(site, operands, 2);
    const bool multicast = site.has("multicast::cluster");
    const unsigned blocks = multicast ? argument(site, operands, 4) : 1 << (to >> RANK_SHIFT);
    for (unsigned block = 0; block < MAX_CLUSTER; block++) {
        if (!(blocks >> block & 1)) continue;
        const Action load = [=, &map] {
            walk(map, at_rank(to, block), at, [&](unsigned char *shared, unsigned char *element) {
                if (element)
                    memcpy(shared, element, map.element_bytes);
                else
                    memset(shared, 0, map.element_bytes);
            });
            int bytes = map.element_bytes;
            for (int extent : map.box) bytes *= extent;
            change(barrier_at(at_rank(barrier, block)), 0, -bytes);
        };
        if (late)
            loads.push_back(load);
        else
            load();
    }
}

static void tma_store(Site &site, const Operand *operands)
{
    const TensorMap &map = *(const TensorMap *)argument(site, operands, 0);
    const uint64_t from = argument(site, operands, 2);
    const Coordinates at = coordinates(site, operands, 1);
    const Action store = [=, &map] {
        walk(map, from, at, [&](const unsigned char *shared, unsigned char *element) {
            if (element) memcpy(element, shared, map.element_bytes);
        });
    };
    if (!late) store();
    mine().stores.back().push_back(late ? store : [] {});
    mine().stores.emplace_back();
}

static void tma_wait(Site &site, const Operand *operands)
{
    await(mine().stores, argument(site, operands, 0));
}

// ---- Products: each thread computes the sums that it holds

// Byte `byte` of k, of a row (or column) of an operand, from a descriptor: PTX ISA, "Strides".
static const unsigned char *element_at(uint64_t descriptor, bool along_k, int row, int k, int bytes)
{
    const uint64_t start = (descriptor & 0x3FFF) << 4;
    const uint64_t leading = (descriptor >> 16 & 0x3FFF) << 4;
    const uint64_t stride = (descriptor >> 32 & 0x3FFF) << 4;
    if (descriptor >> 62 != 1) fail("a swizzle that is not emulated");
    const uint64_t along = row / 8 * stride + row % 8 * 128 + k * bytes;
    const uint64_t across = row / 64 * leading + row % 64 * bytes + k / 8 * stride + k % 8 * 128;
    const uint64_t offset = swizzled(start + (along_k ? along : across), 128);
    return shared_at(at_rank(offset, rank()), bytes);
}

// The kind of a product, and where its right operand lies.
struct Product {
    size_t sums;
    Decoder decode;
    int bytes, depth;
    bool whole, keep, right_along_k;
    uint64_t right;

    // Of one thread: sums of `row_of` its rows and the columns of the right operand.
    template <typename LEFT> void compute(void *const *registers, size_t thread, LEFT left) const
    {
        for (size_t i = 0; i < sums; i++) {
            const int column = i / 4 * 8 + thread % 4 * 2 + i % 2;
            double total = 0;
            for (int k = 0; k < depth; k++)
                total += left(i / 2 % 2, k) *
                         decode(element_at(right, right_along_k, column, k, bytes));
            if (whole)
                *(int32_t *)registers[i] = (int32_t)(total + (keep ? *(int32_t *)registers[i] : 0));
            else
                *(float *)registers[i] = (float)(total + (keep ? *(float *)registers[i] : 0));
        }
    }
};

static Product product_of(Site &site, const Operand *operands)
{
    const std::string &type = site.name.back();
    const size_t sums = site.arguments[0].size(), left = site.arguments[1].size();
    const bool in_registers = left > 1;
    const size_t factors = 5, transposed = factors + !in_registers;
    const int bytes = type == "tf32" ? 4 : type == "f16" || type == "bf16" ? 2 : 1;
    if (atoi(strchr(site.name[4].c_str(), 'n') + 1) != (int)(2 * sums))
        fail("registers of a product");
    Product product{sums, DECODERS.at(type), bytes, 32 / bytes};
    product.whole = site.name[site.name.size() - 3] == "s32";
    product.keep = operands[sums + left + 1].value & 0xFFFFFFFF;
    product.right = argument(site, operands, 2);
    product.right_along_k =
        site.arguments.size() <= factors || argument(site, operands, transposed) == 0;
    return product;
}

static std::vector<void *> sums_of(const Site &site, const Operand *operands)
{
    std::vector<void *> registers;
    for (int each : site.arguments[0]) registers.push_back(operands[each].at);
    return registers;
}

static void add_product(size_t thread, const Action &action)
{
    if (!late) action();
    of_thread(thread).products.back().push_back(late ? action : [] {});
}

static void multiply_from_memory(Site &site, const Operand *operands)
{
    const Product product = product_of(site, operands);
    const uint64_t left = argument(site, operands, 1);
    const bool along_k = site.arguments.size() <= 5 || argument(site, operands, 5) == 0;
    const size_t thread = running;
    const std::vector<void *> registers = sums_of(site, operands);
    add_product(thread, [=] {
        const int first_row = thread % 128 / 32 * 16 + thread % 32 / 4;
        product.compute(registers.data(), thread, [&](int half, int k) {
            return product.decode(
                element_at(left, along_k, first_row + 8 * half, k, product.bytes));
        });
    });
}

// The left operand as `mma.sync` takes it: rows l / 4 and 8 further down, of the first 16 bytes of
// k, then of the last.
static void multiply_from_registers(Site &site, const Operand *operands)
{
    together(site, operands, [&](const Operand **all) {
        std::array<std::array<unsigned char, 32>, 16> left;
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 4; i++) {
                const uint32_t word = argument(site, all[l], 1, i);
                memcpy(&left[l / 4 + i % 2 * 8][i / 2 * 16 + l % 4 * 4], &word, 4);
            }
        for (int l = 0; l < 32; l++) {
            const Product product = product_of(site, all[l]);
            const std::vector<void *> registers = sums_of(site, all[l]);
            add_product(running / 32 * 32 + l, [=] {
                product.compute(registers.data(), l, [&](int half, int k) {
                    return product.decode(&left[l / 4 + 8 * half][k * product.bytes]);
                });
            });
        }
    });
}

static void multiply_warpgroup(Site &site, const Operand *operands)
{
    if (site.arguments[1].size() > 1)
        multiply_from_registers(site, operands);
    else
        multiply_from_memory(site, operands);
}

static void products_commit(Site &, const Operand *) { mine().products.emplace_back(); }

// A group of products is over for all warps of a warpgroup at the same time.
static void products_wait(Site &site, const Operand *operands)
{
    const Pending &own = mine();
    const size_t left = argument(site, operands, 0), first = running / 128 * 128;
    if (own.products.size() - 1 <= left) return;
    const size_t over = own.over + own.products.size() - 1 - left;
    wait_until([&] {
        for (size_t thread = first; thread < first + 128; thread++)
            if (of_thread(thread).over + of_thread(thread).products.size() - 1 < over) return false;
        return true;
    });
    for (size_t thread = first; thread < first + 128; thread++) {
        Pending &each = of_thread(thread);
        if (each.over >= over) continue;
        await(each.products, each.products.size() - 1 - (over - each.over));
        each.over = over;
    }
}

static void store_matrix(Site &site, const Operand *operands)
{
    together(site, operands, [&](const Operand **all) {
        const bool transposed = site.has("trans");
        for (size_t matrix = 0; matrix < site.arguments[1].size(); matrix++)
            for (int l = 0; l < 32; l++)
                for (int half = 0; half < 2; half++) {
                    const uint16_t value = argument(site, all[l], 1, matrix) >> 16 * half;
                    const int row = l / 4, column = l % 4 * 2 + half;
                    const int line = transposed ? column : row, place = transposed ? row : column;
                    unsigned char *to = shared_at(argument(site, all[matrix * 8 + line], 0), 16);
                    memcpy(to + 2 * place, &value, 2);
                }
    });
}

static void nothing(Site &, const Operand *) {}

// ---- Barriers by number, and votes

static void named_barrier(Site &site, const Operand *operands)
{
    NamedBarrier &barrier = named_barriers[{rank(), argument(site, operands, 0)}];
    const size_t generation = barrier.generation;
    if (++barrier.arrived == argument(site, operands, 1))
        barrier.arrived = 0, barrier.generation++;
    progress = true;
    if (site.has("sync")) wait_until([&] { return barrier.generation != generation; });
}

bool any(const void *place, bool mine)
{
    uint64_t values[32];
    exchange(place, mine, values);
    return std::any_of(values, values + 32, [](uint64_t each) { return each != 0; });
}

// ---- The instruction that an asm statement of several is about

static const std::vector<std::pair<const char *, void (*)(Site &, const Operand *)>> HOPPER = {
    {"mbarrier.init", barrier_init},
    {"mbarrier.arrive.expect_tx", barrier_expect},
    {"mbarrier.arrive", barrier_arrive},
    {"mbarrier.try_wait", barrier_wait},
    {"cp.async.bulk.tensor.3d.shared", tma_load},
    {"cp.async.bulk.tensor.4d.shared", tma_load},
    {"cp.async.bulk.tensor.5d.shared", tma_load},
    {"cp.async.bulk.tensor.3d.global", tma_store},
    {"cp.async.bulk.tensor.5d.global", tma_store},
    {"cp.async.bulk.wait_group", tma_wait},
    {"wgmma.mma_async", multiply_warpgroup},
    {"wgmma.commit_group", products_commit},
    {"wgmma.wait_group", products_wait},
    {"wgmma.fence", nothing},
    {"stmatrix", store_matrix},
    {"bar.", named_barrier},
    {"mov.u32 %0, %%cluster_ctarank", cluster_rank},
    {"mapa.u64", map_pointer},
    {"barrier.cluster", cluster_meet},
    {"fence.", nothing},
    {"setmaxnreg", nothing},
};

Site *parse(const char *text)
{
    const std::string all(text);
    if (all.empty()) return new Site{{}, {}, nothing};
    for (const auto &[prefix, run] : HOPPER) {
        const size_t start = all.find(prefix);
        if (start == std::string::npos) continue;
        const std::string one = all.substr(start, all.find(';', start) - start);
        const size_t space = one.find(' ');
        const std::string rest = space == std::string::npos ? "" : one.substr(space);
        Site *site = parse_plain(("cvt." + rest).c_str());  // for its arguments
        site->name = split(one.substr(0, space), '.');
        site->run = run;
        return site;
    }
    return parse_plain(text);
}

}  // namespace emulation
