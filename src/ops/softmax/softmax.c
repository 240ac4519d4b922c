/*
 * y_i = clamp(round(exp(max - x_i) / sum exp(max - x_j) * multiplier) + zy), the division and the
 * product rounded once, together: the integer reference `int.rs` in C99.
 *
 * exp(d) is exp(-d * x_scale) * 2^23: fine[d] with 8-bit codes, and with 16-bit ones
 * round(coarse[d / 256] * fine[d % 256] * 2^-30), a product of at most 53 bits.
 *
 * The includer has included arith.h. y may be x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

struct T(softmax) {
    /* 256 entries: round(exp(-i * x_scale) * 2^23). */
    const int32_t *fine;
    /* 2^(X_BITS - 8) entries: round(exp(-256 * j * x_scale) * 2^30). Not read with 8 bits. */
    const int32_t *coarse;
    /* 1 / y_scale; shift <= 40. */
    struct multiplier multiplier;
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* Number of elements that one softmax runs over, < 2^24. */
    int32_t size;
    /* Distance between them. */
    int32_t stride;
    /* Number of softmaxes: elements / size. */
    int32_t count;
    /* size * 2^23; it need not fit acc_t. */
    int64_t bound;
};

KERNEL int32_t T(softmax_exp)(const struct T(softmax) *p, int32_t d)
{
#if X_BITS == 8
    return p->fine[d];
#else
    return (int32_t)round_shift((int64_t)p->coarse[d >> 8] * p->fine[d & 255], 30);
#endif
}

KERNEL void T(softmax)(const struct T(softmax) *p, const x_t *x, y_t *y)
{
    int32_t n, i;
    for (n = 0; n < p->count; n++) {
        int32_t first = n / p->stride * p->stride * p->size + n % p->stride;
        const x_t *from = x + first;
        y_t *to = y + first;
        int32_t max = X_MIN;
        int64_t sum = 0;
        for (i = 0; i < p->size; i++) {
            max = from[i * p->stride] > max ? from[i * p->stride] : max;
        }
        for (i = 0; i < p->size; i++) {
            sum += T(softmax_exp)(p, max - from[i * p->stride]);
        }
        ASSERT_BOUND(sum, p->bound);
        for (i = 0; i < p->size; i++) {
            int64_t part = T(softmax_exp)(p, max - from[i * p->stride]);
            int64_t q = round_ratio(part * p->multiplier.significand, sum, p->multiplier.shift);
            to[i * p->stride] = (y_t)clamp(q + p->y_zero_point, p->clamp[0], p->clamp[1]);
        }
    }
}
