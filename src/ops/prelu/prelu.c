/*
 * y = clamp(round((x - zx) * positive) + zy), or, where x - zx < 0,
 * y = clamp(round((x - zx) * slope * negative) + zy): the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y may be x.
 *
 * The product with a slope has 16 bits with 8-bit codes and 32 with 16-bit ones, and a sign; times
 * the significand at most 56 and a sign.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

struct T(prelu) {
    /* Slopes below 0, symmetric. */
    const weight_t *slope;
    /* For each slope, x_scale * slope_scale / y_scale. */
    const struct multiplier *negative;
    /* x_scale / y_scale. */
    struct multiplier positive;
    /* Code of real 0 in the input. */
    int32_t x_zero_point;
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* Shape of input and output; rank >= 1. */
    int32_t rank;
    const int32_t *shape;
    /* Strides of the slopes along its axes, 0 where they are broadcast. */
    const int32_t *strides;
    /* Number of elements. */
    int32_t size;
    /* No product of a code less zero point and a slope exceeds it, nor does any such code; it fits
       acc_t. */
    int64_t bound;
};

KERNEL void T(prelu)(const struct T(prelu) *p, const x_t *x, y_t *y)
{
    int32_t i, row, length = p->shape[p->rank - 1];
    for (row = 0; row < p->size / length; row++) {
        int32_t c = strided_index(row, p->rank - 1, p->shape, p->strides);
        for (i = 0; i < length; i++) {
            acc_t acc = (acc_t)(*x++ - p->x_zero_point);
            struct multiplier m = p->positive;
            if (acc < 0) {
                acc *= p->slope[c];
                m = p->negative[c];
            }
            ASSERT_BOUND(acc, p->bound);
            *y++ = (y_t)clamp(round_shift((int64_t)acc * m.significand, m.shift) + p->y_zero_point,
                         p->clamp[0], p->clamp[1]);
            c += p->strides[p->rank - 1];
        }
    }
}
