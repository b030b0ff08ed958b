/* Runs an exported LeNet from several threads at once and compares with the answers that Python gave.

   usage: classify images.f32 answers.f32        exit status: 0 where they agree to 1e-6 */

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "lenet.h"

enum { CALLERS = 4, RUNS = 50, PIXELS = 32 * 32, CLASSES = 10 };

static float *images, *answers;
static int64_t batch;

struct caller {
    pthread_t thread;
    int32_t status;
    float worst;
};

static float *read_floats(const char *path, int64_t *count) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    fseek(file, 0, SEEK_END);
    *count = ftell(file) / (int64_t)sizeof(float);
    rewind(file);
    float *data = malloc((size_t)*count * sizeof(float));
    if (!data || fread(data, sizeof(float), (size_t)*count, file) != (size_t)*count) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    fclose(file);
    return data;
}

static void *call(void *argument) {
    struct caller *caller = argument;
    int64_t bytes = lenet_arena_bytes(&batch);
    if (bytes < 0) {
        caller->status = (int32_t)bytes;
        return NULL;
    }
    void *arena = malloc((size_t)bytes);
    float *scores = malloc((size_t)(batch * CLASSES) * sizeof(float));
    const void *inputs[] = {images};
    void *outputs[] = {scores};
    for (int run = 0; run < RUNS && !caller->status; run++) {
        caller->status = lenet_run(inputs, outputs, &batch, arena, bytes, 2);
        for (int64_t i = 0; i < batch * CLASSES && !caller->status; i++) {
            float off = fabsf(scores[i] - answers[i]);
            if (!(off <= caller->worst)) caller->worst = off;
        }
    }
    free(scores);
    free(arena);
    return NULL;
}

int main(int count, char **words) {
    if (count != 3) {
        fprintf(stderr, "usage: %s images.f32 answers.f32\n", words[0]);
        return 2;
    }
    if (lenet_abi_version() != LENET_ABI_VERSION) {
        fprintf(stderr, "lenet.h and lenet.so do not belong together\n");
        return 2;
    }
    for (int32_t i = 0; i < lenet_input_count(); i++)
        printf("input %s %s\n", lenet_input_info(i)->name, lenet_input_info(i)->shape);
    for (int32_t i = 0; i < lenet_output_count(); i++)
        printf("output %s %s\n", lenet_output_info(i)->name, lenet_output_info(i)->shape);

    int64_t pixels, scores;
    images = read_floats(words[1], &pixels);
    answers = read_floats(words[2], &scores);
    batch = pixels / PIXELS;
    if (scores != batch * CLASSES) {
        fprintf(stderr, "%s does not belong to %s\n", words[2], words[1]);
        return 2;
    }

    struct caller callers[CALLERS] = {0};
    for (int i = 0; i < CALLERS; i++)
        if (pthread_create(&callers[i].thread, NULL, call, &callers[i])) return 2;
    float worst = 0;
    int32_t status = 0;
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        if (callers[i].status) status = callers[i].status;
        if (!(callers[i].worst <= worst)) worst = callers[i].worst;
    }
    if (status) {
        fprintf(stderr, "lenet_run: %s\n", lenet_error(status));
        return 1;
    }
    printf("%lld images, %d threads, greatest difference %.1e\n", (long long)batch, CALLERS, worst);

    /* What is wrong is a status, not a crash. */
    int64_t none = 0;
    const void *inputs[] = {images};
    void *outputs[] = {NULL};
    char small[64];
    printf("no images:    %s\n", lenet_error((int32_t)lenet_arena_bytes(&none)));
    printf("no output:    %s\n", lenet_error(lenet_run(inputs, outputs, &batch, small, sizeof small, 1)));
    outputs[0] = answers;
    printf("small arena:  %s\n", lenet_error(lenet_run(inputs, outputs, &batch, small, sizeof small, 1)));
    free(images);
    free(answers);
    return worst <= 1e-6f ? 0 : 1;
}
