/*
 * y[r][o] = requantize(bias[o] + sum_i (x[r][i] - zx) * weight[o][i]): the integer reference `int.rs` in
 * C99. The zero point is moved into the bias.
 *
 * The includer has included arith.h and product.inc. The weights have blocks of 4 rows. y is not x.
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

/* Adds the products of one code and the weights k of a group. */
INLINE struct T(sums_4) T(linear_add)(struct T(sums_4) s, int32_t code, const weight_t *group, int32_t k)
{
    s.s0 += code * T(weight_in)(group, 0, k);
    s.s1 += code * T(weight_in)(group, 1, k);
    s.s2 += code * T(weight_in)(group, 2, k);
    s.s3 += code * T(weight_in)(group, 3, k);
    return s;
}

/* Adds to sums the products of four rows of weights and x. */
INLINE void T(linear_sums)(acc_t sums[4], const x_t *RESTRICT x, const weight_t *RESTRICT weight, int32_t depth)
{
    struct T(sums_4) s;
    int32_t k;
    if (MATMUL_DSP && depth >= 4) {
        const int8_t *group = (const int8_t *)(const void *)weight;
        if (ACC_BITS == 64) {
            DOT_OF(dot_4_wide, X_BITS)((int64_t *)(void *)sums, x, group, depth / 4);
        } else {
            DOT_OF(dot_4, X_BITS)((int32_t *)(void *)sums, x, group, depth / 4);
        }
        x += depth / 4 * 4;
        weight += WEIGHTS(depth / 4 * 16);
        depth %= 4;
    }
    s.s0 = sums[0];
    s.s1 = sums[1];
    s.s2 = sums[2];
    s.s3 = sums[3];
    LOOP
    for (; !MATMUL_DSP && depth >= 4; depth -= 4) {
        s = T(linear_add)(s, x[0], weight, 0);
        s = T(linear_add)(s, x[1], weight, 1);
        s = T(linear_add)(s, x[2], weight, 2);
        s = T(linear_add)(s, x[3], weight, 3);
        x += 4;
        weight += WEIGHTS(16);
    }
    for (k = 0; k < depth; k++) {
        s = T(linear_add)(s, x[k], weight, k);
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
    int32_t block = (p->depth + 3) / 4 * 16, form = p->requant.form, row, o, end, i, start = 0;
    struct T(scale) common = T(scale_common)(&p->requant, form);
    int wide = T(requant_wide)(&p->requant);
    for (row = 0; row < layer->rows; row++) {
        const weight_t *weight = p->weight;
        if (MATMUL_STARTS) {
            start = start_1(x, p->depth / 4, X_BITS);
        }
        for (o = 0; o < p->out_ch; o = end) {
            acc_t sums[4] = {0, 0, 0, 0};
            end = o + 4;
            if (end <= p->out_ch) {
                memcpy(sums, p->bias + o, sizeof sums);
            } else {
                end = p->out_ch;
                memcpy(sums, p->bias + o, (uint32_t)(end - o) * sizeof *sums);
            }
            for (i = 0; MATMUL_STARTS && i < 4; i++) {
                sums[i] = add_modulo((int32_t)sums[i], start);
            }
            T(linear_sums)(sums, x, weight, p->depth);
            weight += WEIGHTS(block);
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
