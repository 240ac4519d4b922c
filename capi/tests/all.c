/* all MODEL: runs the network on inputs from standard input, real numbers one input after the other, and writes to
   standard output, for each output, its real numbers and its codes; for each run twice, the second time from the
   codes that the first inputs have. Refusals are checked first. Compiled as C99 and as C++. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "naive_ptq.h"

#define CHECK(holds) check(holds, #holds, __LINE__)

static void check(int holds, const char *what, int line)
{
    if (!holds) {
        fprintf(stderr, "line %d: %s: \"%s\"\n", line, what, naive_ptq_error());
        exit(1);
    }
}

/* Whether a call failed so, and said so. */
static int failed(naive_ptq_status status, naive_ptq_status as, const char *text)
{
    return status == as && strstr(naive_ptq_error(), text) != NULL;
}

static void *allocated(size_t size)
{
    void *memory = malloc(size);
    CHECK(memory != NULL);
    return memory;
}

static void *file(const char *path, size_t *size)
{
    FILE *from = fopen(path, "rb");
    void *bytes;
    CHECK(from != NULL);
    CHECK(fseek(from, 0, SEEK_END) == 0);
    *size = (size_t)ftell(from);
    CHECK(fseek(from, 0, SEEK_SET) == 0);
    bytes = allocated(*size);
    CHECK(fread(bytes, 1, *size, from) == *size);
    fclose(from);
    return bytes;
}

/* Nothing is done without a pointer, and no place is left as it was. */
static void null_pointers(const naive_ptq_network *network, naive_ptq_session *session)
{
    naive_ptq_network *loaded;
    naive_ptq_session *opened;
    naive_ptq_value value;
    float real = 0;
    const naive_ptq_status as = NAIVE_PTQ_ARGUMENT;
    CHECK(failed(naive_ptq_load(NULL, 1, &loaded), as, "\"path\" is null") && loaded == NULL);
    CHECK(failed(naive_ptq_load("x", 1, NULL), as, "\"network\" is null"));
    CHECK(failed(naive_ptq_load_bytes(NULL, 1, 1, &loaded), as, "\"bytes\" is null") && loaded == NULL);
    CHECK(failed(naive_ptq_load_bytes("x", 1, 1, NULL), as, "\"network\" is null"));
    CHECK(naive_ptq_metadata(NULL, "x") == NULL && naive_ptq_metadata(network, NULL) == NULL);
    CHECK(naive_ptq_inputs(NULL) == 0 && naive_ptq_outputs(NULL) == 0);
    CHECK(failed(naive_ptq_input(NULL, 0, &value), as, "\"network\" is null"));
    CHECK(failed(naive_ptq_output(NULL, 0, &value), as, "\"network\" is null"));
    CHECK(failed(naive_ptq_input(network, 0, NULL), as, "\"value\" is null"));
    CHECK(failed(naive_ptq_output(network, 0, NULL), as, "\"value\" is null"));
    CHECK(failed(naive_ptq_open(NULL, &opened), as, "\"network\" is null") && opened == NULL);
    CHECK(failed(naive_ptq_open(network, NULL), as, "\"session\" is null"));
    CHECK(failed(naive_ptq_set(NULL, 0, &real, 1), as, "\"session\" is null"));
    CHECK(failed(naive_ptq_set(session, 0, NULL, 1), as, "\"numbers\" is null"));
    CHECK(failed(naive_ptq_set_codes(NULL, 0, &real, 1), as, "\"session\" is null"));
    CHECK(failed(naive_ptq_set_codes(session, 0, NULL, 1), as, "\"codes\" is null"));
    CHECK(failed(naive_ptq_run(NULL), as, "\"session\" is null"));
    CHECK(failed(naive_ptq_get(NULL, 0, &real, 1), as, "\"session\" is null"));
    CHECK(failed(naive_ptq_get_codes(NULL, 0, &real, 1), as, "\"session\" is null"));
    naive_ptq_free(NULL);
    naive_ptq_close(NULL);
}

static void refusals(const naive_ptq_network *network, naive_ptq_session *session)
{
    naive_ptq_network *loaded;
    naive_ptq_value input;
    float *real;
    const size_t inputs = naive_ptq_inputs(network), outputs = naive_ptq_outputs(network);
    CHECK(failed(naive_ptq_load("none.onnx", 1, &loaded), NAIVE_PTQ_IO, "none.onnx: ") && loaded == NULL);
    CHECK(failed(naive_ptq_load_bytes("\377\377", 2, 1, &loaded), NAIVE_PTQ_INVALID, "") && loaded == NULL);
    CHECK(failed(naive_ptq_load_bytes("", (size_t)-1, 1, &loaded), NAIVE_PTQ_SHAPE, "\"bytes\" has no size"));
    CHECK(failed(naive_ptq_input(network, inputs, &input), NAIVE_PTQ_ARGUMENT, "there is no input"));
    CHECK(failed(naive_ptq_output(network, outputs, &input), NAIVE_PTQ_ARGUMENT, "there is no output"));
    CHECK(naive_ptq_input(network, 0, &input) == NAIVE_PTQ_OK);
    real = (float *)allocated((input.count + 1) * sizeof *real);
    memset(real, 0, (input.count + 1) * sizeof *real);
    CHECK(failed(naive_ptq_run(session), NAIVE_PTQ_ARGUMENT, "has not been set"));
    CHECK(failed(naive_ptq_set(session, inputs, real, input.count), NAIVE_PTQ_ARGUMENT, "there is no input"));
    CHECK(failed(naive_ptq_set(session, 0, real, input.count + 1), NAIVE_PTQ_SHAPE, "numbers, got"));
    CHECK(failed(naive_ptq_set(session, 0, (float *)((char *)real + 1), input.count), NAIVE_PTQ_ARGUMENT, "aligned"));
    CHECK(failed(naive_ptq_set_codes(session, 0, real, input.count * input.bits / 8 + 1), NAIVE_PTQ_SHAPE, "bytes, got"));
    CHECK(failed(naive_ptq_set_codes(session, inputs, real, 1), NAIVE_PTQ_ARGUMENT, "there is no input"));
    CHECK(failed(naive_ptq_get(session, 0, real, input.count), NAIVE_PTQ_ARGUMENT, "there are no outputs"));
    CHECK(failed(naive_ptq_get_codes(session, outputs, real, 1), NAIVE_PTQ_ARGUMENT, "there is no output"));
    free(real);
}

