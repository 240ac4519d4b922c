/*
 * y[n][oy][ox][o] = requantize(bias[o] + sum (x[n][iy][ix][c] - zx) * weight[o][ky][kx][c]), where
 * iy = oy * stride + ky * dilation - pad, likewise ix: the integer reference `int.rs` in C99. The zero
 * point is moved into the bias, so that positions outside the input count as the code zx.
 *
 * The includer has included arith.h and product.inc. `scratch` is at a multiple of 4 bytes.
 *
 * Depthwise, that is in_ch = group > 1:
 *   weight[o][ky][kx] is number (o * kh + ky) * kw + kx.
 *   scratch holds one channel with its padding, 16 bits a position: 2 * rows * pitch bytes,
 *     rows  = (oh - 1) * stride[0] + (kh - 1) * dilation[0] + 1
 *     pitch = even(even(ow) * stride[1] + (kw - 1) * dilation[1]), where even() rounds up.
 *     and, of weights of 4 bits, those of one channel, a byte each: kh * kw more.
 *   y may be x if oh * ow <= h * w and out_ch = in_ch: a channel is read before any of it is written.
 *
 * Otherwise:
 *   weight[o][ky][kx][c] is as product.inc says with blocks of 2 rows, k = (ky * kw + kx) * in_ch / group
 *     + c, for the channels of each group by itself, one group after the other.
 *   scratch holds the columns of three positions, and the codes of one before they are widened unless
 *     in_ch / group is a multiple of 4: with depth4 = even4(kh * kw * in_ch / group), which rounds up
 *     to a multiple of 4, 6 * depth4 bytes and then sizeof(x_t) * depth4.
 *   y may be x if kernel = [1, 1], pad = [0, 0], group = 1, oh <= h, ow <= w and out_ch <= in_ch: no
 *     position of y lies behind the input it is computed from.
 */

struct T(conv) {
    /* depth = kh * kw * in_ch / group. */
    struct T(product) product;
    /* [n, h, w, c] of the input. */
    int32_t x_shape[4];
    /* [n, h, w, c] of the output. */
    int32_t y_shape[4];
    /* [kh, kw]. */
    int32_t kernel[2];
    /* Step of the window along [h, w]. */
    int32_t stride[2];
    /* Distance between taps along [h, w]. */
    int32_t dilation[2];
    /* Rows above and columns left of the input. */
    int32_t pad[2];
    /* Number of groups that channels are divided into. */
    int32_t group;
    /* Code of real 0 in the input. */
    int32_t x_zero_point;
};

/* Whether no window reaches over the border along an axis: a constant. */
INLINE int T(conv_inside)(const struct T(conv) *p, int axis)
{
    int32_t last = (p->y_shape[axis + 1] - 1) * p->stride[axis];
    return p->pad[axis] == 0
        && last + (p->kernel[axis] - 1) * p->dilation[axis] < p->x_shape[axis + 1];
}

/* Whether runs of codes are no whole groups, so that a window is put together before it is widened. */
INLINE int T(conv_staged)(const struct T(conv) *p)
{
    return p->x_shape[3] / p->group % 4 != 0;
}

/* Where the next codes of a window go: to `stage` if there is one, else to the column. */
struct T(conv_sink) {
    int16_t *column;
    x_t *stage;
};

INLINE void T(conv_put)(const struct T(conv) *p, struct T(conv_sink) *sink, const x_t *codes, int32_t count)
{
    if (T(conv_staged)(p)) {
        memcpy(sink->stage, codes, (uint32_t)count * sizeof *codes);
        sink->stage += count;
    } else if (count <= 16) {
        sink->column = T(column_short)(sink->column, codes, count / 4);
    } else {
        sink->column = T(column_put)(sink->column, codes, count / 4);
    }
}

INLINE void T(conv_fill)(const struct T(conv) *p, struct T(conv_sink) *sink, int32_t code, int32_t count)
{
    if (!T(conv_staged)(p)) {
        sink->column = T(column_fill)(sink->column, code, count / 4);
        return;
    }
    for (; count > 0; count--) {
        *sink->stage++ = (x_t)code;
    }
}

