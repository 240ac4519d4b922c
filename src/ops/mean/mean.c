/*
 * y = clamp(round(sum (x - zx) / count * multiplier) + zy), the division and the product rounded
 * once, together: the integer reference `int.rs` in C99. The sum is sum x - count * zx.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

struct T(mean) {
    /* Sizes of the axes that stay; rank >= 0. */
    int32_t kept_rank;
    const int32_t *kept;
    /* Strides of the input along them. */
    const int32_t *kept_strides;
    /* Sizes of the axes that are averaged; rank >= 1. */
    int32_t reduced_rank;
    const int32_t *reduced;
    /* Strides of the input along them. */
    const int32_t *reduced_strides;
    /* Number of elements that are averaged. */
    int32_t count;
    /* x_scale / y_scale. */
    struct multiplier multiplier;
    /* Code of real 0 in the input. */
    int32_t x_zero_point;
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* Number of elements of the output. */
    int32_t size;
    /* `count` codes as far from the zero point as can be; < 2^36, and it fits acc_t. */
    int64_t bound;
};

KERNEL void T(mean)(const struct T(mean) *p, const x_t *x, y_t *y)
{
    int32_t i, j, row, length = p->reduced[p->reduced_rank - 1];
    for (i = 0; i < p->size; i++) {
        const x_t *first = x + strided_index(i, p->kept_rank, p->kept, p->kept_strides);
        acc_t sum = 0;
        int64_t q;
        for (row = 0; row < p->count / length; row++) {
            const x_t *from =
                first + strided_index(row, p->reduced_rank - 1, p->reduced, p->reduced_strides);
            for (j = 0; j < length; j++) {
                sum += from[j * p->reduced_strides[p->reduced_rank - 1]];
            }
        }
        sum -= (acc_t)p->count * p->x_zero_point;
        ASSERT_BOUND(sum, p->bound);
        q = round_ratio((int64_t)sum * p->multiplier.significand, p->count, p->multiplier.shift);
        y[i] = (y_t)clamp(q + p->y_zero_point, p->clamp[0], p->clamp[1]);
    }
}
