/*
 * y = clamp(round((a - za) * fa + (b - zb) * fb, shift) + zy): the integer reference `int.rs` in
 * C99, summed exactly, rounded once, half to even.
 *
 * The includer has included arith.h. y may be a or b if that one is not broadcast.
 *
 * With everything that does not depend on the codes in one constant,
 *     s = offset + a * fa + b * fb,
 *     offset = (zy - lo) * 2^shift + 2^(shift - 1) - za * fa - zb * fb,
 * q = s >> shift is the result less lo, rounded half up. Where s is a multiple of 2^shift that was
 * a tie, and q is 1 too large if q + lo - zy is odd. Then y = lo + min(max(q, 0), hi - lo).
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

struct T(add) {
    /* input_scale / y_scale * 2^shift for each input: exact integers, below 0 to subtract. */
    int64_t factor[2];
    /* The common shift, 1..62. */
    int32_t shift;
    /* Code of real 0 in each input. */
    int32_t zero_point[2];
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range: lo, hi. */
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
    /* The formula with `offset` is used. With reach = |offset| + 2^(X_BITS - 1) * (|fa| + |fb|):
       |fa| < 2^31, |fb| < 2^31, reach < 2^62, reach >> shift < 2^30.
       `factor`, `shift` and `offset` are those given above, or any others within these limits with
       which this formula gives the same code for every pair of codes, which has been checked. */
    int32_t folded;
    /* See above; 0 unless `folded`. */
    int64_t offset;
    /* `folded`, reach < 2^31 and shift <= 30: 32 bits suffice. */
    int32_t narrow;
    /* 0 only if no pair of codes gives a tie, or if all have been checked without this step. */
    int32_t ties;
    /* No partial sum exceeds it: reach, or, unless `folded`, of the formula at the top; < 2^62. */
    int64_t bound;
};

/* fa and fb are `factor`, if `folded`. */
KERNEL y_t T(add_codes)(const struct T(add) *p, int32_t a, int32_t b, int32_t fa, int32_t fb)
{
    int32_t q;
    if (!p->folded) {
        int64_t sum = (a - p->zero_point[0]) * p->factor[0];
        ASSERT_BOUND(sum, p->bound);
        sum += (b - p->zero_point[1]) * p->factor[1];
        ASSERT_BOUND(sum, p->bound);
        return (y_t)clamp(round_shift(sum, p->shift) + p->y_zero_point, p->clamp[0], p->clamp[1]);
    }
    ASSERT_BOUND(p->offset + (int64_t)a * fa, p->bound);
    ASSERT_BOUND(p->offset + (int64_t)a * fa + (int64_t)b * fb, p->bound);
    if (p->narrow) {
        int32_t sum = (int32_t)p->offset + a * fa + b * fb;
        q = sum >> p->shift;
        if (p->ties && (sum & (((int32_t)1 << p->shift) - 1)) == 0) {
            q -= (q ^ p->y_zero_point ^ p->clamp[0]) & 1;
        }
    } else {
        int64_t sum = p->offset + (int64_t)a * fa + (int64_t)b * fb;
        q = (int32_t)(sum >> p->shift);
        if (p->ties && (sum & (((int64_t)1 << p->shift) - 1)) == 0) {
            q -= (q ^ p->y_zero_point ^ p->clamp[0]) & 1;
        }
    }
    q = q < 0 ? 0 : q;
    q = q > p->clamp[1] - p->clamp[0] ? p->clamp[1] - p->clamp[0] : q;
    return (y_t)(q + p->clamp[0]);
}

KERNEL void T(add)(const struct T(add) *p, const x_t *a, const x_t *b, y_t *y)
{
    int32_t i, row, length, fa = 0, fb = 0;
    if (p->folded) {
        /* Hidden from the optimizer: GCC multiplies and accumulates (SMLAL) by a variable, but
           takes a product with a constant apart. */
        fa = (int32_t)*(const volatile int64_t *)&p->factor[0];
        fb = (int32_t)*(const volatile int64_t *)&p->factor[1];
    }
    if (p->same_shape) {
        for (i = 0; i < p->size; i++) {
            y[i] = T(add_codes)(p, a[i], b[i], fa, fb);
        }
        return;
    }
    length = p->shape[p->rank - 1];
    for (row = 0; row < p->size / length; row++) {
        const x_t *pa = a + strided_index(row, p->rank - 1, p->shape, p->strides[0]);
        const x_t *pb = b + strided_index(row, p->rank - 1, p->shape, p->strides[1]);
        for (i = 0; i < length; i++) {
            y[i] = T(add_codes)(p, pa[i * p->strides[0][p->rank - 1]],
                             pb[i * p->strides[1][p->rank - 1]], fa, fb);
        }
        y += length;
    }
}
