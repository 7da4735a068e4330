/* Runs a tuned matmul from C: tuned_matmul M N K

   The kernel, its launches and its scratch memory come from the headers that `autotune build`
   wrote; nothing is read at run time. Every element is checked against a product in double. */

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autotune_kernels.h"
#include "autotune_kernels_sources.h"

#define MAX_ARGUMENTS 16
#define MAX_LAUNCHES 8
#define MAX_DEVICES 32
#define RUNS 20

/* Everything that belongs to one kernel on one device. */
typedef struct session {
    const autotune_kernel *kernel;
    cl_context context;
    cl_command_queue queue;
    cl_program program;
    cl_kernel bound[MAX_LAUNCHES];  /* one a launch, arguments set */
    cl_mem memory[MAX_ARGUMENTS];   /* NULL for a scalar */
    float *host[MAX_ARGUMENTS];     /* NULL for a scalar and for scratch */
} session;

static void fail(const char *what, cl_int code)
{
    fprintf(stderr, "%s (%d)\n", what, (int)code);
    exit(1);
}

static void check(cl_int code, const char *what)
{
    if (code != CL_SUCCESS)
        fail(what, code);
}

/* The device that the kernels were tuned on, or the first there is. */
static cl_device_id find_device(void)
{
    cl_platform_id platforms[MAX_DEVICES];
    cl_device_id first = NULL;
    cl_uint platform_count = 0, i, j;
    check(clGetPlatformIDs(MAX_DEVICES, platforms, &platform_count), "no OpenCL platform");
    for (i = 0; i < platform_count && i < MAX_DEVICES; ++i) {
        cl_device_id devices[MAX_DEVICES];
        cl_uint device_count = 0;
        if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &device_count))
            continue;
        for (j = 0; j < device_count && j < MAX_DEVICES; ++j) {
            char name[256] = "";
            clGetDeviceInfo(devices[j], CL_DEVICE_NAME, sizeof name - 1, name, NULL);
            if (strstr(name, AUTOTUNE_TARGET_DEVICE) != NULL)
                return devices[j];
            if (first == NULL)
                first = devices[j];
        }
    }
    if (first == NULL)
        fail("no OpenCL device", 0);
    fprintf(stderr, "not found: %s; using another device\n", AUTOTUNE_TARGET_DEVICE);
    return first;
}

/* Compiles the kernel's text, which the header holds. */
static void build_program(session *s, cl_device_id device)
{
    const autotune_source *source = autotune_find_source(s->kernel);
    cl_int code;
    s->program = clCreateProgramWithSource(
        s->context, (cl_uint)source->piece_count, (const char **)source->pieces, NULL, &code);
    check(code, "clCreateProgramWithSource");
    code = clBuildProgram(s->program, 1, &device, s->kernel->options, NULL, NULL);
    if (code != CL_SUCCESS) {
        char log[8192] = "";
        clGetProgramBuildInfo(
            s->program, device, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
        fail(log, code);
    }
}

static float *random_values(size_t count)
{
    float *values = (float *)malloc(count * sizeof *values);
    size_t i;
    if (values == NULL)
        fail("out of memory", 0);
    for (i = 0; i < count; ++i)
        values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return values;
}

/* Memory for every argument that is not passed by value; inputs and outputs begin random. */
static void create_memory(session *s)
{
    size_t i;
    for (i = 0; i < s->kernel->argument_count; ++i) {
        const autotune_argument *argument = &s->kernel->arguments[i];
        cl_mem_flags flags = CL_MEM_READ_WRITE;
        cl_int code;
        if (argument->role == AUTOTUNE_SCALAR)
            continue;
        if (argument->role != AUTOTUNE_SCRATCH) {
            s->host[i] = random_values(argument->bytes / sizeof(float));
            flags |= CL_MEM_COPY_HOST_PTR;
        }
        s->memory[i] = clCreateBuffer(s->context, flags, argument->bytes, s->host[i], &code);
        check(code, argument->name);
    }
}

/* One OpenCL kernel a launch: scalars (here 1) by value, the rest as memory. */
static void bind_launches(session *s)
{
    const float one = 1.0f;
    size_t i, j;
    for (i = 0; i < s->kernel->launch_count; ++i) {
        const autotune_launch *launch = &s->kernel->launches[i];
        cl_int code;
        s->bound[i] = clCreateKernel(s->program, launch->function, &code);
        check(code, launch->function);
        for (j = 0; j < launch->argument_count; ++j) {
            const size_t index = launch->arguments[j];
            const autotune_argument *argument = &s->kernel->arguments[index];
            if (argument->role == AUTOTUNE_SCALAR)
                code = clSetKernelArg(s->bound[i], (cl_uint)j, argument->bytes, &one);
            else
                code = clSetKernelArg(s->bound[i], (cl_uint)j, sizeof(cl_mem), &s->memory[index]);
            check(code, argument->name);
        }
    }
}

static void open_session(session *s, const autotune_kernel *kernel)
{
    const cl_device_id device = find_device();
    cl_int code;
    if (kernel->argument_count > MAX_ARGUMENTS || kernel->launch_count > MAX_LAUNCHES)
        fail("this kernel has more arguments or launches than the example allows", 0);
    memset(s, 0, sizeof *s);
    s->kernel = kernel;
    s->context = clCreateContext(NULL, 1, &device, NULL, NULL, &code);
    check(code, "clCreateContext");
    s->queue = clCreateCommandQueue(s->context, device, CL_QUEUE_PROFILING_ENABLE, &code);
    check(code, "clCreateCommandQueue");
    build_program(s, device);
    create_memory(s);
    bind_launches(s);
}

static void close_session(session *s)
{
    size_t i;
    for (i = 0; i < s->kernel->launch_count; ++i)
        clReleaseKernel(s->bound[i]);
    for (i = 0; i < s->kernel->argument_count; ++i) {
        if (s->memory[i] != NULL)
            clReleaseMemObject(s->memory[i]);
        free(s->host[i]);
    }
    clReleaseProgram(s->program);
    clReleaseCommandQueue(s->queue);
    clReleaseContext(s->context);
}

/* Enqueues every launch; the queue is in order, so each begins after the one before. */
static void run(const session *s)
{
    size_t i;
    for (i = 0; i < s->kernel->launch_count; ++i) {
        const autotune_launch *launch = &s->kernel->launches[i];
        check(
            clEnqueueNDRangeKernel(s->queue, s->bound[i], 3, NULL, launch->global_size,
                                   launch->group_size, 0, NULL, NULL),
            launch->function);
    }
}

/* The first output, copied back to the host. */
static const float *read_output(const session *s)
{
    size_t i = 0;
    while (s->kernel->arguments[i].role != AUTOTUNE_OUTPUT)
        ++i;
    check(
        clEnqueueReadBuffer(s->queue, s->memory[i], CL_TRUE, 0, s->kernel->arguments[i].bytes,
                            s->host[i], 0, NULL, NULL),
        "clEnqueueReadBuffer");
    return s->host[i];
}

static cl_ulong ended_ns(cl_event event)
{
    cl_ulong time_ns = 0;
    check(clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof time_ns, &time_ns, NULL),
          "clGetEventProfilingInfo");
    clReleaseEvent(event);
    return time_ns;
}

