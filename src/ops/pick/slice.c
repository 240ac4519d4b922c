/*
 * y[i_0, i_1, ...] = x[offsets_0[i_0] + offsets_1[i_1] + ...], or fill if one of them is PICK_NONE:
 * every operator that picks elements by their position along each axis, the integer reference
 * `int.rs` in C99.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

#define PICK_NONE 0xFFFFFFFFu

struct T(pick) {
    /* Shape of the output; rank >= 1. */
    int32_t rank;
    const int32_t *shape;
    /* The lists of all axes one after the other; their lengths are `shape`. */
    const uint32_t *offsets;
    /* The code where there is nothing to be picked. */
    int32_t fill;
    /* Number of elements of the output. */
    int32_t size;
    /* Sum of `shape`: the number of offsets. */
    int32_t offset_count;
    /* The offsets of the last axis are o, o + 1, o + 2, ... and none of them is PICK_NONE. */
    int32_t dense;
};

KERNEL void T(pick)(const struct T(pick) *p, const x_t *x, y_t *y)
{
    int32_t i, row, axis, length = p->shape[p->rank - 1], last = p->offset_count - length;
    for (row = 0; row < p->size / length; row++) {
        int32_t rest = row, end = last, none = 0;
        uint32_t first = 0;
        for (axis = p->rank - 2; axis >= 0; axis--) {
            uint32_t offset;
            end -= p->shape[axis];
            offset = p->offsets[end + rest % p->shape[axis]];
            rest /= p->shape[axis];
            none |= offset == PICK_NONE;
            first += offset;
        }
        if (none) {
            for (i = 0; i < length; i++) {
                y[i] = (y_t)p->fill;
            }
        } else if (p->dense) {
            memcpy(y, x + first + p->offsets[last], (size_t)length * sizeof(y_t));
        } else {
            for (i = 0; i < length; i++) {
                uint32_t offset = p->offsets[last + i];
                y[i] = offset == PICK_NONE ? (y_t)p->fill : x[first + offset];
            }
        }
        y += length;
    }
}
