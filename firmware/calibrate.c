/* Shows that the counter is right: counts loops of known length. Exit status: 0 within one tick, 1 not. */
#include "counter.h"
#include "semihosting.h"

/* Takes 2 n instructions. */
static inline __attribute__((always_inline)) void loop(uint32_t n)
{
#if defined(__arm__)
    __asm__ volatile(".syntax unified\n1:\n\tsubs %0, %0, #1\n\tbne 1b" : "+l"(n) : : "cc");
#else
    __asm__ volatile("1:\n\taddi %0, %0, -1\n\tbnez %0, 1b" : "+r"(n));
#endif
}

int main(void)
{
    /* Besides the loop, loading n and the counter's own instructions lie between the two readings. */
    enum { FEW = 64 };
    int wrong = 0;

    counter_init();
    for (uint32_t n = 1; n <= 100000000; n *= 10) {
        const uint64_t start = counter_read();
        loop(n);
        const uint64_t stop = counter_read();
        const int64_t counted = (int64_t)counter_instructions(start, stop);
        const int64_t excess = counted - 2 * (int64_t)n;
        semihosting_write("{\"expected\": ");
        semihosting_write_number(2 * (int64_t)n);
        semihosting_write(", \"counted\": ");
        semihosting_write_number(counted);
        semihosting_write("}\n");
        wrong |= excess < -COUNTER_TICK || excess > COUNTER_TICK + FEW;
    }
    return wrong;
}
