/* The calls are those of "Semihosting for AArch32 and AArch64"; RISC-V has the same ones behind another trap. */
#include "semihosting.h"

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { MODE_READ_BINARY = 1, STOPPED_APPLICATION_EXIT = 0x20026 };

/* Every argument and result is one word, as wide as a pointer. */
static intptr_t call(intptr_t operation, const void *argument)
{
#if defined(__arm__)
    register intptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#elif defined(__riscv)
    register intptr_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    /* The trap is known by its neighbours: three uncompressed instructions, all on one page. */
    __asm__ volatile(".balign 16\n\t"
                     ".option push\n\t"
                     ".option norvc\n\t"
                     "slli zero, zero, 0x1f\n\t"
                     "ebreak\n\t"
                     "srai zero, zero, 7\n\t"
                     ".option pop"
                     : "+r"(a0) : "r"(a1) : "memory");
    return a0;
#else
#error "semihosting: neither Arm nor RISC-V"
#endif
}

void semihosting_write(const char *text)
{
    call(SYS_WRITE0, text);
}

void semihosting_write_number(int64_t number)
{
    char digits[21]; /* sign, 19 digits, end */
    char *first = digits + sizeof digits - 1;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    *first = '\0';
    do {
        *--first = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (number < 0) {
        *--first = '-';
    }
    semihosting_write(first);
}

void semihosting_exit(int status)
{
    const intptr_t block[2] = {STOPPED_APPLICATION_EXIT, status};
    for (;;) {
        call(SYS_EXIT_EXTENDED, block);
    }
}

int semihosting_open(const char *path)
{
    intptr_t block[3] = {(intptr_t)path, MODE_READ_BINARY, 0};
    while (path[block[2]] != '\0') {
        block[2]++;
    }
    return (int)call(SYS_OPEN, block);
}

size_t semihosting_read(int file, void *to, size_t size)
{
    const intptr_t block[3] = {file, (intptr_t)to, (intptr_t)size};
    const size_t missing = (size_t)call(SYS_READ, block);
    return missing <= size ? size - missing : 0;
}
