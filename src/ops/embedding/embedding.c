/*
 * y_n = table[clamp(x_n - zx, 0, rows - 1)], row by row: the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y is not x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct T(embedding) {
    /* The rows, one after the other, and their number. */
    const y_t *table;
    int32_t rows;
    /* Number of elements of a row. */
    int32_t row;
    /* Code of index 0. */
    int32_t x_zero_point;
    /* Number of indices. */
    int32_t count;
};

KERNEL void T(embedding)(const struct T(embedding) *p, const x_t *x, y_t *y)
{
    int32_t n;
    for (n = 0; n < p->count; n++) {
        int32_t at = clamp((int64_t)x[n] - p->x_zero_point, 0, p->rows - 1);
        memcpy(y + n * p->row, p->table + at * p->row, (size_t)p->row * sizeof(y_t));
    }
}
