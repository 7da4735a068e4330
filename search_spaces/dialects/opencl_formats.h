// Conversions of bfloat16 and float8, kept as their bits, in OpenCL C 1.2 after opencl.h. To
// bfloat16 rounds once, to nearest, ties to even.
#ifndef OPENCL_FORMATS
#define OPENCL_FORMATS

FUNCTION float bfloat16_to_float(ushort bits) { return as_float((uint)bits << 16); }
FUNCTION ushort float_to_bfloat16(float value)
{
    const uint bits = as_uint(value);
    return isnan(value) ? 0x7FFF : (ushort)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// The upper half of a float16.
FUNCTION float float8_e5m2_to_float(uchar bits) { return half_to_float((ushort)(bits << 8)); }

// In the fields of a float16 it is 2^8, the difference of the biases, smaller.
FUNCTION float float8_e4m3_to_float(uchar bits)
{
    const ushort fields = (ushort)((bits & 0x80) << 8 | (bits & 0x7F) << 7);
    return (bits & 0x7F) == 0x7F ? NAN : half_to_float(fields) * 256.0f;
}

#endif