/* The window of one output position, of which the first tap is at (top, left) of the image. */
INLINE void T(conv_window)(const struct T(conv) *p, const x_t *image, int32_t top, int32_t left,
                        struct T(conv_sink) *sink)
{
    int32_t h = p->x_shape[1], w = p->x_shape[2], in_ch = p->x_shape[3], count = in_ch / p->group;
    int32_t kw = p->kernel[1], ky, kx;
    /* Taps of a row that follow one another in memory are taken at once. */
    int whole = T(conv_inside)(p, 1) || (left >= 0 && left + (kw - 1) * p->dilation[1] < w);
    whole = whole && p->group == 1 && p->dilation[1] == 1;
    for (ky = 0; ky < p->kernel[0]; ky++) {
        int32_t iy = top + ky * p->dilation[0];
        int row_inside = T(conv_inside)(p, 0) || (iy >= 0 && iy < h);
        if (!row_inside) {
            T(conv_fill)(p, sink, p->x_zero_point, kw * count);
        } else if (whole) {
            T(conv_put)(p, sink, image + (iy * w + left) * in_ch, kw * count);
        } else {
            for (kx = 0; kx < kw; kx++) {
                int32_t ix = left + kx * p->dilation[1];
                if (T(conv_inside)(p, 1) || (ix >= 0 && ix < w)) {
                    T(conv_put)(p, sink, image + (iy * w + ix) * in_ch, count);
                } else {
                    T(conv_fill)(p, sink, p->x_zero_point, count);
                }
            }
        }
    }
}

/* The column of one output position. */
INLINE void T(conv_column)(const struct T(conv) *p, const x_t *image, int32_t oy, int32_t ox,
                        int16_t *columns, int32_t i)
{
    int32_t groups = (p->product.depth + 3) / 4;
    x_t *stage = (x_t *)(void *)(columns + groups * 4 * COLUMNS);
    struct T(conv_sink) sink;
    sink.column = T(column_at)(columns, i);
    sink.stage = stage;
    T(conv_window)(p, image, oy * p->stride[0] - p->pad[0], ox * p->stride[1] - p->pad[1], &sink);
    if (T(conv_staged)(p)) {
        T(conv_fill)(p, &sink, 0, groups * 4 - p->product.depth);
        T(column_put)(sink.column, stage, groups);
    }
}

/* The channels `first` to `end`, whose weights begin at `weight`, of one group, where `x` begins. */
INLINE void T(conv_group)(const struct T(conv) *p, int32_t first, int32_t end, const weight_t *weight,
                       const x_t *x, y_t *y, int16_t *columns)
{
    int32_t oh = p->y_shape[1], ow = p->y_shape[2], positions = p->y_shape[0] * oh * ow;
    int32_t position, i, oy = 0, ox = 0;
    y_t *to[COLUMNS];
    for (position = 0; position < positions; position += COLUMNS) {
        for (i = 0; i < COLUMNS; i++) {
            T(conv_column)(p, x, oy, ox, columns, i);
            to[i] = y;
            /* There are always three columns: the last ones may be of the same position. */
            if (position + i + 1 < positions) {
                y += p->y_shape[3];
                ox += 1;
                if (ox == ow) {
                    ox = 0;
                    oy += 1;
                }
                if (oy == oh) {
                    oy = 0;
                    x += p->x_shape[1] * p->x_shape[2] * p->x_shape[3];
                }
            }
        }
        T(product_3)(&p->product, first, end, weight, columns, to);
    }
}

/* Elements of a row of a plane, as said above. */
INLINE int32_t T(conv_pitch)(const struct T(conv) *p)
{
    int32_t columns = (p->y_shape[2] + 1) / 2 * 2;
    int32_t pitch = columns * p->stride[1] + (p->kernel[1] - 1) * p->dilation[1];
    return (pitch + 1) / 2 * 2;
}

/* Copies 2, 4 or 8 neighbours of one channel. */
INLINE void T(conv_widen)(int16_t *to, const x_t *from, int32_t in_ch, int32_t count)
{
    store_pair(to, pair_of(from[0], from[in_ch]));
    if (count >= 4) {
        store_pair(to + 2, pair_of(from[2 * in_ch], from[3 * in_ch]));
    }
    if (count >= 8) {
        store_pair(to + 4, pair_of(from[4 * in_ch], from[5 * in_ch]));
        store_pair(to + 6, pair_of(from[6 * in_ch], from[7 * in_ch]));
    }
}

