/* How much stack a call takes: paint all that is free, call, look how far the paint is gone. */
#ifndef STACK_H
#define STACK_H

#include <stddef.h>
#include <stdint.h>

#define STACK_PAINT 0xc5a39e71u
#define STACK_INLINE static inline __attribute__((always_inline)) /* a call would use stack itself */

extern uint32_t stack_limit[]; /* lowest word of the stack, from the linker script */

STACK_INLINE uint32_t *stack_pointer(void)
{
    uint32_t *pointer;
#if defined(__arm__)
    __asm__ volatile("mov %0, sp" : "=r"(pointer));
#else
    __asm__ volatile("mv %0, sp" : "=r"(pointer));
#endif
    return pointer;
}

/* Paints what lies below the stack pointer and returns the stack pointer. */
STACK_INLINE uint32_t *stack_paint(void)
{
    uint32_t *const pointer = stack_pointer();
    for (volatile uint32_t *word = stack_limit; word < pointer; word++) {
        *word = STACK_PAINT;
    }
    return pointer;
}

/* Bytes used below `pointer` since it was returned by stack_paint(). */
STACK_INLINE size_t stack_used(const uint32_t *pointer)
{
    const volatile uint32_t *word = stack_limit;
    while (word < pointer && *word == STACK_PAINT) {
        word++;
    }
    return (size_t)((uintptr_t)pointer - (uintptr_t)word);
}

/* Whether the stack has reached its limit; what lies below it may be damaged then. */
STACK_INLINE int stack_overflowed(void)
{
    return *(volatile uint32_t *)stack_limit != STACK_PAINT;
}

#endif
