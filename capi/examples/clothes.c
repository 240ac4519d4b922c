/* clothes MODEL PIXELS: names the class of an image, a file of 28 x 28 bytes. */
#include <stdio.h>
#include "naive_ptq.h"

int main(int count, char **arguments)
{
    unsigned char pixels[28 * 28];
    float image[28 * 28], logits[10];
    naive_ptq_network *network = NULL;
    naive_ptq_session *session = NULL;
    FILE *file = count == 3 ? fopen(arguments[2], "rb") : NULL;
    int i, best = 0, failed;
    if (file == NULL || fread(pixels, sizeof pixels, 1, file) != 1) {
        fprintf(stderr, "usage: clothes MODEL PIXELS\n");
        return 2;
    }
    fclose(file);
    for (i = 0; i < 28 * 28; i++) {
        image[i] = (float)pixels[i] / 255.0f; /* as quantize was told: --scale 1/255 */
    }
    failed = naive_ptq_load(arguments[1], 1, &network) || naive_ptq_open(network, &session)
          || naive_ptq_set(session, 0, image, 28 * 28) || naive_ptq_run(session)
          || naive_ptq_get(session, 0, logits, 10);
    naive_ptq_close(session);
    naive_ptq_free(network);
    if (failed) {
        fprintf(stderr, "%s\n", naive_ptq_error());
        return 1;
    }
    for (i = 0; i < 10; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    printf("class %d, %.4f\n", best, logits[best]);
    return 0;
}
