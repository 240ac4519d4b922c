/*
 * y[i] = x[j], where j is the position of element i of a tensor of shape `shape` whose axes have
 * `strides` in x: the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct transpose {
    /* Shape of the output; rank >= 1. */
    int32_t rank;
    const int32_t *shape;
    const int32_t *strides;
    /* Number of elements. */
    int32_t size;
};

KERNEL void transpose(const struct transpose *p, const code_t *x, code_t *y)
{
    int32_t i, row, length = p->shape[p->rank - 1], step = p->strides[p->rank - 1];
    for (row = 0; row < p->size / length; row++) {
        const code_t *from = x + strided_index(row, p->rank - 1, p->shape, p->strides);
        if (step == 1) {
            memcpy(y, from, (size_t)length * sizeof(code_t));
            y += length;
        } else {
            for (i = 0; i < length; i++) {
                *y++ = from[i * step];
            }
        }
    }
}
