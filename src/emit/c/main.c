/* Runs the test vectors and prints, for each, whether the output is that of the reference; with
   -DNET_TRACE also the first layer that differs. Exits with 0 if all are equal. */
#include <stdio.h>
#include <string.h>

#include "net.h"
#include "vectors.h"

#ifdef NET_CALLER_ARENA
static int32_t arena[NET_ARENA_SIZE / 4];
#define RUN(input, output) net_run(input, output, arena)
#else
#define RUN(input, output) net_run(input, output)
#endif

static int vector;

#ifdef NET_TRACE
static int32_t first_difference;

void net_trace(int32_t layer, const net_code_t *codes, int32_t count)
{
    uint32_t hash = 0x811C9DC5u, bits;
    int32_t i;
    for (i = 0; i < count; i++) {
        for (bits = 0; bits < 8 * sizeof(net_code_t); bits += 8) {
            hash = (hash ^ (((uint32_t)codes[i] >> bits) & 0xFF)) * 0x01000193u;
        }
    }
    if (hash != net_layers[vector][layer] && first_difference < 0) {
        first_difference = layer;
    }
}
#endif

int main(void)
{
    static net_code_t output[NET_OUTPUT_SIZE];
    int failed = 0;
    for (vector = 0; vector < NET_VECTORS; vector++) {
        int pass;
#ifdef NET_TRACE
        first_difference = -1;
#endif
        RUN(net_inputs[vector], output);
        pass = memcmp(output, net_outputs[vector], sizeof output) == 0;
#ifdef NET_TRACE
        if (first_difference >= 0) {
            pass = 0;
            printf("vector %d: layer %d differs\n", vector, (int)first_difference);
        }
#endif
        printf("vector %d: %s\n", vector, pass ? "pass" : "FAIL");
        failed += !pass;
    }
    printf("%d of %d vectors pass\n", NET_VECTORS - failed, NET_VECTORS);
    return failed != 0;
}