/* Copies one channel into the middle of the plane. */
INLINE void T(conv_gather)(const struct T(conv) *p, const x_t *x, int16_t *plane, int32_t rows, int32_t pitch)
{
    int32_t h = p->x_shape[1], w = p->x_shape[2], in_ch = p->x_shape[3], y, n;
    int32_t height = h < rows - p->pad[0] ? h : rows - p->pad[0];
    int32_t width = w < pitch - p->pad[1] ? w : pitch - p->pad[1];
    for (y = 0; y < height; y++) {
        const x_t *from = x + y * w * in_ch;
        int16_t *to = plane + (y + p->pad[0]) * pitch + p->pad[1];
        for (n = width; n >= 8; n -= 8) {
            T(conv_widen)(to, from, in_ch, 8);
            to += 8;
            from += 8 * in_ch;
        }
        if (n >= 4) {
            T(conv_widen)(to, from, in_ch, 4);
            to += 4;
            from += 4 * in_ch;
        }
        if (n % 4 >= 2) {
            T(conv_widen)(to, from, in_ch, 2);
            to += 2;
            from += 2 * in_ch;
        }
        if (n % 2 != 0) {
            *to = *from;
        }
    }
}

INLINE struct T(scale) T(plane_scale)(const struct T(requant) *r, int32_t form, int32_t o)
{
    return T(scale_of)(r, form, T(scale_common)(r, form), o);
}

/* The weights of one channel, one in each weight_t. */
INLINE const weight_t *T(conv_line)(const struct T(conv) *p, int32_t o, int8_t *line)
{
    int32_t depth = p->product.depth, first = o * depth, i;
    if (WEIGHT_BITS != 4) {
        return p->product.weight + first;
    }
    for (i = first; i < first + depth; i++) {
        line[i - first] = (int8_t)half_of((int8_t)p->product.weight[i / 2], i % 2);
    }
    return (const weight_t *)(const void *)line;
}

/* One channel of any window. */
INLINE void T(conv_plane)(const struct T(conv) *p, int32_t form, int32_t o, const weight_t *RESTRICT weight,
                       const int16_t *RESTRICT plane, int32_t pitch, y_t *y)
{
    struct T(scale) scale = T(plane_scale)(&p->product.requant, form, o);
    int wide = T(requant_wide)(&p->product.requant);
    int32_t oy, ox, ky, kx;
    for (oy = 0; oy < p->y_shape[1]; oy++) {
        for (ox = 0; ox < p->y_shape[2]; ox++) {
            const int16_t *row = plane + oy * p->stride[0] * pitch + ox * p->stride[1];
            const weight_t *tap = weight;
            acc_t acc = p->product.bias[o];
            LOOP
            for (ky = 0; ky < p->kernel[0]; ky++) {
                if (p->kernel[1] == 3) {
                    acc += tap[0] * row[0];
                    acc += tap[1] * row[p->dilation[1]];
                    acc += tap[2] * row[2 * p->dilation[1]];
                    tap += 3;
                } else {
                    for (kx = 0; kx < p->kernel[1]; kx++) {
                        acc += *tap++ * row[kx * p->dilation[1]];
                    }
                }
                row += p->dilation[0] * pitch;
            }
            ASSERT_BOUND(acc, p->product.bound);
            *y = T(code_of)(&p->product.requant, form, wide, scale, o, acc);
            y += p->y_shape[3];
        }
    }
}

/* Weights (w0, w1) and (w1, w2) of a row of three taps. */
struct T(conv_taps) {
    uint32_t w01;
    uint32_t w12;
};

INLINE struct T(conv_taps) T(conv_taps)(const weight_t *weight)
{
    struct T(conv_taps) taps;
    taps.w01 = pair_of(weight[0], weight[1]);
    taps.w12 = pair_of(weight[1], weight[2]);
    return taps;
}

/* The window at `row`. */
INLINE int32_t T(conv_left)(struct T(conv_taps) taps, const int16_t *row, int32_t acc)
{
    return dot_low_high(load_pair(row + 2), taps.w12, dot_pair(load_pair(row), taps.w01, acc));
}

/* The window one stride, 1 or 2, to its right. */
INLINE int32_t T(conv_right)(struct T(conv_taps) taps, const int16_t *row, int32_t stride, int32_t acc)
{
    if (stride == 1) {
        return dot_pair(load_pair(row + 2), taps.w12, dot_low_high(taps.w01, load_pair(row), acc));
    }
    return T(conv_left)(taps, row + 2, acc);
}

