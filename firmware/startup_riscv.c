/* From reset to main() on RISC-V, in machine mode. */
#include <stdint.h>
#include "semihosting.h"

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_limit[]; /* linker script */

int main(void);
void start(void);
void reset(void);
void fault(void);
void fault_at(const uint32_t *stack, uint32_t address);

/* The emulator jumps to the first address of RAM, where the linker script puts this. */
__attribute__((naked, section(".start"), used)) void start(void)
{
    __asm__ volatile("la sp, stack_top\n\t"
                     "la t0, fault\n\t"
                     "csrw mtvec, t0\n\t"
                     "j reset");
}

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

/* Any trap. The stack starts anew, it may be the reason. */
__attribute__((naked, aligned(4))) void fault(void)
{
    __asm__ volatile("mv a0, sp\n\t"
                     "csrr a1, mepc\n\t"
                     "la sp, stack_top\n\t"
                     "j fault_at");
}

void fault_at(const uint32_t *stack, uint32_t address)
{
    if (stack < stack_limit) {
        semihosting_write("stack overflow\n");
    } else {
        semihosting_write("fault at address ");
        semihosting_write_number(address);
        semihosting_write("\n");
    }
    semihosting_exit(2);
}
