/* The functions that GCC may call on its own. On Arm they come from newlib; for RISC-V Debian has no C library. */
#include <stdint.h>
#include <string.h>

typedef uint32_t __attribute__((may_alias)) word; /* may be part of anything */

static int aligned(const void *a, const void *b)
{
    return (((uintptr_t)a | (uintptr_t)b) & 3) == 0;
}

void *memcpy(void *to, const void *from, size_t size)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    if (aligned(to, from)) {
        for (; size >= 4; size -= 4, t += 4, f += 4) {
            *(word *)(void *)t = *(const word *)(const void *)f;
        }
    }
    for (; size > 0; size--) {
        *t++ = *f++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    if ((uintptr_t)to - (uintptr_t)from >= size) { /* also true if `to` is lower: the difference wraps */
        return memcpy(to, from, size);             /* which goes up, so it may overlap */
    }
    while (size > 0) {
        size--;
        t[size] = f[size];
    }
    return to;
}

void *memset(void *to, int value, size_t size)
{
    unsigned char *t = to;
    const unsigned char byte = (unsigned char)value;
    if (aligned(to, to)) {
        for (; size >= 4; size -= 4, t += 4) {
            *(word *)(void *)t = byte * UINT32_C(0x01010101);
        }
    }
    for (; size > 0; size--) {
        *t++ = byte;
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t size)
{
    const unsigned char *l = left;
    const unsigned char *r = right;
    for (; size > 0; size--, l++, r++) {
        if (*l != *r) {
            return *l - *r;
        }
    }
    return 0;
}
