/*
 * Runs a generated network on its test vectors, compares every byte, and measures the first inference.
 * Prints one line of JSON, after one line for each vector that differs. Exit status: 0 all equal, 1 not, 2 error.
 *
 * The network is a folder with net.c, net.h (NET_INPUT_SIZE, NET_OUTPUT_SIZE, net_input_t, net_output_t, net_run) and either
 *   vectors.h    NET_VECTORS, net_inputs, net_outputs: linked into flash; or
 *   vectors.bin  input, output, input, output, ...: read from the host (the Makefile defines VECTORS_IN_FILE).
 */
#include "counter.h"
#include "net.h"
#include "semihosting.h"
#include "stack.h"

static net_output_t output[NET_OUTPUT_SIZE];

#ifdef VECTORS_IN_FILE
static net_input_t input[NET_INPUT_SIZE];
static net_output_t expected[NET_OUTPUT_SIZE];
#else
#include "vectors.h"
static const net_input_t *input;
static const net_output_t *expected;
#endif

static void fail(const char *why)
{
    semihosting_write(why);
    semihosting_write("\n");
    semihosting_exit(2);
}

/* Makes `input` and `expected` those of a vector; 0: there are no more. */
static int next_vector(int vector)
{
#ifdef VECTORS_IN_FILE
    static int file;
    if (vector == 0) {
        file = semihosting_open("vectors.bin");
        if (file < 0) {
            fail("vectors.bin cannot be opened");
        }
    }
    const size_t size = semihosting_read(file, input, sizeof input);
    if (size == 0) {
        return 0;
    }
    if (size != sizeof input || semihosting_read(file, expected, sizeof expected) != sizeof expected) {
        fail("vectors.bin ends within a vector");
    }
    return 1;
#else
    if (vector >= NET_VECTORS) {
        return 0;
    }
    input = net_inputs[vector];
    expected = net_outputs[vector];
    return 1;
#endif
}

/* Whether `output` is as expected; says where it is not first. */
static int check(int vector)
{
    for (int i = 0; i < NET_OUTPUT_SIZE; i++) {
        if (output[i] != expected[i]) {
            semihosting_write("vector ");
            semihosting_write_number(vector);
            semihosting_write(", output ");
            semihosting_write_number(i);
            semihosting_write(": expected ");
            semihosting_write_number(expected[i]);
            semihosting_write(", got ");
            semihosting_write_number(output[i]);
            semihosting_write("\n");
            return 0;
        }
    }
    return 1;
}

int main(void)
{
    int vectors = 0;
    int failed = 0;
    uint64_t instructions = 0;
    size_t stack = 0;

    counter_init();
    for (; next_vector(vectors); vectors++) {
        if (vectors == 0) {
            const uint32_t *const pointer = stack_paint();
            const uint64_t start = counter_read();
            net_run(input, output);
            const uint64_t stop = counter_read();
            stack = stack_used(pointer);
            instructions = counter_instructions(start, stop);
            if (stack_overflowed()) {
                fail("the stack is too small");
            }
        } else {
            net_run(input, output);
        }
        failed += !check(vectors);
    }

    semihosting_write("{\"vectors\": ");
    semihosting_write_number(vectors);
    semihosting_write(", \"failed\": ");
    semihosting_write_number(failed);
    semihosting_write(", \"instructions\": ");
    semihosting_write_number((int64_t)instructions);
    semihosting_write(", \"stack_bytes\": ");
    semihosting_write_number((int64_t)stack);
    semihosting_write("}\n");
    return failed != 0 || vectors == 0;
}
