// Above a kernel for Hopper, after cuda_emulation.h: see hopper_emulation.cpp.

#pragma once
#include "cuda_emulation.h"

#define __constant__ static const
#define __cluster_dims__(...)
#define __cvta_shared_to_generic(address) emulation::shared_pointer(address)
#define __cvta_generic_to_shared(pointer) emulation::shared_window(pointer)
#undef __any_sync
#define __any_sync(mask, predicate) emulation::any(EMULATION_PLACE, predicate)

namespace emulation {

extern unsigned cluster_blocks;  // of the launches that follow

unsigned shared_window(const void *pointer);
bool any(const void *place, bool mine);  // of the warp
void *shared_pointer(unsigned address);

// What stands where the 128 bytes of a descriptor would; contiguous dimension first, those that
// there are not of one element.
struct TensorMap {
    unsigned char *first;
    int64_t shape[5], stride_bytes[4];
    int box[5], element_bytes, swizzle_bytes;
};

}  // namespace emulation
