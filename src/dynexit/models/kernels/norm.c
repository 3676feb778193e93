/* Root-mean-square norms, rounded as PyTorch's steps round. Every thread sums all squares, which is
 * sooner done than telling the others, and writes its share of columns. */
#include "norm.h"

#include "team.h"
#include "vectors.h"

/* Numbers of x in the type of the weights: what is wider (a residual stream in fp32) is rounded. */
INLINE float rounded(const void *x, long i, int x_is_bf16, int is_bf16) {
    float value = read(x, i, x_is_bf16);
    return is_bf16 && !x_is_bf16 ? widen_bf16(narrow_bf16(value)) : value;
}

#define WIDTH 64 /* sums under way, by column, so that the loop runs in vectors */

INLINE float square_sum(const void *x, long at, long size, int x_is_bf16, int is_bf16) {
    float sums[WIDTH] = {0};
    long i = 0;
    for (; i + WIDTH <= size; i += WIDTH)
        for (long j = 0; j < WIDTH; j += LANES) {
            vec now = read_vec(x, at + i + j, x_is_bf16);
            if (is_bf16 && !x_is_bf16) now = round_vec(now, 1);
            vec sum = load_f32(sums + j) + now * now;
            memcpy(sums + j, &sum, sizeof sum);
        }
    for (long j = 0; i + j < size; j++) {
        float value = rounded(x, at + i + j, x_is_bf16, is_bf16);
        sums[j] += value * value;
    }
    float total = 0;
    for (int j = 0; j < WIDTH; j++) total += sums[j];
    return total;
}

/* Columns `share` of the norm of the row of x at `from`, to y at `to` */
INLINE void norm_row(const void *x, long from, const void *weight, void *y, long to, long size,
                     Share share, float eps, int x_is_bf16, int is_bf16) {
    float mean = square_sum(x, from, size, x_is_bf16, is_bf16) / size;
    float scale = 1.0f / sqrtf(mean + eps);
    long i = share.from;
    for (; i + LANES <= share.to; i += LANES) {
        vec now = read_vec(x, from + i, x_is_bf16);
        if (is_bf16 && !x_is_bf16) now = round_vec(now, 1);
        write_vec(y, to + i, is_bf16, read_vec(weight, i, is_bf16) * round_vec(now * scale, is_bf16));
    }
    for (; i < share.to; i++) {
        float normed = rounded(x, from + i, x_is_bf16, is_bf16) * scale;
        if (is_bf16) normed = widen_bf16(narrow_bf16(normed));
        write(y, to + i, is_bf16, read(weight, i, is_bf16) * normed);
    }
}

INLINE void norm_rows(const void *x, long stride, const void *weight, void *y, long tokens, long size,
                      float eps, int x_is_bf16, int is_bf16) {
    Share share = share_of(size);
    if (share.from >= share.to) return;
    for (long t = 0; t < tokens; t++)
        norm_row(x, t * stride, weight, y, t * size, size, share, eps, x_is_bf16, is_bf16);
}

void rms_norm(const void *x, long stride, const void *weight, void *y, long tokens, long size, float eps,
              int x_is_bf16, int is_bf16) {
    if (!is_bf16 && x_is_bf16) norm_rows(x, stride, weight, y, tokens, size, eps, 1, 0);
    else if (!is_bf16) norm_rows(x, stride, weight, y, tokens, size, eps, 0, 0);
    else if (x_is_bf16) norm_rows(x, stride, weight, y, tokens, size, eps, 1, 1);
    else norm_rows(x, stride, weight, y, tokens, size, eps, 0, 1);
}

void norm_one(const void *x, const void *weight, void *y, long size, float eps, int is_bf16) {
    if (is_bf16) norm_row(x, 0, weight, y, 0, size, (Share){0, size}, eps, 1, 1);
    else norm_row(x, 0, weight, y, 0, size, (Share){0, size}, eps, 0, 0);
}

void norm_heads(void *x, const void *weight, long rows, long size, float eps, int is_bf16) {
#pragma omp for schedule(static) nowait
    for (long row = 0; row < rows; row++) {
        void *head = (char *)x + row * size * (is_bf16 ? 2 : 4);
        norm_one(head, weight, head, size, eps, is_bf16);
    }
}

INLINE void group_part(const float *values, long size, Share part, const void *weight, long first,
                       void *out, long to, float eps, int is_bf16) {
    vec squares = {0};
    for (long i = 0; i < size; i += LANES) squares += load_f32(values + i) * load_f32(values + i);
    float scale = 1.0f / sqrtf(sum_of(squares) / size + eps);
    for (long i = part.from; i < part.to; i += LANES) {
        vec normed = round_vec(load_f32(values + i) * scale, is_bf16);
        write_vec(out, to + i, is_bf16, read_vec(weight, first + i, is_bf16) * normed);
    }
}

void group_norm(const float *y, const void *weight, void *out, long tokens, long size, long groups,
                float eps, int is_bf16) {
    Share share = share_of(size);
    long each = size / groups;
    for (long t = 0; t < tokens; t++)
        for (long first = share.from / each * each; first < share.to; first += each) {
            long from = share.from > first ? share.from - first : 0;
            long to = share.to - first < each ? share.to - first : each;
            const float *values = y + t * size + first;
            if (is_bf16)
                group_part(values, each, (Share){from, to}, weight, first, out, t * size + first, eps, 1);
            else
                group_part(values, each, (Share){from, to}, weight, first, out, t * size + first, eps, 0);
        }
}
