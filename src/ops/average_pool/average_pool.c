/*
 * y = clamp(round(sum (x - zx) / count * multiplier) + zy), the division and the product rounded
 * once, together: the integer reference `int.rs` in C99. The sum over n taps is sum x - n * zx.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

struct T(average_pool) {
    /* [n, h, w, c] of the input. */
    int32_t x_shape[4];
    /* [n, h, w, c] of the output. */
    int32_t y_shape[4];
    /* [kh, kw]. */
    int32_t kernel[2];
    /* Step of the window along [h, w]. */
    int32_t stride[2];
    /* [top, left, bottom, right]. */
    int32_t pads[4];
    /* Padding counts as real 0; otherwise only taps inside the input count. */
    int32_t count_include_pad;
    /* x_scale / y_scale. */
    struct multiplier multiplier;
    /* Code of real 0 in the input. */
    int32_t x_zero_point;
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* kh * kw codes as far from the zero point as can be; < 2^36, and it fits acc_t. */
    int64_t bound;
};

/* Taps begin..end of a window that lie inside the input, and by how many it is averaged. */
struct T(average_pool_span) {
    int32_t begin;
    int32_t end;
    int32_t count;
};

KERNEL struct T(average_pool_span) T(average_pool_span)(const struct T(average_pool) *p, int32_t axis,
                                                  int32_t o)
{
    struct T(average_pool_span) span;
    int32_t size = p->x_shape[axis + 1], pad = p->pads[axis];
    int32_t begin = o * p->stride[axis], end = begin + p->kernel[axis];
    if (end > size + pad + p->pads[axis + 2]) {
        end = size + pad + p->pads[axis + 2];
    }
    span.begin = begin < pad ? 0 : begin - pad;
    span.end = end - pad > size ? size : end - pad;
    if (span.end < span.begin) {
        span.end = span.begin;
    }
    span.count = p->count_include_pad ? end - begin : span.end - span.begin;
    return span;
}

/* The output code of a sum of (x - zx). */
KERNEL y_t T(average_pool_code)(const struct T(average_pool) *p, acc_t sum, int32_t count)
{
    int64_t q;
    ASSERT_BOUND(sum, p->bound);
    if (p->kernel[0] * p->kernel[1] < 256) {
        /* round_ratio with divisions of 32 bits: |sum| < 2^24, and part < 255 * 2^24. */
        int32_t whole = (int32_t)sum / count, rest = (int32_t)sum % count;
        uint32_t part;
        int64_t quotient;
        if (rest < 0) {
            whole -= 1;
            rest += count;
        }
        part = (uint32_t)rest * (uint32_t)p->multiplier.significand;
        quotient = (int64_t)whole * p->multiplier.significand + part / (uint32_t)count;
        q = round_shift(2 * quotient + (part % (uint32_t)count != 0), p->multiplier.shift + 1);
    } else {
        q = round_ratio((int64_t)sum * p->multiplier.significand, count, p->multiplier.shift);
    }
    return (y_t)clamp(q + p->y_zero_point, p->clamp[0], p->clamp[1]);
}

KERNEL void T(average_pool)(const struct T(average_pool) *p, const x_t *x, y_t *y)
{
    int32_t h = p->x_shape[1], w = p->x_shape[2], c = p->x_shape[3];
    int32_t image, oy, ox, iy, ix, channel;
    for (image = 0; image < p->x_shape[0]; image++) {
        for (oy = 0; oy < p->y_shape[1]; oy++) {
            struct T(average_pool_span) rows = T(average_pool_span)(p, 0, oy);
            for (ox = 0; ox < p->y_shape[2]; ox++) {
                struct T(average_pool_span) columns = T(average_pool_span)(p, 1, ox);
                int32_t taps = (rows.end - rows.begin) * (columns.end - columns.begin);
                int32_t count = rows.count * columns.count;
                acc_t zero = (acc_t)taps * p->x_zero_point;
                /* Four channels at a time, then the rest one by one. */
                for (channel = 0; channel + 4 <= c; channel += 4) {
                    acc_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
                    for (iy = rows.begin; iy < rows.end; iy++) {
                        const x_t *tap = x + (iy * w + columns.begin) * c + channel;
                        for (ix = columns.begin; ix < columns.end; ix++) {
                            s0 += tap[0];
                            s1 += tap[1];
                            s2 += tap[2];
                            s3 += tap[3];
                            tap += c;
                        }
                    }
                    *y++ = T(average_pool_code)(p, s0 - zero, count);
                    *y++ = T(average_pool_code)(p, s1 - zero, count);
                    *y++ = T(average_pool_code)(p, s2 - zero, count);
                    *y++ = T(average_pool_code)(p, s3 - zero, count);
                }
                for (; channel < c; channel++) {
                    acc_t sum = 0;
                    for (iy = rows.begin; iy < rows.end; iy++) {
                        const x_t *tap = x + (iy * w + columns.begin) * c + channel;
                        for (ix = columns.begin; ix < columns.end; ix++) {
                            sum += *tap;
                            tap += c;
                        }
                    }
                    *y++ = T(average_pool_code)(p, sum - zero, count);
                }
            }
        }
        x += h * w * c;
    }
}
