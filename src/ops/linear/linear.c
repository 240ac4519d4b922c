/*
 * y[r][o] = requantize(bias[o] + sum_i (x[r][i] - zx) * weight[o][i]): the integer reference `int.rs` in
 * C99. The zero point is moved into the bias.
 *
 * The includer has included arith.h and kernels/product.c. The weights have blocks of 4 rows. y is not x.
 */

struct T(linear) {
    struct T(product) product;
    /* Number of products: of x, rows * depth codes are read. */
    int32_t rows;
};

/* The sums of four channels, in registers. */
struct T(sums_4) {
    acc_t s0, s1, s2, s3;
};

/* Adds the products of one code and the weights of it, which are 4 apart. */
INLINE struct T(sums_4) T(linear_add)(struct T(sums_4) s, int32_t code, const weight_t *weight)
{
    s.s0 += code * weight[0];
    s.s1 += code * weight[4];
    s.s2 += code * weight[8];
    s.s3 += code * weight[12];
    return s;
}

/* Adds to sums the products of four rows of weights and x. */
INLINE void T(linear_sums)(acc_t sums[4], const x_t *x, const weight_t *weight, int32_t depth)
{
    struct T(sums_4) s;
    if (MATMUL_DSP && depth >= 4) {
        dot_4((int32_t *)(void *)sums, (const int8_t *)(const void *)x,
              (const int8_t *)(const void *)weight, depth / 4);
        x += depth / 4 * 4;
        weight += depth / 4 * 16;
        depth %= 4;
    }
    s.s0 = sums[0];
    s.s1 = sums[1];
    s.s2 = sums[2];
    s.s3 = sums[3];
    for (; !MATMUL_DSP && depth >= 4; depth -= 4) {
        s = T(linear_add)(s, x[0], weight);
        s = T(linear_add)(s, x[1], weight + 1);
        s = T(linear_add)(s, x[2], weight + 2);
        s = T(linear_add)(s, x[3], weight + 3);
        x += 4;
        weight += 16;
    }
    for (; depth > 0; depth--) {
        s = T(linear_add)(s, *x++, weight++);
    }
    sums[0] = s.s0;
    sums[1] = s.s1;
    sums[2] = s.s2;
    sums[3] = s.s3;
}

/* Writes the codes of channels `first` to `end`, at most four. */
INLINE void T(linear_store)(const struct T(product) *p, int32_t form, int wide, struct T(scale) common, int32_t first,
                         int32_t end, const acc_t *sums, y_t *y)
{
    /* A copy, which codes stored into y cannot alias. */
    const struct T(requant) requant = p->requant;
    for (; first < end; first++) {
        struct T(scale) scale = T(scale_of)(&requant, form, common, first);
        ASSERT_BOUND(*sums, p->bound);
        y[first] = T(code_of)(&requant, form, wide, scale, first, *sums++);
    }
}

OUTLINE void T(linear)(const struct T(linear) *layer, const x_t *x, y_t *y)
{
    const struct T(product) *p = &layer->product;
    int32_t block = (p->depth + 3) / 4 * 16, form = p->requant.form, row, o, end;
    struct T(scale) common = T(scale_common)(&p->requant, form);
    int wide = T(requant_wide)(&p->requant);
    for (row = 0; row < layer->rows; row++) {
        const weight_t *weight = p->weight;
        for (o = 0; o < p->out_ch; o = end) {
            acc_t sums[4] = {0, 0, 0, 0};
            end = o + 4;
            if (end <= p->out_ch) {
                memcpy(sums, p->bias + o, sizeof sums);
            } else {
                end = p->out_ch;
                memcpy(sums, p->bias + o, (uint32_t)(end - o) * sizeof *sums);
            }
            T(linear_sums)(sums, x, weight, p->depth);
            weight += block;
            if (form == REQUANT_HIGH && wide) {
                T(linear_store)(p, REQUANT_HIGH, 1, common, o, end, sums, y);
            } else if (form == REQUANT_HIGH) {
                T(linear_store)(p, REQUANT_HIGH, 0, common, o, end, sums, y);
            } else if (form == REQUANT_SHIFT) {
                T(linear_store)(p, REQUANT_SHIFT, 0, common, o, end, sums, y);
            } else {
                T(linear_store)(p, REQUANT_GENERAL, 0, common, o, end, sums, y);
            }
        }
        x += p->depth;
        y += p->out_ch;
    }
}
