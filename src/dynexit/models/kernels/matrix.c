/* A few hidden states through one matrix: y[n, rows] = x[n, cols] W' + b.
 *
 * One token is bound by reading W, so each row is read once, as one stream, with four sums under way
 * to hide the latency of adding. More tokens share the row while it is in the nearest cache. The
 * order of the sums does not depend on how many tokens there are: a token's result is the same alone
 * and among others. */
#include "vectors.h"

#define SUMS 4
#define STEP (SUMS * LANES)
#define MOST 4 /* tokens that share a pass over a row */

/* Rows are dealt out a few at a time: where another program takes a core for a while, the other
 * threads do its share. */
#define SHARES(p) ((p)->rows / ((p)->threads * 16) + 1)

typedef struct {
    const void *weight, *scales, *zeros, *bias, *x;
    void *y;
    long tokens, rows, cols, group;
    int is_bf16;       /* x, y and bias: bf16, otherwise fp32 */
    int scale_is_bf16; /* scales and zeros */
    int threads;
} Product;

INLINE void finish(const Product *p, long token, long row, float value) {
    if (p->bias) value += read(p->bias, row, p->is_bf16);
    write(p->y, token * p->rows + row, p->is_bf16, value);
}

/* Dot products of one row with `n` tokens from `first` on; LOAD gives 16 weights at an index. */
#define DOT(NAME, WEIGHT, LOAD, ONE)                                                              \
    INLINE void NAME(const Product *p, const WEIGHT *w, long first, int n, int h, float *out) {   \
        vec sums[MOST][SUMS];                                                                     \
        long c = 0, cols = p->cols;                                                               \
        for (int t = 0; t < n; t++)                                                               \
            for (int u = 0; u < SUMS; u++) sums[t][u] = (vec){0};                                 \
        for (; c + STEP <= cols; c += STEP)                                                       \
            for (int u = 0; u < SUMS; u++) {                                                      \
                vec weights = LOAD(w + c + u * LANES);                                            \
                for (int t = 0; t < n; t++)                                                       \
                    sums[t][u] +=                                                                 \
                        weights * read_vec(p->x, (first + t) * cols + c + u * LANES, h);          \
            }                                                                                     \
        for (int t = 0; t < n; t++) {                                                             \
            float rest = 0;                                                                       \
            for (long i = c; i < cols; i++) rest += ONE(w[i]) * read(p->x, (first + t) * cols + i, h); \
            out[t] = sum_of((sums[t][0] + sums[t][1]) + (sums[t][2] + sums[t][3])) + rest;        \
        }                                                                                         \
    }

#define AS_IS(x) (x)
DOT(dot_f32, float, load_f32, AS_IS)
DOT(dot_bf16, bf16, load_bf16, widen_bf16)
DOT(dot_i8, int8_t, load_i8, (float))

/* `n` and the type are made constants, so that each case is a loop of its own. */
#define CASES(CALL)                                                                               \
    switch (n * 2 + p->is_bf16) {                                                                 \
        case 2: CALL(1, 0); break;                                                                \
        case 3: CALL(1, 1); break;                                                                \
        case 4: CALL(2, 0); break;                                                                \
        case 5: CALL(2, 1); break;                                                                \
        case 6: CALL(3, 0); break;                                                                \
        case 7: CALL(3, 1); break;                                                                \
        case 8: CALL(4, 0); break;                                                                \
        default: CALL(4, 1);                                                                      \
    }

#define PRODUCT(NAME, WEIGHT, DOT_OF, SCALE)                                                      \
    void NAME(const Product *p) {                                                                 \
        _Pragma("omp parallel for schedule(dynamic, SHARES(p)) num_threads(p->threads)")                      \
        for (long row = 0; row < p->rows; row++) {                                                \
            const WEIGHT *w = (const WEIGHT *)p->weight + row * p->cols;                          \
            for (long first = 0; first < p->tokens; first += MOST) {                              \
                int n = p->tokens - first < MOST ? (int)(p->tokens - first) : MOST;               \
                float out[MOST];                                                                  \
                CASES(DOT_OF)                                                                     \
                for (int t = 0; t < n; t++) finish(p, first + t, row, out[t] * (SCALE));          \
            }                                                                                     \
        }                                                                                         \
    }

