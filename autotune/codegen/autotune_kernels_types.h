#include <stddef.h>
#include <string.h>

#define AUTOTUNE_MAX_RANK 8

/* What a host program does with an argument. */
typedef enum autotune_role {
    AUTOTUNE_INPUT,  /* a buffer that the kernel reads */
    AUTOTUNE_OUTPUT, /* a buffer that it writes, all of it */
    AUTOTUNE_SCALAR, /* a value, passed by value */
    AUTOTUNE_SCRATCH /* a buffer for the kernel's own use, contents undefined */
} autotune_role;

/* `bytes` is the size of the buffer, or of the value of a scalar. `dtype` is "" for scratch.
   `shape` counts elements, row-major and contiguous; `rank` of them are meant. */
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
   order of the function's parameters. `shared_bytes` is dynamic shared memory (CUDA). */
typedef struct autotune_launch {
    const char *function;
    size_t groups[3];
    size_t group_size[3];
    size_t global_size[3];
    size_t shared_bytes;
    size_t argument_count;
    const size_t *arguments;
} autotune_launch;

/* A tuned kernel. `file` is its source, beside this header; `options` are compiler flags, joined
   by blanks. `arguments` are the caller's arrays and scalars, then scratch. Run all `launches`
   in order, each after the one before. `expected_time_s` is the median measured for all of them,
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
    size_t scratch_bytes;
    double expected_time_s;
    double flops;
} autotune_kernel;

/* A lookup by text: NULL asks for any value. */
static inline int autotune_same_text(const char *asked, const char *has)
{
    return asked == NULL || strcmp(asked, has) == 0;
}
