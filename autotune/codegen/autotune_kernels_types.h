#include <stddef.h>
#include <string.h>

#define AUTOTUNE_MAX_RANK 8
#define AUTOTUNE_TENSOR_MAP_MAX_RANK 5

/* What a host program does with an argument. */
typedef enum autotune_role {
    AUTOTUNE_INPUT,  /* a buffer that the kernel reads */
    AUTOTUNE_OUTPUT, /* a buffer that it writes, all of it */
    AUTOTUNE_SCALAR, /* a value, passed by value */
    AUTOTUNE_SCRATCH, /* a buffer for the kernel's own use, contents undefined */
    AUTOTUNE_TENSOR_MAP /* a buffer that holds a descriptor of another argument (CUDA) */
} autotune_role;

/* `bytes` is the size of the buffer, or of the value of a scalar. `dtype` is "" for scratch
   and tensor maps. `shape` counts elements, row-major and contiguous; `rank` of them are meant. */
typedef struct autotune_argument {
    const char *name;
    const char *dtype;
    autotune_role role;
    size_t bytes;
    size_t rank;
    size_t shape[AUTOTUNE_MAX_RANK];
} autotune_argument;

/* One launch. `global_size` is groups x group_size: OpenCL takes global_size and group_size,
   CUDA takes groups and group_size. `arguments` are indexes into the kernel's `arguments`, in the
   order of the function's parameters. `shared_bytes` is dynamic shared memory (CUDA): a function
   must be allowed more than 48 KiB before it is launched. */
typedef struct autotune_launch {
    const char *function;
    size_t groups[3];
    size_t group_size[3];
    size_t global_size[3];
    size_t shared_bytes;
    size_t argument_count;
    const size_t *arguments;
} autotune_launch;

/* How a kernel sees `array` through the tensor memory accelerator: what cuTensorMapEncodeTiled
   takes besides the address, in its order of axes (the contiguous one first) and with the numbers
   of cuda.h. The descriptor belongs into `argument`, 128 bytes of device memory that are aligned
   to 64; the array must begin at a multiple of `alignment`. Both are indexes of arguments. */
typedef struct autotune_tensor_map {
    size_t argument;
    size_t array;
    size_t alignment;
    int data_type;
    unsigned rank;
    unsigned long long shape[AUTOTUNE_TENSOR_MAP_MAX_RANK];
    unsigned long long strides_bytes[AUTOTUNE_TENSOR_MAP_MAX_RANK];
    unsigned box[AUTOTUNE_TENSOR_MAP_MAX_RANK];
    int interleave;
    int swizzle;
    int l2_promotion;
    int fill;
} autotune_tensor_map;

/* A tuned kernel. `file` is its source, beside this header; `options` are compiler flags, joined
   by blanks. `arguments` are the caller's arrays and scalars, then scratch, then tensor maps;
   `tensor_maps` says what those hold (NULL: there are none). Run all `launches` in order, each
   after the one before. `expected_time_s` is the median measured for all of them,
   `flops` the useful work. `workload` is JSON. */
typedef struct autotune_kernel {
    const char *name;
    const char *workload;
    const char *schedule;
    const char *dialect;
    const char *file;
    const char *options;
    size_t argument_count;
    const autotune_argument *arguments;
    size_t launch_count;
    const autotune_launch *launches;
    size_t tensor_map_count;
    const autotune_tensor_map *tensor_maps;
    size_t scratch_bytes;
    double expected_time_s;
    double flops;
} autotune_kernel;

/* A lookup by text: NULL asks for any value. */
static inline int autotune_same_text(const char *asked, const char *has)
{
    return asked == NULL || strcmp(asked, has) == 0;
}