#define CALL_F32(N, H) dot_f32(p, w, first, N, H, out)
#define CALL_BF16(N, H) dot_bf16(p, w, first, N, H, out)
#define CALL_I8(N, H) dot_i8(p, w, first, N, H, out)
PRODUCT(product_f32, float, CALL_F32, 1.0f)
PRODUCT(product_bf16, bf16, CALL_BF16, 1.0f)
PRODUCT(product_i8, int8_t, CALL_I8, ((const float *)p->scales)[row])

/* int4: runs of 128 columns in 64 bytes; nibble k of word j is column 16 k + j of the run. */
#define RUN 128
#define RUN_BYTES 64

/* One row, `n` tokens: w = q scale + zero, so y = sum of scale (q . x) + zero (sum of x) by group;
 * `totals` [tokens, groups] are those sums of x. Columns beyond `cols` do not count. */
INLINE void dot_i4(const Product *p, const uint8_t *w, long row, const float *x, long wide,
                   const float *totals, long first, int n, int parts, float *out) {
    long groups = p->cols / p->group;
    vec sums[MOST];
    float shift[MOST];
    for (int t = 0; t < n; t++) sums[t] = (vec){0}, shift[t] = 0;
    for (long run = 0; run * RUN < p->cols; run++) {
        ivec words;
        memcpy(&words, w + run * RUN_BYTES, sizeof words);
        for (int part = 0; part < parts; part++) {
            long g = run * parts + part;
            if (g >= groups) break;
            vec even[MOST], odd[MOST];
            for (int t = 0; t < n; t++) even[t] = odd[t] = (vec){0};
#pragma GCC unroll 4
            for (int k = part * 8 / parts; k < (part + 1) * 8 / parts; k += 2) {
                vec q0 = nibble(words, k), q1 = nibble(words, k + 1);
                for (int t = 0; t < n; t++) {
                    const float *at = x + (first + t) * wide + run * RUN + k * LANES;
                    even[t] += q0 * load_f32(at);
                    odd[t] += q1 * load_f32(at + LANES);
                }
            }
            float scale = read(p->scales, row * groups + g, p->scale_is_bf16);
            float zero = read(p->zeros, row * groups + g, p->scale_is_bf16);
            for (int t = 0; t < n; t++) {
                sums[t] += (even[t] + odd[t]) * scale;
                shift[t] += zero * totals[(first + t) * groups + g];
            }
        }
    }
    for (int t = 0; t < n; t++) out[t] = sum_of(sums[t]) + shift[t];
}

#define PARTS_I4(N, PARTS) dot_i4(p, w, row, x, wide, totals, first, N, PARTS, out)
#define CALL_I4(N)                                                                                \
    if (p->group == 128) PARTS_I4(N, 1);                                                          \
    else if (p->group == 64) PARTS_I4(N, 2);                                                      \
    else PARTS_I4(N, 4)

/* `x` is scratch of tokens * (cols rounded up to runs) floats, `totals` of tokens * groups. */
void product_i4(const Product *p, float *x, float *totals) {
    long runs = (p->cols + RUN - 1) / RUN, wide = runs * RUN, groups = p->cols / p->group;
    for (long t = 0; t < p->tokens; t++) {
        for (long c = 0; c < wide; c++)
            x[t * wide + c] = c < p->cols ? read(p->x, t * p->cols + c, p->is_bf16) : 0;
        for (long g = 0; g < groups; g++) {
            float total = 0;
            for (long i = 0; i < p->group; i++) total += x[t * wide + g * p->group + i];
            totals[t * groups + g] = total;
        }
    }
#pragma omp parallel for schedule(dynamic, SHARES(p)) num_threads(p->threads)
    for (long row = 0; row < p->rows; row++) {
        const uint8_t *w = (const uint8_t *)p->weight + row * runs * RUN_BYTES;
        for (long first = 0; first < p->tokens; first += MOST) {
            int n = p->tokens - first < MOST ? (int)(p->tokens - first) : MOST;
            float out[MOST];
            switch (n) {
                case 1: CALL_I4(1); break;
                case 2: CALL_I4(2); break;
                case 3: CALL_I4(3); break;
                default: CALL_I4(4);
            }
            for (int t = 0; t < n; t++) finish(p, first + t, row, out[t]);
        }
    }
}
