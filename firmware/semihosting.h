/* Semihosting: the emulator (or a debugger) does input and output for a program that has no devices of its own. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stddef.h>
#include <stdint.h>

/* Writes text to the standard output of the emulator. */
void semihosting_write(const char *text);

/* Writes a number in decimal. */
void semihosting_write_number(int64_t number);

/* Ends the emulator with this exit status. */
void semihosting_exit(int status) __attribute__((noreturn));

/* Opens a file of the host for reading, by its path from the emulator's working directory; less than 0: cannot. */
int semihosting_open(const char *path);

/* Reads up to `size` bytes and returns how many there were. */
size_t semihosting_read(int file, void *to, size_t size);

#endif
