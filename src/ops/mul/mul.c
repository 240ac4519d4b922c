/*
 * y = clamp(round((a - za) * (b - zb) * multiplier) + zy): the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y may be a or b if that one is not broadcast.
 *
 * The product has 16 bits with 8-bit codes and 32 with 16-bit ones, and a sign; times the
 * significand at most 56 and a sign.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

struct T(mul) {
    /* a_scale * b_scale / y_scale. */
    struct multiplier multiplier;
    /* Code of real 0 in each input. */
    int32_t zero_point[2];
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* Shape of the output; rank >= 1. */
    int32_t rank;
    const int32_t *shape;
    /* Strides of each input along the axes of `shape`, 0 where it is broadcast. */
    const int32_t *strides[2];
    /* Number of elements of the output. */
    int32_t size;
    /* Both inputs lie in memory like the output; `rank`, `shape` and `strides` are not read. */
    int32_t same_shape;
    /* No product of codes less zero points exceeds it; it fits acc_t. */
    int64_t bound;
};

KERNEL y_t T(mul_codes)(const struct T(mul) *p, int32_t a, int32_t b)
{
    acc_t acc = (acc_t)(a - p->zero_point[0]) * (acc_t)(b - p->zero_point[1]);
    ASSERT_BOUND(acc, p->bound);
    return (y_t)clamp(round_shift((int64_t)acc * p->multiplier.significand, p->multiplier.shift)
                     + p->y_zero_point, p->clamp[0], p->clamp[1]);
}

KERNEL void T(mul)(const struct T(mul) *p, const x_t *a, const x_t *b, y_t *y)
{
    int32_t i, row, length;
    if (p->same_shape) {
        for (i = 0; i < p->size; i++) {
            y[i] = T(mul_codes)(p, a[i], b[i]);
        }
        return;
    }
    length = p->shape[p->rank - 1];
    for (row = 0; row < p->size / length; row++) {
        const x_t *pa = a + strided_index(row, p->rank - 1, p->shape, p->strides[0]);
        const x_t *pb = b + strided_index(row, p->rank - 1, p->shape, p->strides[1]);
        for (i = 0; i < length; i++) {
            y[i] = T(mul_codes)(p, *pa, *pb);
            pa += p->strides[0][p->rank - 1];
            pb += p->strides[1][p->rank - 1];
        }
        y += length;
    }
}
