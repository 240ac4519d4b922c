/* From reset to main() on a Cortex-M. The FPU stays off: a float instruction ends in fault(). */
#include <stdint.h>
#include "semihosting.h"

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[]; /* from the linker script */
extern uint32_t stack_limit[], stack_top[];

int main(void);
void reset(void);
void fault(void);
void fault_at(const uint32_t *frame);

void reset(void)
{
    const uint32_t *from = data_load;
    for (uint32_t *to = data_start; to < data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = bss_start; to < bss_end; to++) {
        *to = 0;
    }
    semihosting_exit(main());
}

/* Any exception: the processor has pushed r0-r3, r12, lr, pc and xpsr. The stack starts anew, it may be the reason. */
__attribute__((naked)) void fault(void)
{
    __asm__ volatile(".syntax unified\n\t"
                     "mov r0, sp\n\t"
                     "ldr r1, =stack_top\n\t"
                     "mov sp, r1\n\t"
                     "bl fault_at\n\t"
                     ".ltorg");
}

void fault_at(const uint32_t *frame)
{
    if (frame < stack_limit) {
        semihosting_write("stack overflow\n");
    } else {
        semihosting_write("fault at address ");
        semihosting_write_number(frame[6]);
        semihosting_write("\n");
    }
    semihosting_exit(2);
}

/* The processor takes its first stack pointer and program counter from here. */
struct vectors {
    uint32_t *stack;
    void (*handlers[15])(void); /* reset, NMI, HardFault, ... SysTick; no interrupt is ever enabled */
};

extern const struct vectors vectors;
__attribute__((section(".vectors"), used)) const struct vectors vectors = {
    stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault},
};
