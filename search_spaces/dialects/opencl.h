// Neutral names of the portable kernels, in OpenCL C 1.2 and later.

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#ifdef cl_khr_fp16
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#endif

#define KERNEL __kernel
#define GROUP_SIZE(x, y, z) __attribute__((reqd_work_group_size(x, y, z)))
#define FUNCTION static __attribute__((always_inline))
#define GLOBAL __global
#define LOCAL __local
#define LOCAL_ARRAY(type, name, count) __local type name[count] __attribute__((aligned(16)))
#define RESTRICT restrict
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define GROUP_ID(axis) ((int)get_group_id(axis))
#define LOCAL_ID(axis) ((int)get_local_id(axis))
#define FMA(x, y, z) fma(x, y, z)

// A vector of 2 or 4 elements with members x, y (z, w), aligned to its size.
#define VECTOR2(type) VECTOR2_(type)
#define VECTOR2_(type) type##2
#define VECTOR4(type) VECTOR4_(type)
#define VECTOR4_(type) type##4

// float16 is kept as its bits in a ushort: that works without cl_khr_fp16, which only arithmetic
// in float16 needs.
FUNCTION float half_to_float(ushort bits) { return vload_half(0, (const __private half *)&bits); }
FUNCTION ushort float_to_half(float value)
{
    ushort bits;
    vstore_half_rte(value, 0, (__private half *)&bits);
    return bits;
}
#define HALF_OF_BITS(bits) as_half(bits)
