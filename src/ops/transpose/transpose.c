/*
 * y[i] = x[j], where j is the position of element i of a tensor of shape `shape` whose axes have
 * `strides` in x: the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct T(transpose) {
    /* Shape of the output; rank >= 1. */
    int32_t rank;
    const int32_t *shape;
    const int32_t *strides;
    /* Number of elements. */
    int32_t size;
};

KERNEL void T(transpose)(const struct T(transpose) *p, const x_t *x, y_t *y)
{
    int32_t i, row, length = p->shape[p->rank - 1], step = p->strides[p->rank - 1];
    for (row = 0; row < p->size / length; row++) {
        const x_t *from = x + strided_index(row, p->rank - 1, p->shape, p->strides);
        if (step == 1) {
            memcpy(y, from, (size_t)length * sizeof(y_t));
            y += length;
        } else {
            for (i = 0; i < length; i++) {
                *y++ = from[i * step];
            }
        }
    }
}
