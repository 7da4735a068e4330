// 2^x and what follows from it, by the units for special functions (16 for 128 lanes, from sm_80 to
// sm_100) and beside them. Stands after cuda.h and before sequence.h, whose functions use it.

#ifndef EXPONENTIALS_H
#define EXPONENTIALS_H

// 0 for minus infinity; relative error 2^-22 (PTX ISA 8.5, ex2).
FUNCTION float exp2_special(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Relative error 2^-23 (PTX ISA 8.5, rcp).
FUNCTION float reciprocal_special(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Its absolute error is small, 2^-22, and that is what counts in a score.
FUNCTION float tanh_special(float x)
{
    return 1.0f - 2.0f * reciprocal_special(1.0f + exp2_special(2.885390081777927f * x));
}

// 2^x = 2^n 2^f with a whole n and |f| <= 1/2: a polynomial with a relative error of 2.9e-6 at most
// (fitted for that; FlashAttention-4 takes one of degree 3), n added to the exponent. It is 1 at 0,
// so that 2^-127 becomes 0, and so does all that is less.
FUNCTION float exp2_polynomial(float x)
{
    const float whole = 12582912.0f;  // 1.5 * 2^23: beside it a sum keeps whole numbers alone
    const float least = fmaxf(x, -127.0f), shifted = least + whole, f = least - (shifted - whole);
    float y = fmaf(f, 0.00958285294f, 0.0559064262f);
    y = fmaf(f, y, 0.240240991f);
    y = fmaf(f, y, 0.693124175f);
    y = fmaf(f, y, 1.0f);
    return __uint_as_float(__float_as_uint(y) + (__float_as_uint(shifted) << 23));
}

#define EXP2(x) exp2_special(x)
#define TANH(x) tanh_special(x)

#endif
