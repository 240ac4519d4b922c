/*
 * y = table[x - CODE_MIN]: every unary function of a code, the integer reference `int.rs` in C99.
 *
 * The includer has included arith.h. y may be x.
 */
#ifndef KERNEL
#define KERNEL static inline
#endif

struct table {
    /* 2^CODE_BITS output codes, that for x = CODE_MIN first. */
    const code_t *table;
    /* Number of elements. */
    int32_t size;
};

KERNEL void table(const struct table *p, const code_t *x, code_t *y)
{
    int32_t i;
    for (i = 0; i < p->size; i++) {
        y[i] = p->table[x[i] - CODE_MIN];
    }
}
