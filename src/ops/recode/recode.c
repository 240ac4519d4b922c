/*
 * y = clamp(round((x - zx) * numerator / denominator * 2^-shift) + zy): the same numbers in other
 * codes, the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y may be x if its codes are not wider.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct T(recode) {
    /* numerator / denominator * 2^-shift is x_scale / y_scale, or gives the same codes. */
    int64_t numerator;
    /* 1 where a multiplication does. */
    int64_t denominator;
    /* 1..62. */
    int32_t shift;
    /* Code of real 0 in the input. */
    int32_t x_zero_point;
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range: lo, hi. */
    int32_t clamp[2];
    /* Number of elements. */
    int32_t size;
};

KERNEL void T(recode)(const struct T(recode) *p, const x_t *x, y_t *y)
{
    int32_t i;
    for (i = 0; i < p->size; i++) {
        int64_t product = (x[i] - p->x_zero_point) * p->numerator, q;
        if (p->denominator == 1) {
            q = round_shift(product, p->shift);
        } else {
            q = round_ratio(product, p->denominator, p->shift);
        }
        y[i] = (y_t)clamp(q + p->y_zero_point, p->clamp[0], p->clamp[1]);
    }
}