/* One channel of windows of 3 x 3 taps that are neighbours, with stride[1] 1 or 2: DSP. */
INLINE void T(conv_plane_3x3)(const struct T(conv) *p, int32_t form, int32_t o, const weight_t *weight,
                           const int16_t *plane, int32_t pitch, y_t *y)
{
    const struct T(requant) *r = &p->product.requant;
    struct T(scale) scale = T(plane_scale)(r, form, o);
    struct T(conv_taps) k0 = T(conv_taps)(weight), k1 = T(conv_taps)(weight + 3), k2 = T(conv_taps)(weight + 6);
    int32_t bias = (int32_t)p->product.bias[o], stride = p->stride[1], out_ch = p->y_shape[3];
    int32_t oy, n, left, right;
    int wide = T(requant_wide)(r);
    for (oy = 0; oy < p->y_shape[1]; oy++) {
        const int16_t *row = plane + oy * p->stride[0] * pitch;
        for (n = p->y_shape[2]; n >= 2; n -= 2) {
            left = T(conv_left)(k0, row, bias);
            left = T(conv_left)(k1, row + pitch, left);
            left = T(conv_left)(k2, row + 2 * pitch, left);
            right = T(conv_right)(k0, row, stride, bias);
            right = T(conv_right)(k1, row + pitch, stride, right);
            right = T(conv_right)(k2, row + 2 * pitch, stride, right);
            ASSERT_BOUND(left, p->product.bound);
            ASSERT_BOUND(right, p->product.bound);
            y[0] = T(code_of)(r, form, wide, scale, o, left);
            y[out_ch] = T(code_of)(r, form, wide, scale, o, right);
            y += 2 * out_ch;
            row += 2 * stride;
        }
        if (n > 0) {
            left = T(conv_left)(k0, row, bias);
            left = T(conv_left)(k1, row + pitch, left);
            left = T(conv_left)(k2, row + 2 * pitch, left);
            ASSERT_BOUND(left, p->product.bound);
            *y = T(code_of)(r, form, wide, scale, o, left);
            y += out_ch;
        }
    }
}

INLINE void T(conv_depthwise)(const struct T(conv) *p, const x_t *x, y_t *y, int16_t *plane)
{
    int32_t in_ch = p->x_shape[3], out_ch = p->y_shape[3], per_group = out_ch / in_ch;
    int32_t rows = (p->y_shape[1] - 1) * p->stride[0] + (p->kernel[0] - 1) * p->dilation[0] + 1;
    int32_t pitch = T(conv_pitch)(p), form = p->product.requant.form, image, c, o, i;
    int in_pairs = MATMUL_DSP && ACC_BITS == 32 && p->kernel[0] == 3 && p->kernel[1] == 3 && p->dilation[0] == 1
        && p->dilation[1] == 1 && p->stride[1] <= 2;
    /* What lies around the input is the same for all channels. */
    for (i = 0; i < rows * pitch; i++) {
        plane[i] = (int16_t)p->x_zero_point;
    }
    for (image = 0; image < p->x_shape[0]; image++) {
        for (c = 0; c < in_ch; c++) {
            T(conv_gather)(p, x + c, plane, rows, pitch);
            for (o = c * per_group; o < (c + 1) * per_group; o++) {
                const weight_t *weight = T(conv_line)(p, o, (int8_t *)(void *)(plane + rows * pitch));
                if (in_pairs) {
                    T(conv_plane_3x3)(p, form, o, weight, plane, pitch, y + o);
                } else {
                    T(conv_plane)(p, form, o, weight, plane, pitch, y + o);
                }
            }
        }
        x += p->x_shape[1] * p->x_shape[2] * in_ch;
        y += p->y_shape[1] * p->y_shape[2] * out_ch;
    }
}

INLINE void T(conv)(const struct T(conv) *p, const x_t *x, y_t *y, void *scratch)
{
    int32_t g, in_per_group = p->x_shape[3] / p->group, out_per_group = p->y_shape[3] / p->group;
    int32_t weights = (out_per_group + 1) / 2 * 2 * ((p->product.depth + 3) / 4 * 4);
    if (p->group > 1 && in_per_group == 1) {
        T(conv_depthwise)(p, x, y, (int16_t *)scratch);
        return;
    }
    for (g = 0; g < p->group; g++) {
        T(conv_group)(p, g * out_per_group, (g + 1) * out_per_group, p->product.weight + WEIGHTS(g * weights),
                   x + g * in_per_group, y, (int16_t *)scratch);
    }
}
