// The runtime of cuda_emulation.h: fibres, barriers, and an interpreter of PTX instructions.

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <map>
#include <string>
#include <vector>

#include "cuda_emulation.h"

namespace emulation {

[[noreturn]] static void fail(const std::string &what)
{
    fprintf(stderr, "thread %u of block (%u, %u, %u): %s\n", thread_index.x, block_index.x,
            block_index.y, block_index.z, what.c_str());
    exit(3);
}

// ---- Settings: adversaries of missing synchronisation

static bool setting(const char *name)
{
    const char *value = getenv(name);
    return value && *value == '1';
}
static const bool reversed = setting("EMULATION_REVERSED");  // last thread, last block first
static const bool late = setting("EMULATION_LATE");  // copies arrive when waited for, not at once

// ---- Fibres

struct Copy {
    unsigned char *to;
    const unsigned char *from;
    int bytes, read;
};

struct Fibre {
    ucontext_t context;
    bool done;
    std::vector<std::vector<Copy>> groups;  // of asynchronous copies, the last one still open
};

struct Meeting {
    const void *place;
    unsigned arrived, generation;
    const Operand *operands[32];
    uint64_t values[32];
};

static const size_t STACK_BYTES = 256 << 10, SHARED_BYTES = 256 << 10;
static std::vector<Fibre> fibres;
static std::vector<Meeting> meetings;  // of each warp; the last one of the block
static ucontext_t scheduler;
static size_t running;
static bool progress;
static void (*entry_point)(void *);
static void *entry_argument;

alignas(1024) static unsigned char shared_memory[SHARED_BYTES];
unsigned char *dynamic_shared = shared_memory;
uint3_ thread_index, block_index, block_size, grid_size;

int lane() { return (int)(running % 32); }

static void yield() { swapcontext(&fibres[running].context, &scheduler); }

template <typename READY> static void wait_until(READY ready)
{
    while (!ready()) yield();
    progress = true;
}

static void trampoline()
{
    entry_point(entry_argument);
    fibres[running].done = true;
    yield();
}

static uint3_ index_of(size_t at, const uint3_ &size)
{
    return {unsigned(at % size.x), unsigned(at / size.x % size.y), unsigned(at / size.x / size.y)};
}

// Each thread of it until it waits; how many have ended by that.
static size_t run_warp(size_t warp)
{
    size_t ended = 0;
    for (size_t i = 0; i < 32; i++) {
        running = warp * 32 + (reversed ? 31 - i : i);
        if (running >= fibres.size() || fibres[running].done) continue;
        thread_index = index_of(running, block_size);
        swapcontext(&scheduler, &fibres[running].context);
        if (fibres[running].done) ended++, progress = true;
    }
    return ended;
}

static void run_block(unsigned shared_bytes, unsigned char *stacks)
{
    memset(shared_memory, 0xFF, SHARED_BYTES);  // NaN
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
    const size_t warps = (fibres.size() + 31) / 32;
    for (size_t ended = 0; ended < fibres.size();) {
        bool any = false;
        for (size_t i = 0; i < warps; i++) {
            do {  // as far ahead of the others as it gets
                progress = false;
                ended += run_warp(reversed ? warps - 1 - i : i);
                any |= progress;
            } while (progress);
        }
        if (!any) fail("threads wait for each other, or for threads that have ended");
    }
    for (size_t at = shared_bytes; at < SHARED_BYTES; at++)
        if (shared_memory[at] != 0xFF) fail("a write beyond the shared memory of the launch");
}

void launch(const unsigned (&grid)[3], const unsigned (&group)[3], unsigned shared_bytes,
            void (*entry)(void *), void *argument)
{
    static unsigned char *stacks = (unsigned char *)mmap(
        nullptr, 1024 * STACK_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {group[0], group[1], group[2]};
    const size_t threads = (size_t)group[0] * group[1] * group[2];
    const size_t blocks = (size_t)grid[0] * grid[1] * grid[2];
    fibres.resize(threads);
    meetings.assign((threads + 31) / 32 + 1, Meeting{});
    entry_point = entry, entry_argument = argument;
    for (size_t i = 0; i < blocks; i++) {
        block_index = index_of(reversed ? blocks - 1 - i : i, grid_size);
        run_block(shared_bytes, stacks);
    }
}

// ---- Meetings: of a warp or a block; the last one to arrive acts for all

template <typename ACT>
static void meet(Meeting &meeting, size_t members, const void *place, ACT act)
{
    if (meeting.arrived == 0) meeting.place = place;
    if (meeting.place != place) fail("threads meet at different places of the program");
    if (++meeting.arrived == members) {
        act();
        meeting.arrived = 0;
        meeting.generation++;
        progress = true;
    } else {
        const unsigned generation = meeting.generation;
        wait_until([&] { return meeting.generation != generation; });
    }
}

static Meeting &warp() { return meetings[running / 32]; }

static size_t warp_members()
{
    const size_t first = running / 32 * 32;
    return fibres.size() - first < 32 ? fibres.size() - first : 32;
}

#ifndef EMULATION_CLUSTERS
void wait_for_block(const void *place)
{
    meet(meetings.back(), fibres.size(), place, [] {});
}
#endif

void wait_for_warp(const void *place)
{
    meet(warp(), warp_members(), place, [] {});
}

void exchange(const void *place, uint64_t value, uint64_t (&values)[32])
{
    Meeting &meeting = warp();
    meeting.values[lane()] = value;
    meet(meeting, warp_members(), place, [] {});
    memcpy(values, meeting.values, sizeof values);
    meet(meeting, warp_members(), place, [] {});  // nobody overwrites what others still read
}

// ---- Numbers

typedef double (*Decoder)(const unsigned char *);

template <typename T> static T read(const void *from)
{
    T value;
    memcpy(&value, from, sizeof value);
    return value;
}

static double small_float(unsigned bits, int mantissa_bits, int bias, bool infinities)
{
    const int exponent = (bits & 0x7F) >> mantissa_bits;
    const int mantissa = bits & ((1 << mantissa_bits) - 1), top = 0x7F >> mantissa_bits;
    double size = exponent ? ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)
                           : ldexp(mantissa, 1 - bias - mantissa_bits);
    if (infinities && exponent == top) size = mantissa ? NAN : INFINITY;
    if (!infinities && (bits & 0x7F) == 0x7F) size = NAN;
    return bits & 0x80 ? -size : size;
}

static uint32_t bits_of(float value) { return read<uint32_t>(&value); }

static float float_of(uint32_t bits) { return read<float>(&bits); }

static uint16_t half_bits(double value)
{
    const _Float16 half = (_Float16)value;
    return read<uint16_t>(&half);
}

static uint16_t bfloat_bits(float value)
{
    const uint32_t bits = bits_of(value);
    return value != value ? 0x7FFF : (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// The nearest code of a float8, ties to even, saturated: by trying all.
static uint8_t float8_bits(float value, int mantissa_bits, int bias, bool infinities)
{
    unsigned best = 0;
    double error = INFINITY;
    for (unsigned code = 0; code < 256; code++) {
        const double each = small_float(code, mantissa_bits, bias, infinities);
        const double distance = fabs(each - value);
        if (each - each != 0 || signbit(each) != signbit(value)) continue;
        if (distance < error || (distance == error && code % 2 == 0)) best = code, error = distance;
    }
    return value != value ? 0x7F : best;
}

static const std::map<std::string, Decoder> DECODERS = {
    {"f16", [](const unsigned char *p) -> double { return read<_Float16>(p); }},
    {"bf16", [](const unsigned char *p) -> double { return float_of(read<uint16_t>(p) << 16); }},
    {"tf32",  // tensor cores look at 10 bits of mantissa
     [](const unsigned char *p) -> double { return float_of(read<uint32_t>(p) & ~0x1FFFu); }},
    {"s8", [](const unsigned char *p) -> double { return read<int8_t>(p); }},
    {"u8", [](const unsigned char *p) -> double { return *p; }},
    {"e4m3", [](const unsigned char *p) { return small_float(*p, 3, 7, false); }},
    {"e5m2", [](const unsigned char *p) { return small_float(*p, 2, 15, true); }},
};

// ---- Instructions

typedef std::vector<int> Group;  // operands between braces, or a single one; ~immediate

struct Site {
    std::vector<std::string> name;  // split at dots
    std::vector<Group> arguments;
    void (*run)(Site &, const Operand *);

    bool has(const char *part) const
    {
        for (const std::string &each : name)
            if (each == part) return true;
        return false;
    }
};

static uint64_t value_of(const Operand *operands, int reference)
{
    return reference < 0 ? (uint64_t)~reference : operands[reference].value;
}

static uint64_t argument(const Site &site, const Operand *operands, size_t at, size_t part = 0)
{
    return value_of(operands, site.arguments.at(at).at(part));
}

template <typename T>
static void set(const Site &site, const Operand *operands, size_t at, size_t part, T value)
{
    memcpy(operands[site.arguments.at(at).at(part)].at, &value, sizeof value);
}

#ifndef EMULATION_CLUSTERS  // which tell their blocks' memories apart
static unsigned char *shared_at(uint64_t address, unsigned bytes)
{
    if (address + bytes > SHARED_BYTES) fail("an address outside of shared memory");
    if (address % bytes) fail("an address in shared memory that is not aligned");
    return shared_memory + address;
}
#endif

// Each lane's operands in meeting.operands.
template <typename ACT> static void together(Site &site, const Operand *operands, ACT act)
{
    Meeting &meeting = warp();
    meeting.operands[lane()] = operands;
    if (warp_members() != 32) fail("a collective instruction in a part of a warp");
    meet(meeting, 32, &site, [&] { act(meeting.operands); });
}

static void load_matrix(Site &site, const Operand *operands)
{
    together(site, operands, [&](const Operand **all) {
        const bool transposed = site.has("trans");
        for (size_t matrix = 0; matrix < site.arguments[0].size(); matrix++) {
            uint16_t elements[8][8];
            for (int row = 0; row < 8; row++)
                memcpy(elements[row], shared_at(argument(site, all[matrix * 8 + row], 1), 16), 16);
            for (int l = 0; l < 32; l++) {
                const int row = l / 4, column = l % 4 * 2;
                const uint32_t low = transposed ? elements[column][row] : elements[row][column];
                const uint32_t high =
                    transposed ? elements[column + 1][row] : elements[row][column + 1];
                set(site, all[l], 0, matrix, low | high << 16);
            }
        }
    });
}

// mma.sync.aligned.m16n8kK.row.col.D.A.B.C, of 32 bytes of k.
static void multiply(Site &site, const Operand *operands)
{
    together(site, operands, [&](const Operand **all) {
        const size_t types = site.name.size() - 4;
        const std::string &sum = site.name[types];
        const Decoder decode_a = DECODERS.at(site.name[types + 1]);
        const Decoder decode_b = DECODERS.at(site.name[types + 2]);
        const int depth = atoi(site.name[3].c_str() + strlen("m16n8k")), bytes = 32 / depth;
        unsigned char a[16][32], b[8][32];
        double a_values[16][32], b_values[8][32];
        for (int l = 0; l < 32; l++) {
            for (int i = 0; i < 4; i++) {
                const uint32_t word = argument(site, all[l], 1, i);
                memcpy(&a[l / 4 + i % 2 * 8][i / 2 * 16 + l % 4 * 4], &word, 4);
            }
            for (int i = 0; i < 2; i++) {
                const uint32_t word = argument(site, all[l], 2, i);
                memcpy(&b[l / 4][i * 16 + l % 4 * 4], &word, 4);
            }
        }
        for (int at = 0; at < depth; at++) {
            for (int row = 0; row < 16; row++) a_values[row][at] = decode_a(&a[row][at * bytes]);
            for (int row = 0; row < 8; row++) b_values[row][at] = decode_b(&b[row][at * bytes]);
        }
        for (int l = 0; l < 32; l++) {
            uint16_t halves[4];
            for (int i = 0; i < 4; i++) {
                const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
                double total = 0;
                for (int at = 0; at < depth; at++) total += a_values[row][at] * b_values[column][at];
                const uint32_t before = argument(site, all[l], 3, sum == "f16" ? i / 2 : i);
                if (sum == "f32") {
                    set(site, all[l], 0, i, (float)(total + float_of(before)));
                } else if (sum == "s32") {
                    set(site, all[l], 0, i, (int32_t)(total + (int32_t)before));
                } else {
                    const uint16_t half = before >> i % 2 * 16;
                    halves[i] = half_bits(total + (double)read<_Float16>(&half));
                    if (i % 2) set(site, all[l], 0, i / 2, halves[i - 1] | (uint32_t)halves[i] << 16);
                }
            }
        }
    });
}

static void carry_out(const Copy &copy)
{
    memset(copy.to, 0, copy.bytes);
    memcpy(copy.to, copy.from, copy.read);
}

static void copy_async(Site &site, const Operand *operands)
{
    const int bytes = argument(site, operands, 2);
    const uint64_t from = argument(site, operands, 1);
    const int read = site.arguments.size() > 3 ? (int)argument(site, operands, 3) : bytes;
    if (from % bytes) fail("an asynchronous copy from an address that is not aligned");
    if (site.has("cg") && bytes != 16) fail("cp.async.cg copies 16 bytes");
    const Copy copy{shared_at(argument(site, operands, 0), bytes), (const unsigned char *)from, bytes, read};
    if (late)
        fibres[running].groups.back().push_back(copy);
    else
        carry_out(copy);
}

static void copy_commit(Site &, const Operand *) { fibres[running].groups.push_back({}); }

static void copy_wait(Site &site, const Operand *operands)
{
    std::vector<std::vector<Copy>> &groups = fibres[running].groups;
    const bool every = site.has("wait_all");
    const size_t pending = every ? 0 : argument(site, operands, 0) + 1;  // and the open one
    while (groups.size() > pending) {
        for (const Copy &copy : groups.front()) carry_out(copy);
        groups.erase(groups.begin());
    }
    if (every) groups.push_back({});
}

static float float_argument(const Site &site, const Operand *operands, size_t at)
{
    return float_of(argument(site, operands, at));
}

static uint32_t converted(const std::string &to, float value)
{
    if (to == "f16" || to == "f16x2") return half_bits(value);
    if (to == "bf16" || to == "bf16x2") return bfloat_bits(value);
    if (to == "e4m3x2") return float8_bits(value, 3, 7, false);
    if (to == "e5m2x2") return float8_bits(value, 2, 15, true);
    if (to == "tf32") return (bits_of(value) + 0x1000) & ~0x1FFFu;
    fail("no conversion to " + to);
}

// cvt[.rn][.satfinite].TO.FROM: of f32, one or two; or of 2-byte types to f32.
static void convert(Site &site, const Operand *operands)
{
    const std::string &to = site.name[site.name.size() - 2], &from = site.name.back();
    if (from == "f32" && site.arguments.size() == 3) {
        const uint32_t high = converted(to, float_argument(site, operands, 1));
        const uint32_t low = converted(to, float_argument(site, operands, 2));
        if (to[0] == 'e')
            set(site, operands, 0, 0, uint16_t(low | high << 8));
        else
            set(site, operands, 0, 0, low | high << 16);
    } else if (from == "f32") {
        const uint32_t bits = converted(to, float_argument(site, operands, 1));
        if (to == "tf32")
            set(site, operands, 0, 0, bits);
        else
            set(site, operands, 0, 0, uint16_t(bits));
    } else if (to == "f16x2") {  // of two float8
        const uint16_t pair = argument(site, operands, 1);
        uint32_t bits = 0;
        for (int i = 0; i < 2; i++) {
            const unsigned char code = pair >> 8 * i;
            bits |= (uint32_t)half_bits(DECODERS.at(from.substr(0, 4))(&code)) << 16 * i;
        }
        set(site, operands, 0, 0, bits);
    } else {
        const uint64_t bits = argument(site, operands, 1);
        set(site, operands, 0, 0, (float)DECODERS.at(from)((const unsigned char *)&bits));
    }
}

// fma.rn of f16, or of two f16 or bf16; in float64 the product is exact, and the sum nearly.
static void fuse(Site &site, const Operand *operands)
{
    const std::string &type = site.name.back();
    const bool pair = type.size() > 2 && type.compare(type.size() - 2, 2, "x2") == 0;
    const std::string each = pair ? type.substr(0, type.size() - 2) : type;
    if (each != "f16" && each != "bf16") fail("fma of a type that is not emulated");
    uint32_t result = 0;
    for (int half = 0; half <= pair; half++) {
        double value[3];
        for (int i = 0; i < 3; i++) {
            const uint16_t bits = argument(site, operands, i + 1) >> 16 * half;
            value[i] = DECODERS.at(each)((const unsigned char *)&bits);
        }
        const double sum = value[0] * value[1] + value[2];
        result |= (uint32_t)(each == "f16" ? half_bits(sum) : bfloat_bits(sum)) << 16 * half;
    }
    if (pair)
        set(site, operands, 0, 0, result);
    else
        set(site, operands, 0, 0, (uint16_t)result);
}

static void exponential(Site &site, const Operand *operands)
{
    set(site, operands, 0, 0, (float)exp2((double)float_argument(site, operands, 1)));
}

static void reciprocal(Site &site, const Operand *operands)
{
    set(site, operands, 0, 0, 1.0f / float_argument(site, operands, 1));
}

static void load_global(Site &site, const Operand *operands)
{
    const uint64_t from = argument(site, operands, 1);
    const size_t count = site.arguments[0].size();
    if (from % (4 * count)) fail("a load from an address that is not aligned");
    for (size_t i = 0; i < count; i++)
        set(site, operands, 0, i, ((const uint32_t *)from)[i]);
}

static void store_global(Site &site, const Operand *operands)
{
    const uint64_t to = argument(site, operands, 0);
    const size_t count = site.arguments[1].size();
    if (to % (4 * count)) fail("a store to an address that is not aligned");
    for (size_t i = 0; i < count; i++) ((uint32_t *)to)[i] = argument(site, operands, 1, i);
}

static const std::vector<std::pair<const char *, void (*)(Site &, const Operand *)>> INSTRUCTIONS = {
    {"mma.sync", multiply},
    {"ldmatrix.sync", load_matrix},
    {"cp.async.commit_group", copy_commit},
    {"cp.async.wait", copy_wait},
    {"cp.async.c", copy_async},
    {"cvt.", convert},
    {"fma.", fuse},
    {"ex2.", exponential},
    {"rcp.", reciprocal},
    {"ld.global", load_global},
    {"st.global", store_global},
};

static std::vector<std::string> split(const std::string &text, char at)
{
    std::vector<std::string> parts(1);
    for (char each : text) {
        if (each == at)
            parts.emplace_back();
        else
            parts.back() += each;
    }
    return parts;
}

Site *parse(const char *text)
{
    std::string all(text);
    while (!all.empty() && strchr("; \n\t", all.back())) all.pop_back();
    if (all.find(';') != std::string::npos) fail("several instructions in one asm: " + all);
    const size_t space = all.find(' ');
    const std::string name = all.substr(0, space);
    Site *site = new Site{split(name, '.'), {}, nullptr};
    for (const auto &[prefix, run] : INSTRUCTIONS)
        if (!site->run && name.compare(0, strlen(prefix), prefix) == 0) site->run = run;
    if (!site->run) fail("an instruction that is not emulated: " + name);
    bool braces = false, fresh = true;
    for (size_t at = space; at < all.size(); at++) {
        const char each = all[at];
        if (each == '{') braces = true, fresh = false, site->arguments.emplace_back();
        if (each == '}') braces = false;
        if (each == ',' && !braces) fresh = true;
        if (each == '%' || isdigit(each)) {
            char *end;
            const int number = strtol(&all[at + (each == '%')], &end, 10);
            if (!braces && fresh) site->arguments.emplace_back();
            fresh = false;
            site->arguments.back().push_back(each == '%' ? number : ~number);
            at = end - all.c_str() - 1;
        }
    }
    return site;
}

void execute(Site *site, const Operand *operands) { site->run(*site, operands); }

// ---- Arrays

static const size_t PAGE = 4096;
static const unsigned char BAND = 0xA5;
struct Array {
    unsigned char *start, *first, *end;  // of the memory; of the elements, to the page
    size_t bytes;
};
static std::map<std::string, Array> arrays;

void *array(const char *name, size_t bytes, bool given)
{
    const size_t aligned = (bytes + 15) / 16 * 16, pages = (aligned + 2 * PAGE - 1) / PAGE;
    unsigned char *start = (unsigned char *)mmap(nullptr, (pages + 1) * PAGE, PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *end = start + pages * PAGE;
    mprotect(end, PAGE, PROT_NONE);
    memset(start, BAND, end - start);
    const Array made{start, end - aligned, end, bytes};
    memset(made.first, 0xFF, bytes);
    if (given) {
        FILE *file = fopen(name, "rb");
        if (!file || fread(made.first, 1, bytes, file) != bytes) fail(std::string("no ") + name);
        fclose(file);
    }
    arrays[name] = made;
    return made.first;
}

void finish(const char *name)
{
    const Array &made = arrays.at(name);
    for (unsigned char *at = made.start; at < made.end; at++)
        if ((at < made.first || at >= made.first + made.bytes) && *at != BAND)
            fail(std::string("a write outside of array ") + name);
    FILE *file = fopen(name, "wb");
    if (!file || fwrite(made.first, 1, made.bytes, file) != made.bytes) fail(std::string("no ") + name);
    fclose(file);
}

}  // namespace emulation
