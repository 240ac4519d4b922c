/*
 * y[n][oy][ox][c] = max x[n][iy][ix][c] over the taps inside the input, where
 * iy = oy * stride + ky * dilation - pad, likewise ix: the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct T(max_pool) {
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
};

KERNEL void T(max_pool)(const struct T(max_pool) *p, const x_t *x, y_t *y)
{
    int32_t h = p->x_shape[1], w = p->x_shape[2], c = p->x_shape[3];
    int32_t image, oy, ox, ky, kx, i;
    for (image = 0; image < p->x_shape[0]; image++) {
        for (oy = 0; oy < p->y_shape[1]; oy++) {
            for (ox = 0; ox < p->y_shape[2]; ox++) {
                for (i = 0; i < c; i++) {
                    y[i] = Y_MIN;
                }
                for (ky = 0; ky < p->kernel[0]; ky++) {
                    int32_t iy = oy * p->stride[0] + ky * p->dilation[0] - p->pad[0];
                    if (iy < 0 || iy >= h) {
                        continue;
                    }
                    for (kx = 0; kx < p->kernel[1]; kx++) {
                        int32_t ix = ox * p->stride[1] + kx * p->dilation[1] - p->pad[1];
                        const x_t *tap;
                        if (ix < 0 || ix >= w) {
                            continue;
                        }
                        tap = x + (iy * w + ix) * c;
                        for (i = 0; i < c; i++) {
                            y[i] = tap[i] > y[i] ? tap[i] : y[i];
                        }
                    }
                }
                y += c;
            }
        }
        x += h * w * c;
    }
}
