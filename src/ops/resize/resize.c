/*
 * y = clamp(round(sum * multiplier) + zy),
 * sum = (x00 * (1 - u) + x01 * u) * (1 - v) + (x10 * (1 - u) + x11 * u) * v, each x less zx: linear
 * interpolation, the integer reference `int.rs` in C99. Both interpolations are summed exactly,
 * rescaled and rounded once.
 *
 * The includer has included arith.h. y is not x.
 *
 * Along a row there are X_BITS + RESIZE_WEIGHT_BITS bits (19 or 34), in all 30 or 52, and a sign; times
 * the significand of the smaller ones at most 54.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

/* Weights of an interpolation are multiples of 2^-RESIZE_WEIGHT_BITS. */
#undef RESIZE_WEIGHT_BITS
#undef RESIZE_RESCALE
#undef resize_sum_t
#if X_BITS == 8
#define RESIZE_WEIGHT_BITS 11
#define RESIZE_RESCALE rescale
#define resize_sum_t int32_t
#else
#define RESIZE_WEIGHT_BITS 18
#define RESIZE_RESCALE rescale_wide
#define resize_sum_t int64_t
#endif

/* An output position between two input positions. */
struct T(between) {
    /* Index of the lower neighbour. */
    uint32_t low;
    /* Index of the upper neighbour. */
    uint32_t high;
    /* Weight of the upper neighbour, in units of 2^-RESIZE_WEIGHT_BITS: 0..2^RESIZE_WEIGHT_BITS. */
    int32_t weight;
};

struct T(resize_linear) {
    /* [n, h, w, c] of the input. */
    int32_t x_shape[4];
    /* For each output row. */
    const struct T(between) *rows;
    /* For each output column. */
    const struct T(between) *columns;
    /* x_scale / y_scale; shift <= 40. */
    struct multiplier multiplier;
    /* Code of real 0 in the input. */
    int32_t x_zero_point;
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* Number of `rows` and of `columns`. */
    int32_t y_size[2];
    /* The largest |x - zx| * 2^(2 * RESIZE_WEIGHT_BITS); it need not fit acc_t. */
    int64_t bound;
};

KERNEL void T(resize_linear)(const struct T(resize_linear) *p, const x_t *x, y_t *y)
{
    int32_t h = p->x_shape[1], w = p->x_shape[2], c = p->x_shape[3], one = 1 << RESIZE_WEIGHT_BITS;
    int32_t image, oy, ox, i;
    struct multiplier multiplier = p->multiplier;
    multiplier.shift += 2 * RESIZE_WEIGHT_BITS;
    for (image = 0; image < p->x_shape[0]; image++) {
        for (oy = 0; oy < p->y_size[0]; oy++) {
            struct T(between) row = p->rows[oy];
            for (ox = 0; ox < p->y_size[1]; ox++) {
                struct T(between) column = p->columns[ox];
                const x_t *x00 = x + ((int32_t)row.low * w + (int32_t)column.low) * c;
                const x_t *x01 = x + ((int32_t)row.low * w + (int32_t)column.high) * c;
                const x_t *x10 = x + ((int32_t)row.high * w + (int32_t)column.low) * c;
                const x_t *x11 = x + ((int32_t)row.high * w + (int32_t)column.high) * c;
                for (i = 0; i < c; i++) {
                    resize_sum_t low = (resize_sum_t)(x00[i] - p->x_zero_point) * (one - column.weight)
                                       + (resize_sum_t)(x01[i] - p->x_zero_point) * column.weight;
                    resize_sum_t high = (resize_sum_t)(x10[i] - p->x_zero_point) * (one - column.weight)
                                        + (resize_sum_t)(x11[i] - p->x_zero_point) * column.weight;
                    resize_sum_t sum = low * (one - row.weight) + high * row.weight;
                    int64_t q = RESIZE_RESCALE(sum, multiplier);
                    ASSERT_BOUND(sum, p->bound);
                    *y++ = (y_t)clamp(q + p->y_zero_point, p->clamp[0], p->clamp[1]);
                }
            }
        }
        x += h * w * c;
    }
}
