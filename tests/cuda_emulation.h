// CUDA C++ for a host compiler: what a kernel needs to run on a CPU, one fibre a thread.
//
// Inline assembly arrives as PTX(...) (cuda_emulation.py rewrites it) and is interpreted, so that
// the wrappers around instructions are under test too. Fibres run until they wait: for a barrier,
// or for the rest of their warp. See cuda_emulation.py.

#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <initializer_list>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __restrict__ __restrict
#define __grid_constant__
#define __shared__ static

struct uint3_ { unsigned x, y, z; };
struct __align__(8) uint2 { unsigned x, y; };
struct __align__(16) uint4 { unsigned x, y, z, w; };
struct __align__(8) float2 { float x, y; };
struct __align__(16) float4 { float x, y, z, w; };
struct __align__(8) int2 { int x, y; };
struct __align__(16) int4 { int x, y, z, w; };
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulation {

struct Operand {
    void *at;        // of an output; null for an input
    uint64_t value;  // of an input
};
template <typename T> Operand out(T &variable) { 
    static_assert(sizeof(T) <= 8, "a register");
    Operand operand{&variable, 0};
    memcpy(&operand.value, &variable, sizeof(T));
    return operand;
}
template <typename T> Operand in(T value)
{
    static_assert(sizeof(T) <= 8, "a register");
    Operand operand{nullptr, 0};
    memcpy(&operand.value, &value, sizeof(T));
    return operand;
}

struct Site;  // one asm statement
Site *parse(const char *text);
void execute(Site *site, const Operand *operands);

extern unsigned char *dynamic_shared;
extern uint3_ thread_index, block_index, block_size, grid_size;

void wait_for_block(const void *place);
void wait_for_warp(const void *place);
// Each lane's value, to all lanes.
void exchange(const void *place, uint64_t value, uint64_t (&values)[32]);
int lane();

// One launch: `entry(argument)` in every thread.
void launch(const unsigned (&grid)[3], const unsigned (&group)[3], unsigned shared_bytes,
            void (*entry)(void *), void *argument);

template <typename... P, size_t... I>
void call(void (*kernel)(P...), void **arguments, std::index_sequence<I...>)
{
    kernel(*(P *)arguments[I]...);
}
template <typename... P> struct Call {
    void (*kernel)(P...);
    void **arguments;
    static void entry(void *self)
    {
        call(((Call *)self)->kernel, ((Call *)self)->arguments, std::index_sequence_for<P...>());
    }
};
template <typename... P>
void launch(void (*kernel)(P...), const unsigned (&grid)[3], const unsigned (&group)[3],
            unsigned shared_bytes, void **arguments)
{
    Call<P...> call{kernel, arguments};
    launch(grid, group, shared_bytes, Call<P...>::entry, &call);
}

// An array between a page that must not be touched and a band whose pattern must stay.
void *array(const char *name, size_t bytes, bool given);
void finish(const char *name);

template <typename T> T shuffle(const void *place, T value, int from)
{
    uint64_t raw = 0, values[32];
    memcpy(&raw, &value, sizeof(T));
    exchange(place, raw, values);
    memcpy(&value, &values[from], sizeof(T));
    return value;
}

}  // namespace emulation

#define PTX(text, ...)                                                        \
    do {                                                                      \
        static emulation::Site *site = emulation::parse(text);                \
        const emulation::Operand operands[] = {__VA_ARGS__ __VA_OPT__(, ){}}; \
        emulation::execute(site, operands);                                   \
    } while (0)

#define threadIdx emulation::thread_index
#define blockIdx emulation::block_index
#define blockDim emulation::block_size
#define gridDim emulation::grid_size

// A place is told from others by its own address, so that barriers in different branches differ.
#define EMULATION_PLACE ([] { static char place; return (const void *)&place; }())
#define __syncthreads() emulation::wait_for_block(EMULATION_PLACE)
#define __syncwarp(...) emulation::wait_for_warp(EMULATION_PLACE)
#define __shfl_sync(mask, value, from) emulation::shuffle(EMULATION_PLACE, value, (from) % 32)
#define __shfl_xor_sync(mask, value, bits) \
    emulation::shuffle(EMULATION_PLACE, value, emulation::lane() ^ (bits))
#define __shfl_down_sync(mask, value, by) \
    emulation::shuffle(EMULATION_PLACE, value, (emulation::lane() + (by)) % 32)

static inline size_t __cvta_generic_to_shared(const void *pointer)
{
    return (size_t)((const unsigned char *)pointer - emulation::dynamic_shared);
}
static inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
static inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
static inline float __int_as_float(int x) { return __uint_as_float((unsigned)x); }
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; i++)
        result |= (unsigned)(bytes >> ((selector >> 4 * i & 7) * 8) & 0xFF) << 8 * i;
    return result;
}
template <typename T> static inline T __ldg(const T *from) { return *from; }
