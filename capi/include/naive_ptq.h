/*
 * The engine of naive-ptq for C and C++: loads a quantized network and runs it on this machine.
 *
 * Every function but those that free or describe returns a status: NAIVE_PTQ_OK, or why it did nothing, and then
 * naive_ptq_error() says it in words. Null pointers, indices and sizes that do not fit are refused. No function
 * ends the program or lets an exception out.
 *
 * A network is immutable: any number of threads may use it at once. A session is the memory of one run at a time:
 * one for each thread. They may be freed in any order, and freeing NULL does nothing.
 *
 * Texts are UTF-8. Numbers lie row-major in the axis order of the ONNX file, images as n, c, h, w.
 */
#ifndef NAIVE_PTQ_H
#define NAIVE_PTQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NAIVE_PTQ_VERSION "0.1.0"

typedef enum naive_ptq_status {
    NAIVE_PTQ_OK = 0,
    NAIVE_PTQ_IO = 1,          /* the system refuses to read, or has no threads */
    NAIVE_PTQ_INVALID = 2,     /* the file is no model, or contradicts itself */
    NAIVE_PTQ_UNSUPPORTED = 3, /* a model that this library does not run, one that is not quantized among them */
    NAIVE_PTQ_SHAPE = 4,       /* a size that does not fit */
    NAIVE_PTQ_RANGE = 5,       /* a number that does not fit: an input that is not finite */
    NAIVE_PTQ_ARGUMENT = 6,    /* a null pointer, an index beyond the last, a call before the one it needs */
    NAIVE_PTQ_FAULT = 7        /* a fault of this library */
} naive_ptq_status;

typedef struct naive_ptq_network naive_ptq_network;
typedef struct naive_ptq_session naive_ptq_session;

/* An input or an output; what it points to lives as long as the network. */
typedef struct naive_ptq_value {
    const char *name;
    const size_t *shape;
    size_t rank;
    size_t count;       /* of numbers: the product of the shape */
    uint32_t bits;      /* of a code: 8, an int8_t, or 16, an int16_t */
    int32_t is_unsigned; /* 1: a uint8_t or a uint16_t */
    float scale;        /* real = scale * (code - zero_point) */
    int32_t zero_point;
} naive_ptq_value;

/* The version of the library that is linked. */
const char *naive_ptq_version(void);

/* What the last call in this thread that failed has to say, in one line; valid until the next one fails. */
const char *naive_ptq_error(void);

/* Reads a quantized ONNX file. One thread computes if `threads` is 1, so many share each run if it is more; 0 is
   one for each processor. On failure *network is NULL. */
naive_ptq_status naive_ptq_load(const char *path, size_t threads, naive_ptq_network **network);

/* The same from memory, which may be freed after the call. There are no files beside it with external data. */
naive_ptq_status naive_ptq_load_bytes(const void *bytes, size_t size, size_t threads, naive_ptq_network **network);

/* Frees the network; its sessions remain usable. */
void naive_ptq_free(naive_ptq_network *network);

/* What the file says under a key of its metadata ("naive_ptq.preprocess": how data were prepared), or NULL. */
const char *naive_ptq_metadata(const naive_ptq_network *network, const char *key);

/* The number of inputs and of outputs; 0 for NULL. */
size_t naive_ptq_inputs(const naive_ptq_network *network);
size_t naive_ptq_outputs(const naive_ptq_network *network);

/* Describes an input or an output, in the order of the file, from 0. */
naive_ptq_status naive_ptq_input(const naive_ptq_network *network, size_t index, naive_ptq_value *value);
naive_ptq_status naive_ptq_output(const naive_ptq_network *network, size_t index, naive_ptq_value *value);

/* Memory, and threads, to run with. On failure *session is NULL. */
naive_ptq_status naive_ptq_open(const naive_ptq_network *network, naive_ptq_session **session);

/* Frees the session. */
void naive_ptq_close(naive_ptq_session *session);

/* Copies an input: `count` numbers as the file takes them, real ones, or those of an input of integers; or codes of
   `size` bytes. It stays for later runs. */
naive_ptq_status naive_ptq_set(naive_ptq_session *session, size_t index, const float *numbers, size_t count);
naive_ptq_status naive_ptq_set_codes(naive_ptq_session *session, size_t index, const void *codes, size_t size);

/* Computes all outputs from the inputs, each of which has been set. */
naive_ptq_status naive_ptq_run(naive_ptq_session *session);

/* Copies an output of the last run: `count` real numbers, or codes of `size` bytes. */
naive_ptq_status naive_ptq_get(const naive_ptq_session *session, size_t index, float *real, size_t count);
naive_ptq_status naive_ptq_get_codes(const naive_ptq_session *session, size_t index, void *codes, size_t size);

#ifdef __cplusplus
}
#endif

#endif
