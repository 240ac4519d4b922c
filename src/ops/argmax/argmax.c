/*
 * y = clamp(i + zy) with the first (or last) i at which x_i is largest: the integer reference `int.rs`
 * in C99.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct T(argmax) {
    /* Number of elements among which the largest is sought, <= 65536. */
    int32_t size;
    /* Distance between them. */
    int32_t stride;
    /* Whether the last of several maxima counts, not the first. */
    int32_t last;
    /* Code of index 0 in the output, whose scale is 1. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* Number of searches: elements / size. */
    int32_t count;
};

KERNEL void T(argmax)(const struct T(argmax) *p, const x_t *x, y_t *y)
{
    int32_t n, i;
    for (n = 0; n < p->count; n++) {
        const x_t *from = x + (n / p->stride * p->stride * p->size + n % p->stride);
        int32_t best = 0;
        for (i = 1; i < p->size; i++) {
            int32_t here = from[i * p->stride], largest = from[best * p->stride];
            if (here > largest || (p->last && here == largest)) {
                best = i;
            }
        }
        y[n] = (y_t)clamp(best + p->y_zero_point, p->clamp[0], p->clamp[1]);
    }
}
