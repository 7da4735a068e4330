/* A driver that prints what it is asked for, one line a call. Functions are their own names. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

static CUresult encode_tiled(
    CUtensorMap *descriptor, CUtensorMapDataType data_type, cuuint32_t rank, void *address,
    const cuuint64_t *shape, const cuuint64_t *strides_bytes, const cuuint32_t *box,
    const cuuint32_t *steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
    CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
    cuuint32_t i;
    printf("encode %d %u %zu", (int)data_type, rank, (size_t)address);
    for (i = 0; i < rank; ++i)
        printf(" %llu", (unsigned long long)shape[i]);
    for (i = 0; i + 1 < rank; ++i)
        printf(" %llu", (unsigned long long)strides_bytes[i]);
    for (i = 0; i < rank; ++i)
        printf(" %u", box[i]);
    for (i = 0; i < rank; ++i)
        printf(" %u", steps[i]);
    printf(" %d %d %d %d\n", (int)interleave, (int)swizzle, (int)promotion, (int)fill);
    memset(descriptor, 0, sizeof *descriptor);
    memcpy(descriptor, &address, sizeof address);
    return (size_t)descriptor % 64 == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    (void)module;
    memcpy(function, &name, sizeof name);
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value)
{
    printf("allow %s %d %d\n", (const char *)function, (int)attribute, value);
    return CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char *symbol, void **found, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult *status)
{
    CUresult (*encode)(
        CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
        const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
        CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) = encode_tiled;
    if (getenv("OLD_DRIVER") != NULL || flags != CU_GET_PROC_ADDRESS_DEFAULT || version < 12000
        || strcmp(symbol, "cuTensorMapEncodeTiled") != 0) {
        *status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
        *found = NULL;
        return CUDA_SUCCESS;
    }
    *status = CU_GET_PROC_ADDRESS_SUCCESS;
    memcpy(found, &encode, sizeof encode);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    void *address;
    memcpy(&address, from, sizeof address);
    printf("copy %llu %zu %zu %zu\n", to, (size_t)address, bytes, (size_t)stream);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z,
                        unsigned shared_bytes, CUstream stream, void **parameters, void **extra)
{
    const char *count = getenv("PARAMETERS");
    int i;
    printf("launch %s %u %u %u %u %u %u %u %zu:", (const char *)function, grid_x, grid_y, grid_z,
           block_x, block_y, block_z, shared_bytes, (size_t)stream);
    for (i = 0; count != NULL && i < atoi(count); ++i) {
        CUdeviceptr value;
        memcpy(&value, parameters[i], sizeof value);
        printf(" %llu", value);
    }
    printf("\n");
    return extra == NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
