#ifndef NET_H
#define NET_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int@BITS_t net_code_t;

/* Number of codes. Several inputs, or outputs, lie one after the other. */
#define NET_INPUT_SIZE @INPUT_SIZE
#define NET_OUTPUT_SIZE @OUTPUT_SIZE

/* Bytes of memory that the network computes in, its input and output among them. */
#define NET_ARENA_SIZE @ARENA_SIZE

/* Number of layers; see NET_TRACE. */
#define NET_LAYERS @LAYERS

/*
 * Computes the codes of the output from those of the input.
 *
 * The memory is static: one call at a time. To bring your own, compile with -DNET_CALLER_ARENA: `arena`
 * has NET_ARENA_SIZE bytes, at a multiple of 4.
 */
#ifdef NET_CALLER_ARENA
void net_run(const net_code_t *input, net_code_t *output, void *arena);
#else
void net_run(const net_code_t *input, net_code_t *output);
@PLACES
#endif

/* With -DNET_TRACE, net.c calls this function of yours with the result of each layer. */
#ifdef NET_TRACE
void net_trace(int32_t layer, const net_code_t *codes, int32_t count);
#endif

/* With -DNET_REAL: the step between real values and codes, for processors that have both. The library
   itself needs no floating point. */
@PARAMETERS
#ifdef NET_REAL
#include <math.h>

static inline net_code_t net_quantize(float real, float scale, int32_t zero_point)
{
    const float lowest = -(float)(1 << (@BITS - 1)), highest = (float)((1 << (@BITS - 1)) - 1);
    /* nearbyint rounds half to even. What is not a number becomes the code of 0. */
    float code = nearbyintf(real / scale) + (float)zero_point;
    if (code != code) {
        return (net_code_t)zero_point;
    }
    return (net_code_t)(code > lowest ? (code < highest ? code : highest) : lowest);
}

static inline float net_dequantize(net_code_t code, float scale, int32_t zero_point)
{
    return (float)(code - zero_point) * scale;
}
#endif

#ifdef __cplusplus
}
#endif

#endif
