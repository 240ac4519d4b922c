/*
 * y[i][j] = requantize(sum_k (a[i][k] - za) * (b[k][j] - zb)) for each matrix of the batch: the
 * integer reference `int.rs` in C99. The sum is
 * sum_k (a[i][k] - za) * b[k][j] - zb * sum_k (a[i][k] - za).
 *
 * The includer has included arith.h. y is neither a nor b.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif
#ifndef ASSERT_BOUND
#define ASSERT_BOUND(acc, bound) ((void)0)
#endif

struct T(matmul) {
    /* Sizes of the leading axes of the output; rank >= 0. */
    int32_t rank;
    const int32_t *batch;
    /* Strides of each input along them, 0 where it is broadcast. */
    const int32_t *strides[2];
    /* Rows of a. */
    int32_t m;
    /* Columns of a, rows of b. */
    int32_t k;
    /* Columns of b. */
    int32_t n;
    /* a_scale * b_scale / y_scale. */
    struct multiplier multiplier;
    /* Code of real 0 in each input. */
    int32_t zero_point[2];
    /* Code of real 0 in the output. */
    int32_t y_zero_point;
    /* Output range. */
    int32_t clamp[2];
    /* Number of matrices: the product of `batch`. */
    int32_t count;
    /* k * max |a - za| * max |b - zb|: no partial sum, with or without zb, exceeds it. It fits
       acc_t and what `rescale` allows. */
    int64_t bound;
};

KERNEL y_t T(matmul_code)(const struct T(matmul) *p, acc_t acc)
{
    ASSERT_BOUND(acc, p->bound);
    return (y_t)clamp(RESCALE(acc, p->multiplier) + p->y_zero_point, p->clamp[0], p->clamp[1]);
}

KERNEL void T(matmul)(const struct T(matmul) *p, const x_t *a, const x_t *b, y_t *y)
{
    int32_t matrix, row, column, k;
    for (matrix = 0; matrix < p->count; matrix++) {
        const x_t *pa = a + strided_index(matrix, p->rank, p->batch, p->strides[0]);
        const x_t *pb = b + strided_index(matrix, p->rank, p->batch, p->strides[1]);
        for (row = 0; row < p->m; row++) {
            acc_t zero = 0;
            for (k = 0; k < p->k; k++) {
                zero += pa[k] - p->zero_point[0];
            }
            zero *= p->zero_point[1];
            /* Four columns at a time, then the rest one by one. */
            for (column = 0; column + 4 <= p->n; column += 4) {
                const x_t *line = pb + column;
                acc_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
                for (k = 0; k < p->k; k++) {
                    acc_t left = pa[k] - p->zero_point[0];
                    s0 += left * line[0];
                    s1 += left * line[1];
                    s2 += left * line[2];
                    s3 += left * line[3];
                    line += p->n;
                }
                *y++ = T(matmul_code)(p, s0 - zero);
                *y++ = T(matmul_code)(p, s1 - zero);
                *y++ = T(matmul_code)(p, s2 - zero);
                *y++ = T(matmul_code)(p, s3 - zero);
            }
            for (; column < p->n; column++) {
                acc_t sum = 0;
                for (k = 0; k < p->k; k++) {
                    sum += (acc_t)(pa[k] - p->zero_point[0]) * pb[k * p->n + column];
                }
                *y++ = T(matmul_code)(p, sum - zero);
            }
            pa += p->k;
        }
    }
}
