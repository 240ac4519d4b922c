/*
 * y[offset + j] = x[i], or table[x[i] - X_MIN]: copies one argument to its place in the output,
 * the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct T(concat) {
    /* Shape of the argument, in the order of the output's memory; rank >= 1. */
    int32_t rank;
    const int32_t *shape;
    /* Strides of the argument along these axes. */
    const int32_t *x_strides;
    /* Strides of the output along these axes. */
    const int32_t *y_strides;
    /* Position of the argument's first element in the output. */
    int32_t offset;
    /* The output code for each code of the argument, that for X_MIN first; 0 if none differs. */
    const y_t *table;
    /* Number of elements of the argument. */
    int32_t size;
    /* 0, or: the argument is dense and row-major in the order of `shape`, and every `block` of its
       elements lie side by side in the output, `pitch` behind the one before. They are products of
       the sizes of the argument and of the output from the axis of the concatenation on. `rank`,
       `shape` and both strides are not read then. */
    int32_t block;
    int32_t pitch;
};

KERNEL void T(concat)(const struct T(concat) *p, const x_t *x, y_t *y)
{
    int32_t i, row, length, x_step = 1, y_step = 1;
    y += p->offset;
    length = p->block ? p->block : p->shape[p->rank - 1];
    if (!p->block) {
        x_step = p->x_strides[p->rank - 1];
        y_step = p->y_strides[p->rank - 1];
    }
    for (row = 0; row < p->size / length; row++) {
        const x_t *from = x + row * length;
        y_t *to = y + row * p->pitch;
        if (!p->block) {
            from = x + strided_index(row, p->rank - 1, p->shape, p->x_strides);
            to = y + strided_index(row, p->rank - 1, p->shape, p->y_strides);
        }
        if (p->table) {
            for (i = 0; i < length; i++) {
                to[i * y_step] = p->table[from[i * x_step] - X_MIN];
            }
        } else if (x_step == 1 && y_step == 1) {
            memcpy(to, from, (size_t)length * sizeof(y_t));
        } else {
            for (i = 0; i < length; i++) {
                to[i * y_step] = from[i * x_step];
            }
        }
    }
}