/* Runs, and writes all outputs. */
static void run(const naive_ptq_network *network, naive_ptq_session *session)
{
    size_t i;
    CHECK(naive_ptq_run(session) == NAIVE_PTQ_OK);
    for (i = 0; i < naive_ptq_outputs(network); i++) {
        naive_ptq_value output;
        float *real;
        void *codes;
        size_t size;
        CHECK(naive_ptq_output(network, i, &output) == NAIVE_PTQ_OK);
        size = output.count * output.bits / 8;
        real = (float *)allocated(output.count * sizeof *real);
        codes = allocated(size);
        CHECK(failed(naive_ptq_get(session, i, real, output.count - 1), NAIVE_PTQ_SHAPE, "numbers, got"));
        CHECK(failed(naive_ptq_get_codes(session, i, codes, size - 1), NAIVE_PTQ_SHAPE, "bytes, got"));
        CHECK(failed(naive_ptq_get(session, i, NULL, output.count), NAIVE_PTQ_ARGUMENT, "\"real\" is null"));
        CHECK(naive_ptq_get(session, i, real, output.count) == NAIVE_PTQ_OK);
        CHECK(naive_ptq_get_codes(session, i, codes, size) == NAIVE_PTQ_OK);
        CHECK(fwrite(real, sizeof *real, output.count, stdout) == output.count);
        CHECK(fwrite(codes, 1, size, stdout) == size);
        free(real);
        free(codes);
    }
}

/* The code of a real number, as the description of its value says. */
static long code(const naive_ptq_value *value, float real)
{
    const long lowest = -(1L << (value->bits - 1)), highest = -1 - lowest;
    const long nearest = lrintf(real / value->scale) + value->zero_point;
    if (value->is_unsigned) {
        return (long)real;
    }
    return nearest < lowest ? lowest : nearest > highest ? highest : nearest;
}

int main(int count, char **arguments)
{
    naive_ptq_network *network, *again;
    naive_ptq_session *session;
    naive_ptq_value value;
    size_t i, j, size;
    void *bytes;
    (void)count;
    CHECK(strcmp(naive_ptq_version(), NAIVE_PTQ_VERSION) == 0);
    CHECK(strcmp(naive_ptq_error(), "") == 0);
    bytes = file(arguments[1], &size);
    CHECK(naive_ptq_load_bytes(bytes, size, 2, &again) == NAIVE_PTQ_OK);
    free(bytes);
    CHECK(naive_ptq_load(arguments[1], 1, &network) == NAIVE_PTQ_OK);
    CHECK(strcmp(naive_ptq_metadata(network, "a key"), "what it says") == 0);
    CHECK(naive_ptq_metadata(again, "another") == NULL);
    CHECK(naive_ptq_open(again, &session) == NAIVE_PTQ_OK);
    naive_ptq_free(again);
    null_pointers(network, session);
    refusals(network, session);
    for (i = 0; i < naive_ptq_inputs(network); i++) {
        float *real;
        CHECK(naive_ptq_input(network, i, &value) == NAIVE_PTQ_OK);
        real = (float *)allocated(value.count * sizeof *real);
        CHECK(fread(real, sizeof *real, value.count, stdin) == value.count);
        CHECK(naive_ptq_set(session, i, real, value.count) == NAIVE_PTQ_OK);
        if (i == 0) {
            const float first = real[0];
            real[0] = NAN;
            CHECK(naive_ptq_set(session, i, real, value.count) == NAIVE_PTQ_OK);
            CHECK(naive_ptq_inputs(network) > 1 || failed(naive_ptq_run(session), NAIVE_PTQ_RANGE, "not finite"));
            real[0] = first;
            CHECK(naive_ptq_set(session, i, real, value.count) == NAIVE_PTQ_OK);
        }
        free(real);
    }
    run(network, session);
    naive_ptq_close(session);
    rewind(stdin);
    CHECK(naive_ptq_open(network, &session) == NAIVE_PTQ_OK);
    for (i = 0; i < naive_ptq_inputs(network); i++) {
        char *codes;
        size_t elements = 1;
        CHECK(naive_ptq_input(network, i, &value) == NAIVE_PTQ_OK && strlen(value.name) > 0);
        for (j = 0; j < value.rank; j++) {
            elements *= value.shape[j];
        }
        CHECK(elements == value.count);
        codes = (char *)allocated(value.count * value.bits / 8);
        for (j = 0; j < value.count; j++) {
            float real;
            CHECK(fread(&real, sizeof real, 1, stdin) == 1);
            if (value.bits == 8) {
                const uint8_t narrow = (uint8_t)code(&value, real);
                memcpy(codes + j, &narrow, 1);
            } else {
                const uint16_t wide = (uint16_t)code(&value, real);
                memcpy(codes + 2 * j, &wide, 2);
            }
        }
        CHECK(naive_ptq_set_codes(session, i, codes, value.count * value.bits / 8) == NAIVE_PTQ_OK);
        free(codes);
    }
    run(network, session);
    naive_ptq_free(network);
    naive_ptq_close(session);
    return 0;
}
