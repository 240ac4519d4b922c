/*
 * y = clamp(round(u * factor + offset) + zy) with u = round(n / sqrt(W)), where n is N * x - sum x and
 * W is N * sum x^2 - (sum x)^2 + epsilon, or, not centered, x - zx and sum (x - zx)^2 + epsilon: the
 * integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y may be x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

/* Group g begins at g / inner * outer_stride + g % inner * inner_stride. */
struct T(normalize) {
    /* Factors, one or one for each channel of each inner group. */
    const int32_t *factor;
    /* What is added, likewise. */
    const int32_t *offset;
    /* Left shift of what is added. */
    int32_t offset_shift;
    /* Right shift of the sum of both, >= 1. */
    int32_t shift;
    /* Right shift of a normalized value, with which a root of 1 begins. */
    int32_t unit_shift;
    /* Left shift of the sum of squares, a right one where it is negative; -62..62. */
    int32_t square_shift;
    /* What is added to the sum of squares. */
    int64_t epsilon;
    /* Whether the mean is subtracted. */
    int32_t centered;
    /* Code of real 0 in the input; 0 where the mean is subtracted. */
    int32_t x_zero_point;
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* Number of groups. */
    int32_t groups;
    /* Groups that lie beside one another. */
    int32_t inner;
    /* Distance between blocks of so many groups. */
    int32_t outer_stride;
    /* Distance between the groups of a block. */
    int32_t inner_stride;
    /* Channels of a group, and the distance between them. */
    int32_t channels;
    int32_t channel_stride;
    /* Elements of a channel, and the distance between them. */
    int32_t length;
    int32_t stride;
    /* Distance between the factors of groups and of channels. */
    int32_t factor_strides[2];
    /* The sum of squares, times N where the mean is subtracted; < 2^63. */
    int64_t bound;
};

/* floor(sqrt(w)), bit by bit. */
KERNEL uint64_t T(normalize_root)(uint64_t w)
{
    uint64_t root = 0, bit;
    for (bit = (uint64_t)1 << 31; bit > 0; bit >>= 1) {
        if ((root | bit) * (root | bit) <= w) {
            root |= bit;
        }
    }
    return root;
}

KERNEL void T(normalize_group)(const struct T(normalize) *p, int32_t g, const x_t *x, y_t *y)
{
    int32_t c, i, unit_shift = p->unit_shift;
    int64_t count = p->centered ? (int64_t)p->channels * p->length : 1;
    int64_t sum = 0, squares = 0, reciprocal;
    uint64_t w;
    for (c = 0; c < p->channels; c++) {
        const x_t *from = x + c * p->channel_stride;
        for (i = 0; i < p->length; i++) {
            int64_t d = from[i * p->stride] - p->x_zero_point;
            sum += d;
            squares += d * d;
        }
    }
    if (!p->centered) {
        sum = 0;
    }
    ASSERT_BOUND(count * squares, p->bound);
    squares = count * squares - sum * sum;
    squares = p->square_shift >= 0 ? squares << p->square_shift : squares >> -p->square_shift;
    squares += p->epsilon;
    w = squares > 1 ? (uint64_t)squares : 1;
    /* An even shift brings the root into 2^31..2^32. */
    while (w >> 62 == 0) {
        w <<= 2;
        unit_shift -= 1;
    }
    reciprocal = (int64_t)(((uint64_t)1 << 60) / T(normalize_root)(w));
    unit_shift = clamp(unit_shift, 1, 62);
    for (c = 0; c < p->channels; c++) {
        const x_t *from = x + c * p->channel_stride;
        y_t *to = y + c * p->channel_stride;
        int32_t channel = g % p->inner * p->factor_strides[0] + c * p->factor_strides[1];
        int64_t factor = p->factor[channel];
        int64_t offset = p->offset[channel] * ((int64_t)1 << p->offset_shift);
        for (i = 0; i < p->length; i++) {
            int64_t d = from[i * p->stride] - p->x_zero_point;
            int64_t unit = round_shift((count * d - sum) * reciprocal, unit_shift);
            int64_t q = round_shift(unit * factor + offset, p->shift);
            to[i * p->stride] = (y_t)clamp(q + p->y_zero_point, p->clamp[0], p->clamp[1]);
        }
    }
}

KERNEL void T(normalize)(const struct T(normalize) *p, const x_t *x, y_t *y)
{
    int32_t g;
    for (g = 0; g < p->groups; g++) {
        int32_t first = g / p->inner * p->outer_stride + g % p->inner * p->inner_stride;
        T(normalize_group)(p, g, x + first, y + first);
    }
}
