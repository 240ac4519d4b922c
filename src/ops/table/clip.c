/*
 * y = table[x - X_MIN]: every unary function of a code, the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y may be x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct T(table) {
    /* 2^X_BITS output codes, that for x = X_MIN first. */
    const y_t *table;
    /* Number of elements. */
    int32_t size;
};

KERNEL void T(table)(const struct T(table) *p, const x_t *x, y_t *y)
{
    int32_t i;
    for (i = 0; i < p->size; i++) {
        y[i] = p->table[x[i] - X_MIN];
    }
}
