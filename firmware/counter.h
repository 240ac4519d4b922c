/*
 * Counts guest instructions under `qemu -icount shift=0`, where each instruction takes 1 ns of virtual time.
 *
 * On the Arm boards a timer is the only clock, so the count is right within one tick:
 *   m4    CMSDK timer 0, 25 MHz    1 tick = 40 instructions
 *   m0    nRF51 TIMER0, 16 MHz     1 tick = 62.5 instructions
 *   rv32  minstret                 exact
 * The Arm timers have 32 bits: they wrap after 171 (m4) and 268 (m0) thousand million instructions.
 *
 * Outside of the emulator the same code counts timer ticks, which say nothing about instructions.
 */
#ifndef COUNTER_H
#define COUNTER_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#if defined(BOARD_M4)

#define COUNTER_TICK 40 /* instructions, rounded up */

static inline void counter_init(void)
{
    REGISTER(0x40000008) = 0xffffffff; /* RELOAD */
    REGISTER(0x40000004) = 0xffffffff; /* VALUE: counts down */
    REGISTER(0x40000000) = 1;          /* CTRL: enable, no interrupt */
}

static inline uint64_t counter_read(void)
{
    return 0xffffffff - REGISTER(0x40000004);
}

static inline uint64_t counter_instructions(uint64_t start, uint64_t stop)
{
    return (stop - start) * 40;
}

#elif defined(BOARD_M0)

#define COUNTER_TICK 63

static inline void counter_init(void)
{
    REGISTER(0x40008504) = 0; /* MODE: timer */
    REGISTER(0x40008508) = 3; /* BITMODE: 32 bits */
    REGISTER(0x40008510) = 0; /* PRESCALER: 16 MHz */
    REGISTER(0x4000800c) = 1; /* CLEAR */
    REGISTER(0x40008000) = 1; /* START */
}

static inline uint64_t counter_read(void)
{
    REGISTER(0x40008040) = 1;    /* CAPTURE[0]: the time goes to CC[0] */
    return REGISTER(0x40008540); /* CC[0] */
}

static inline uint64_t counter_instructions(uint64_t start, uint64_t stop)
{
    return (stop - start) * 125 / 2;
}

#elif defined(BOARD_RV32)

#define COUNTER_TICK 1

static inline void counter_init(void)
{
}

static inline uint64_t counter_read(void)
{
    uint32_t low, high, again;
    do {
        __asm__ volatile("csrr %0, minstreth\n\tcsrr %1, minstret\n\tcsrr %2, minstreth"
                         : "=&r"(high), "=&r"(low), "=&r"(again));
    } while (high != again);
    return (uint64_t)high << 32 | low;
}

static inline uint64_t counter_instructions(uint64_t start, uint64_t stop)
{
    return stop - start;
}

#else
#error "counter: unknown board"
#endif

#endif
