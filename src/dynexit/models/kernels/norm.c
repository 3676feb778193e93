/* Root-mean-square norm: y[n, size] = weight * (x / rms(x)), rounded as PyTorch's steps round. */
#include "vectors.h"

/* Numbers of x in the type of the weights: what is wider (a residual stream in fp32) is rounded. */
INLINE float rounded(const void *x, long i, int x_is_bf16, int is_bf16) {
    float value = read(x, i, x_is_bf16);
    return is_bf16 && !x_is_bf16 ? widen_bf16(narrow_bf16(value)) : value;
}

INLINE float square_sum(const void *x, long at, long size, int x_is_bf16, int is_bf16) {
    float sums[4 * LANES] = {0}; /* by column, so that the loop runs in vectors */
    for (long i = 0; i < size; i += 4 * LANES) {
        long stop = size - i < 4 * LANES ? size - i : 4 * LANES;
        for (long j = 0; j < stop; j++) {
            float value = rounded(x, at + i + j, x_is_bf16, is_bf16);
            sums[j] += value * value;
        }
    }
    float total = 0;
    for (int j = 0; j < 4 * LANES; j++) total += sums[j];
    return total;
}

INLINE void norm_rows(const void *x, const void *weight, void *y, long tokens, long size, float eps,
                      int x_is_bf16, int is_bf16) {
    for (long t = 0; t < tokens; t++) {
        float mean = square_sum(x, t * size, size, x_is_bf16, is_bf16) / size;
        float scale = 1.0f / sqrtf(mean + eps);
        for (long i = 0; i < size; i++) {
            float normed = rounded(x, t * size + i, x_is_bf16, is_bf16) * scale;
            if (is_bf16) normed = widen_bf16(narrow_bf16(normed));
            write(y, t * size + i, is_bf16, read(weight, i, is_bf16) * normed);
        }
    }
}

void rms_norm(const void *x, const void *weight, void *y, long tokens, long size, float eps,
              int x_is_bf16, int is_bf16) {
    if (!is_bf16) norm_rows(x, weight, y, tokens, size, eps, 0, 0);
    else if (x_is_bf16) norm_rows(x, weight, y, tokens, size, eps, 1, 1);
    else norm_rows(x, weight, y, tokens, size, eps, 0, 1);
}