/* Device seconds of the fastest of some runs, between markers before and after. */
static double fastest_s(const session *s)
{
    double best_s = DBL_MAX;
    int i;
    for (i = 0; i < RUNS; ++i) {
        cl_event begin, end;
        cl_ulong begin_ns;
        check(clEnqueueMarkerWithWaitList(s->queue, 0, NULL, &begin), "marker");
        run(s);
        check(clEnqueueMarkerWithWaitList(s->queue, 0, NULL, &end), "marker");
        check(clFinish(s->queue), "clFinish");
        begin_ns = ended_ns(begin);
        best_s = fmin(best_s, (double)(ended_ns(end) - begin_ns) * 1e-9);
    }
    return best_s;
}

/* Largest error of any element of C = A B, in units of float's roundoff times sum |a| |b|;
   infinite where an element is not a number. */
static double largest_error(
    const float *a, const float *b, const float *c, size_t m, size_t n, size_t k)
{
    double worst = 0.0;
    size_t row, column, i;
    for (row = 0; row < m; ++row)
        for (column = 0; column < n; ++column) {
            double sum = 0.0, size = DBL_MIN, error;
            for (i = 0; i < k; ++i) {
                const double product = (double)a[row * k + i] * (double)b[i * n + column];
                sum += product;
                size += fabs(product);
            }
            error = fabs((double)c[row * n + column] - sum) / (size * FLT_EPSILON);
            worst = isnan(error) ? INFINITY : fmax(worst, error);
        }
    return worst;
}

static int usage(const char *program)
{
    size_t i;
    fprintf(stderr, "usage: %s M N K, of a float32 matmul in this build:\n", program);
    for (i = 0; i < AUTOTUNE_KERNEL_COUNT; ++i)
        fprintf(stderr, "  %s\n", autotune_kernels[i]->name);
    return 2;
}

int main(int argc, char **argv)
{
    size_t size[3] = {0, 0, 0};
    const autotune_kernel *kernel;
    session s;
    double error, time_s;
    int i;

    for (i = 0; i < 3 && argc == 4; ++i)
        size[i] = strtoul(argv[i + 1], NULL, 10);
    kernel = autotune_find_matmul(size[0], size[1], size[2], 1, "float32", NULL, "nn", "");
    if (kernel == NULL)
        return usage(argv[0]);

    open_session(&s, kernel);
    run(&s);
    error = largest_error(s.host[0], s.host[1], read_output(&s), size[0], size[1], size[2]);
    time_s = fastest_s(&s);
    close_session(&s);

    printf("%s\n", kernel->name);
    printf("  largest error   %.3g roundoffs\n", error);
    printf("  measured here   %.3g s, %.1f GFLOP/s\n", time_s, kernel->flops / time_s * 1e-9);
    printf("  when tuned      %.3g s, %.1f GFLOP/s\n", kernel->expected_time_s,
           kernel->flops / kernel->expected_time_s * 1e-9);
    if (error > (double)size[2]) { /* any order of summation stays below this */
        fprintf(stderr, "wrong result\n");
        return 1;
    }
    return 0;
}
