/*
 * y[n][oy][ox][o] = requantize(bias[o] + sum (x[n][iy][ix][c] - zx) * weight[o][ky][kx][c]) over the taps
 * for which iy * stride + ky * dilation - pad = oy, likewise ix: the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h and product.inc. weight[o][ky][kx][c] is number
 * ((o * kh + ky) * kw + kx) * in_ch / group + c, and product.bias is q_b[o] alone: the number of taps
 * differs between positions, so the zero point cannot be moved into it. y is not x.
 */

struct T(conv_transpose) {
    /* depth = kh * kw * in_ch / group. */
    struct T(product) product;
    /* [n, h, w, c] of the input. */
    int32_t x_shape[4];
    /* [n, h, w, c] of the output. */
    int32_t y_shape[4];
    /* [kh, kw]. */
    int32_t kernel[2];
    /* Step that one input position makes in the output, along [h, w]. */
    int32_t stride[2];
    /* Distance between taps along [h, w]. */
    int32_t dilation[2];
    /* Rows cut off above and columns cut off left of the output. */
    int32_t pad[2];
    /* Number of groups that channels are divided into. */
    int32_t group;
    /* Code of real 0 in the input. */
    int32_t x_zero_point;
};

/* The input position whose tap k falls on output position o along an axis, or -1. */
KERNEL int32_t T(conv_transpose_position)(const struct T(conv_transpose) *p, int axis, int32_t o, int32_t k)
{
    int32_t scaled = o + p->pad[axis] - k * p->dilation[axis], i = scaled / p->stride[axis];
    return scaled >= 0 && scaled == i * p->stride[axis] && i < p->x_shape[axis + 1] ? i : -1;
}

/* The accumulator of channel o at one position, from the channels of its group, where `image` begins. */
KERNEL acc_t T(conv_transpose_sum)(const struct T(conv_transpose) *p, const x_t *image, int32_t oy, int32_t ox,
                                int32_t o)
{
    int32_t w = p->x_shape[2], in_ch = p->x_shape[3], count = in_ch / p->group, ky, kx, c;
    int32_t weight = o * p->product.depth;
    acc_t acc = p->product.bias[o];
    for (ky = 0; ky < p->kernel[0]; ky++) {
        int32_t iy = T(conv_transpose_position)(p, 0, oy, ky);
        if (iy < 0) {
            weight += p->kernel[1] * count;
            continue;
        }
        for (kx = 0; kx < p->kernel[1]; kx++) {
            int32_t ix = T(conv_transpose_position)(p, 1, ox, kx);
            if (ix >= 0) {
                const x_t *x = image + (iy * w + ix) * in_ch;
                for (c = 0; c < count; c++) {
                    acc += (acc_t)(x[c] - p->x_zero_point) * T(weight_of)(p->product.weight, weight + c);
                }
            }
            weight += count;
        }
    }
    return acc;
}

KERNEL void T(conv_transpose)(const struct T(conv_transpose) *p, const x_t *x, y_t *y)
{
    int32_t in_per_group = p->x_shape[3] / p->group, out_per_group = p->y_shape[3] / p->group;
    int32_t form = p->product.requant.form, image, oy, ox, o;
    struct T(scale) common = T(scale_common)(&p->product.requant, form);
    for (image = 0; image < p->x_shape[0]; image++) {
        for (oy = 0; oy < p->y_shape[1]; oy++) {
            for (ox = 0; ox < p->y_shape[2]; ox++) {
                for (o = 0; o < p->y_shape[3]; o++) {
                    const x_t *group = x + o / out_per_group * in_per_group;
                    acc_t acc = T(conv_transpose_sum)(p, group, oy, ox, o);
                    struct T(scale) scale = T(scale_of)(&p->product.requant, form, common, o);
                    ASSERT_BOUND(acc, p->product.bound);
                    *y++ = T(code_of)(&p->product.requant, form, 0, scale, o, acc);
                }
            }
        }
        x += p->x_shape[1] * p->x_shape[2] * p->x_shape[3];
    }
}
