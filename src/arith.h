/*
 * The integer arithmetic of `arith.rs`, in C99. The includer defines CODE_BITS, 8 or 16, the width of
 * every activation, and the types
 *   code_t    int8_t or int16_t: a code of an activation
 *   weight_t  int8_t or int16_t: a code of a weight
 *   acc_t     int32_t or int64_t: the type that the proven bound of every accumulator fits
 */
#ifndef ARITH_H
#define ARITH_H

#include <stdint.h>
#include <string.h>

/* Right shifts of negative values are implementation-defined in C99; everything here needs them to
   round down. A compiler that does otherwise stops here. */
typedef char right_shift_rounds_down[(-1 >> 1) == -1 ? 1 : -1];

#define CODE_MIN (-(1 << (CODE_BITS - 1)))
#define CODE_MAX ((1 << (CODE_BITS - 1)) - 1)

/* A positive factor, taken exactly: significand * 2^-shift; significand in [2^23, 2^24), shift in [1, 62]. */
struct multiplier {
    int32_t significand;
    int32_t shift;
};

/* round_half_even(value * 2^-shift), for 1 <= shift <= 63 and |value| < 2^62. */
static inline int64_t round_shift(int64_t value, int32_t shift)
{
    int64_t odd = (value >> shift) & 1;
    return (value + ((int64_t)1 << (shift - 1)) - 1 + odd) >> shift;
}

/* round_half_even(numerator / denominator * 2^-shift), for denominator > 0, 1 <= shift <= 62 and
   |numerator / denominator| < 2^60: the division and the shift round once, together. */
static inline int64_t round_ratio(int64_t numerator, int64_t denominator, int32_t shift)
{
    int64_t quotient = numerator / denominator, rest = numerator % denominator;
    if (rest < 0) {
        quotient -= 1;
    }
    return round_shift(2 * quotient + (rest != 0), shift + 1);
}

/* round_half_even(acc * m): the exact product, rounded once. Either |acc| < 2^38, or shift >= 17 and
   |acc| < 2^53: then the low 16 bits of the product are kept as one sticky bit. */
static inline int64_t rescale(acc_t acc, struct multiplier m)
{
    if (sizeof(acc_t) == 4 || m.shift < 17) {
        return round_shift((int64_t)acc * m.significand, m.shift);
    }
    {
        int64_t low = ((int64_t)acc & 0xFFFF) * m.significand;
        int64_t high = ((int64_t)acc >> 16) * m.significand + (low >> 16);
        return round_shift(2 * high + ((low & 0xFFFF) != 0), m.shift - 15);
    }
}

/* q as a code: limited to lo..hi. */
static inline code_t clamp(int64_t q, int32_t lo, int32_t hi)
{
    return (code_t)(q < lo ? lo : q > hi ? hi : q);
}

/* Turns an accumulator into an output code: rescale, add, clamp. */
static inline code_t requantize(acc_t acc, struct multiplier m, int32_t zero_point, int32_t lo, int32_t hi)
{
    return clamp(rescale(acc, m) + zero_point, lo, hi);
}

/* Where element i of a row-major tensor of shape `shape` lies when its axes have `strides`. */
static inline int32_t strided_index(int32_t i, int32_t rank, const int32_t *shape, const int32_t *strides)
{
    int32_t index = 0;
    while (rank > 0) {
        rank -= 1;
        index += i % shape[rank] * strides[rank];
        i /= shape[rank];
    }
    return index;
}

#endif
