/*
 * y[r][o] = requantize(bias[o] + sum_i (x[r][i] - zx) * weight[o][i]): the integer reference `int.rs` in
 * C99. The zero point is moved into the bias.
 *
 * The includer has included arith.h and kernels/matmul.c. The weights have blocks of 4 rows. y is not x.
 */

struct linear {
    struct product product;
    /* Number of products: of x, rows * depth codes are read. */
    int32_t rows;
};

/* Adds to sums the products of four rows of weights and x. */
INLINE void linear_sums(acc_t sums[4], const code_t *x, const weight_t *weight, int32_t depth)
{
    int32_t k = 0, i;
    if (MATMUL_DSP && depth >= 4) {
        k = depth / 4 * 4;
        dot_4((int32_t *)(void *)sums, (const int8_t *)(const void *)x,
              (const int8_t *)(const void *)weight, depth / 4);
    }
    for (; k < depth; k++) {
        const weight_t *column = weight + k / 4 * 16 + k % 4;
        int32_t code = x[k];
        for (i = 0; i < 4; i++) {
            sums[i] += code * column[i * 4];
        }
    }
}

/* Writes the codes of up to four channels. */
INLINE void linear_store(const struct product *p, int32_t form, int wide, int32_t first,
                         const acc_t sums[4], code_t *y)
{
    int32_t i, count = p->out_ch - first < 4 ? p->out_ch - first : 4;
    for (i = 0; i < count; i++) {
        struct scale scale = scale_of(&p->requant, form, first + i);
        ASSERT_BOUND(sums[i], p->bound);
        y[first + i] = code_of(&p->requant, form, wide, scale, sums[i]);
    }
}

OUTLINE void linear(const struct linear *layer, const code_t *x, code_t *y)
{
    const struct product *p = &layer->product;
    int32_t block = (p->depth + 3) / 4 * 16, form = p->requant.form, row, o, i;
    for (row = 0; row < layer->rows; row++) {
        const weight_t *weight = p->weight;
        for (o = 0; o < p->out_ch; o += 4) {
            acc_t sums[4];
            for (i = 0; i < 4; i++) {
                sums[i] = p->bias[o + i < p->out_ch ? o + i : o];
            }
            linear_sums(sums, x, weight, p->depth);
            weight += block;
            if (form == REQUANT_HIGH && requant_wide(&p->requant)) {
                linear_store(p, REQUANT_HIGH, 1, o, sums, y);
            } else if (form == REQUANT_HIGH) {
                linear_store(p, REQUANT_HIGH, 0, o, sums, y);
            } else if (form == REQUANT_SHIFT) {
                linear_store(p, REQUANT_SHIFT, 0, o, sums, y);
            } else {
                linear_store(p, REQUANT_GENERAL, 0, o, sums, y);
            }
        }
        x += p->depth;
        y += p->out_ch;
    }
}
