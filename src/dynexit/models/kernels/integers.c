/* y = x W' of int8 and int4 for x in bf16: x becomes whole numbers of 16 bits (wholes.h), so that whole
 * numbers are multiplied and summed, which takes a half or a third of the steps that making weights fp32
 * takes. Sums within a run are exact. */
#include "integers.h"

#include "groups.h"
#include "result.h"
#include "team.h"

#ifdef __AVX2__

#include "nibbles.h"

#define TALL 8 /* rows done by a thread before it looks for more */
#define WIDE (2 * LANES) /* whole numbers in a register */

int is_whole(const Product *p) { return p->is_bf16 && (p->kind == WEIGHT_I8 || p->kind == WEIGHT_I4); }

void pack_wholes(const Product *p, long from, long to) {
    for (long t = 0; t < p->tokens; t++) pack_token(p, t, from, to);
}

INLINE ivec pairs_i8(const int8_t *w) {
#if LANES == 16
    return (ivec)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)w));
#else
    return (ivec)_mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)w));
#endif
}

INLINE void dot_i8(const Product *p, long row, long first, int n, int r, Sums sums) {
    const int8_t *w = (const int8_t *)p->weight + row * p->cols;
    const int16_t *x = wholes_of(p, first);
    const float *scales = scales_of(p, first);
    long cols = p->cols, whole = cols / BLOCK * BLOCK, stride = STRIDE;
    for (long begin = 0; begin < whole; begin += RUN) {
        ivec run[MOST_ROWS][MOST];
        EACH(i, r) EACH(t, n) run[i][t] = (ivec){0};
        long end = begin + RUN < whole ? begin + RUN : whole;
        UNROLL for (long c = begin; c < end; c += WIDE) {
            if (c % LINE == 0) EACH(i, r) __builtin_prefetch(w + (i + AHEAD) * cols + c, 0, 2);
            ivec pairs[MOST_ROWS];
            EACH(i, r) pairs[i] = pairs_i8(w + i * cols + c);
            EACH(t, n) {
                ivec now = pairs_at(x + t * 2 * stride + c);
                EACH(i, r) run[i][t] = add_pairs(run[i][t], pairs[i], now);
            }
        }
        EACH(t, n) EACH(i, r) sums[i][t] += in_f32(run[i][t]) * scales[t * stride + begin / RUN];
    }
}

INLINE void dot(const Product *p, long row, long first, int n, int r, Sums sums) {
    if (p->kind == WEIGHT_I8) dot_i8(p, row, first, n, r, sums);
    else if (p->group == 128) dot_i4(p, row, first, n, r, 1, sums);
    else if (p->group == 64) dot_i4(p, row, first, n, r, 2, sums);
    else dot_i4(p, row, first, n, r, 4, sums);
}

/* What is no multiple of runs or blocks: int4's zeros, int8's last columns. */
INLINE float beside(const Product *p, long row, long token) {
    if (p->kind == WEIGHT_I4) return shift_of(p, row, token);
    const int8_t *w = (const int8_t *)p->weight + row * p->cols;
    float sum = 0;
    for (long c = p->cols / BLOCK * BLOCK; c < p->cols; c++) sum += w[c] * read(p->x, token * p->cols + c, 1);
    return sum;
}

INLINE void some_rows(const Product *p, long row, long first, int n, int r) {
    Sums sums;
    EACH(i, r) EACH(t, n) sums[i][t] = (vec){0};
    dot(p, row, first, n, r, sums);
    for (long i = row; i < row + r; i++) {
        float scale = p->kind == WEIGHT_I8 ? ((const float *)p->scales)[i] : 1.0f;
        for (long t = first; t < first + n; t++)
            finish(p, t, i, (sum_of(sums[i - row][t - first]) + beside(p, i, t)) * scale);
    }
}

/* Rows that share what is loaded of x: for a token, and for several */
#define FEW_I8 4
#define FEW_I4 2
#define MANY 2

INLINE void together(const Product *p, long row, long last, long first, int n, int r) {
    for (; row + r <= last; row += r) some_rows(p, row, first, n, r);
    for (; row < last; row++) some_rows(p, row, first, n, 1);
}

static void rows_of_token(const Product *p, long row, long last, long token) {
    if (p->kind == WEIGHT_I8) together(p, row, last, token, 1, FEW_I8);
    else together(p, row, last, token, 1, FEW_I4);
}

static void rows_of_tokens(const Product *p, long row, long last, long first, long n) {
    switch (n) {
        case 2: together(p, row, last, first, 2, MANY); break;
        case 3: together(p, row, last, first, 3, MANY); break;
        default: together(p, row, last, first, 4, MANY);
    }
}

void rows_whole(const Product *p) {
#pragma omp for schedule(guided, 4) nowait
    for (long block = 0; block < p->rows; block += TALL) {
        long last = p->rows - block < TALL ? p->rows : block + TALL;
        for (long first = 0; first < p->tokens; first += MOST) {
            long n = p->tokens - first < MOST ? p->tokens - first : MOST;
            if (n == 1) rows_of_token(p, block, last, first);
            else rows_of_tokens(p, block, last, first, n);
        }
    }
}

#else
int is_whole(const Product *p) { return 0; }
void pack_wholes(const Product *p, long from, long to) {}
void rows_whole(const Product *p) {}
#endif
