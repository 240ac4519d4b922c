/*
 * The integer arithmetic of `arith.rs`, in C99, and the types of the operators' files.
 *
 * A network includes those files once for each combination of types that its layers have. Before, it defines
 *   X_BITS        8 or 16, the width of the codes of a layer's arguments
 *   Y_BITS        8 or 16, that of its result
 *   WEIGHT_BITS   4, 8 or 16, that of its weights: of 4 bits two share a weight_t
 *   ACC_BITS      32 or 64: so many bits the proven bound of every accumulator fits
 * and all names that such a file defines end with these four numbers: see T.
 */
#ifndef ARITH_H
#define ARITH_H

#include <limits.h>
#include <stdint.h>
#include <string.h>

#if defined(CHAR_BIT) && CHAR_BIT != 8
#error "codes are bytes of 8 bits: this compiler has none (CHAR_BIT is not 8)"
#endif
#if defined(INT_MAX) && INT_MAX < 0x7FFFFFFF
#error "an int has 32 bits or more: this compiler's has less (INT_MAX)"
#endif
#if defined(INT32_MAX) && !defined(INT64_MAX)
#error "products have 64 bits: this compiler has no int64_t"
#endif

/* Right shifts of negative values are implementation-defined in C99; everything here needs them to
   round down. A compiler that does otherwise stops here. */
typedef char right_shift_rounds_down[(-1 >> 1) == -1 ? 1 : -1];

/* What a compiler may be told, if this is defined before: of pointers to what is only read, that no code is written
   there (restrict, or __restrict), and what stands before the innermost loops over products (a _Pragma). */
#ifndef RESTRICT
#define RESTRICT
#endif
#ifndef LOOP
#define LOOP
#endif

#define x_t INT_T(X_BITS)
#define y_t INT_T(Y_BITS)
#define weight_t WEIGHT_T(WEIGHT_BITS)
#define acc_t INT_T(ACC_BITS)
#define INT_T(bits) INT_T_(bits)
#define INT_T_(bits) int##bits##_t
#define WEIGHT_T(bits) WEIGHT_T_(bits)
#define WEIGHT_T_(bits) weight_##bits##_t
typedef int8_t weight_4_t;
typedef int8_t weight_8_t;
typedef int16_t weight_16_t;

#define T(name) T_(name, X_BITS, Y_BITS, WEIGHT_BITS, ACC_BITS)
#define T_(name, x, y, weight, acc) T__(name, x, y, weight, acc)
#define T__(name, x, y, weight, acc) name##_##x##_##y##_##weight##_##acc

#define X_MIN (-(1 << (X_BITS - 1)))
#define Y_MIN (-(1 << (Y_BITS - 1)))
#define Y_MAX ((1 << (Y_BITS - 1)) - 1)

/* How many weight_t hold so many weights, an even number if two share one. */
#define WEIGHTS(count) (WEIGHT_BITS == 4 ? (count) / 2 : (count))

/* Of two weights of 4 bits in a byte, each plus 8, number i: the first is in the low half. */
static inline int32_t half_of(int8_t pair, int32_t i)
{
    return ((pair >> (i * 4)) & 15) - 8;
}

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

/* round_half_even(acc * m): the exact product, rounded once. */
static inline int64_t rescale(int32_t acc, struct multiplier m)
{
    return round_shift((int64_t)acc * m.significand, m.shift);
}

/* As rescale. Either |acc| < 2^38, or shift >= 17 and |acc| < 2^53: then the low 16 bits of the product are
   kept as one sticky bit. */
static inline int64_t rescale_wide(int64_t acc, struct multiplier m)
{
    if (m.shift < 17) {
        return round_shift(acc * m.significand, m.shift);
    }
    {
        int64_t low = (acc & 0xFFFF) * m.significand;
        int64_t high = (acc >> 16) * m.significand + (low >> 16);
        return round_shift(2 * high + ((low & 0xFFFF) != 0), m.shift - 15);
    }
}

/* The one of them for an acc_t. */
#define RESCALE(acc, m) (ACC_BITS == 32 ? rescale((int32_t)(acc), m) : rescale_wide(acc, m))

/* q, limited to lo..hi. */
static inline int32_t clamp(int64_t q, int32_t lo, int32_t hi)
{
    return (int32_t)(q < lo ? lo : q > hi ? hi : q);
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
