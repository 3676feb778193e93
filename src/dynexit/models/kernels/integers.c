/* y = x W' of int8 and int4 for x in bf16: x becomes whole numbers of 16 bits, with one scale for every
 * run of columns, so that whole numbers are multiplied and summed, which takes half of the steps that
 * making weights fp32 takes. The largest number of a run keeps 15 bits of the 8 that bf16 has: what is
 * lost of the others is less than what bf16 had lost of the largest. Sums within a run are exact. */
#include "integers.h"

#include "groups.h"
#include "result.h"
#include "team.h"
#include "vectors.h"

#ifdef __AVX2__

#define MOST 4      /* tokens and */
#define MOST_ROWS 4 /* rows done together */
#define TALL 8      /* rows done by a thread before it looks for more */
#define AHEAD 4     /* rows between what is multiplied and what is called from memory */
#define WIDE (2 * LANES) /* whole numbers in a register */
#define LINE 64 /* bytes that come from memory together */
#define LARGEST 32767.0f
#define STRIDE ROUND_UP(p->cols, RUN)

typedef int16_t svec __attribute__((vector_size(2 * LANES)));

int is_whole(const Product *p) { return p->is_bf16 && (p->kind == WEIGHT_I8 || p->kind == WEIGHT_I4); }

/* Of every token `wide` has its whole numbers and, halfway, their scales: of runs, or of int4's groups. */
INLINE int16_t *wholes_of(const Product *p, long token) { return (int16_t *)(p->wide + token * STRIDE); }
INLINE float *scales_of(const Product *p, long token) { return p->wide + token * STRIDE + STRIDE / 2; }

/* The largest size of a run's numbers, or what is none where any is none. */
INLINE float largest(const bf16 *x, long count) {
    ivec most = {0};
    for (long c = 0; c < count; c += LANES) {
        ivec size = (ivec)(c + LANES <= count ? load_bf16(x + c) : read_part(x, c, count - c, 1)) & 0x7fffffff;
        most = (ivec)choose(size > most, (vec)size, (vec)most);
    }
    int32_t out = 0;
    EACH(l, LANES) out = most[l] > out ? most[l] : out;
    float found;
    memcpy(&found, &out, 4);
    return found;
}

/* A run of `count` columns, and zeros up to its end; its scale. */
INLINE float pack_run(const bf16 *x, long count, int16_t *out) {
    float most = largest(x, count);
    int finite = most <= 3.4028235e38f;
    float by = finite && most > 1e-33f ? LARGEST / most : 0.0f;
    for (long c = 0; c < RUN; c += LANES) {
        vec numbers = {0};
        if (c + LANES <= count) numbers = load_bf16(x + c);
        else if (c < count) numbers = read_part(x, c, count - c, 1);
        ivec whole = (ivec)(numbers * by + 12582912.0f) - 0x4b400000; /* adding 1.5 * 2^23 rounds */
        svec some = __builtin_convertvector(finite ? whole : (ivec){0}, svec);
        memcpy(out + c, &some, sizeof some);
    }
    return finite ? most / LARGEST : NAN; /* which all sums with this run become */
}

/* Sums of x by group, as int4 wants them */
INLINE void total(const Product *p, long token, long from, long to) {
    const int16_t *x = wholes_of(p, token);
    for (long c = from; c < to; c += p->group) {
        int32_t sum = 0;
        for (long i = c; i < c + p->group; i++) sum += x[i];
        p->totals[token * (p->cols / p->group) + c / p->group] = sum * scales_of(p, token)[c / p->group];
    }
}

void pack_wholes(const Product *p, long from, long to) {
    for (long t = 0; t < p->tokens; t++) {
        const bf16 *x = (const bf16 *)p->x + t * p->cols;
        for (long c = from; c < to; c += RUN) {
            long count = to - c < RUN ? to - c : RUN, each = p->group ? p->group : RUN;
            float scale = pack_run(x + c, count, wholes_of(p, t) + c);
            for (long i = 0; i < count; i += each) scales_of(p, t)[(c + i) / each] = scale;
        }
        if (p->group) total(p, t, from, to);
    }
}

/* A register of pairs: adds both products of each pair to its sum. */
INLINE ivec add_pairs(ivec sum, ivec w, ivec x) {
#if defined(__AVX512VNNI__) && LANES == 16
    return (ivec)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
#elif LANES == 16
    return sum + (ivec)_mm512_madd_epi16((__m512i)w, (__m512i)x);
#else
    return sum + (ivec)_mm256_madd_epi16((__m256i)w, (__m256i)x);
#endif
}

INLINE ivec pairs_at(const void *x) {
    ivec out;
    memcpy(&out, x, sizeof out);
    return out;
}

INLINE ivec pairs_i8(const int8_t *w) {
#if LANES == 16
    return (ivec)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)w));
#else
    return (ivec)_mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)w));
#endif
}

INLINE vec in_f32(ivec x) { return __builtin_convertvector(x, vec); }

/* Sums of `r` rows from `row` on with `n` tokens from `first` on, which are constants where it is called. */
typedef vec Sums[MOST_ROWS][MOST];

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

/* Scales of LANES groups from `g` on of a row times those of a token. */
INLINE void group_scales(const Product *p, long row, long token, long g, long groups, float *out) {
    const float *of_x = scales_of(p, token) + g;
    long at = row * groups + g;
    if (g + LANES <= groups) {
        vec scales = read_vec(p->scales, at, p->scale_is_bf16) * load_f32(of_x);
        memcpy(out, &scales, sizeof scales);
    } else {
        for (long i = 0; i < groups - g; i++) out[i] = read(p->scales, at + i, p->scale_is_bf16) * of_x[i];
    }
}

/* Nibbles k and k + 4 of words, as matrix.c says, are columns 2 j and 2 j + 1 of block k. Where k is odd
 * they are left 16 times as large, which spares a shift, until all are summed. `parts` are a run's groups. */
INLINE void dot_i4(const Product *p, long row, long first, int n, int r, int parts, Sums sums) {
    long stride = STRIDE, line = stride / RUN * RUN_BYTES, groups = p->cols / p->group;
    const uint8_t *w = (const uint8_t *)p->weight + row * line;
    const int16_t *x = wholes_of(p, first);
    float scales[MOST_ROWS][MOST][LANES];
    for (long g = 0; g < groups; g++) {
        long c = g / parts * RUN, part = g % parts;
        if (g % LANES == 0)
            EACH(i, r) EACH(t, n) group_scales(p, row + i, first + t, g, groups, scales[i][t]);
        if (part == 0) EACH(i, r) __builtin_prefetch(w + (i + AHEAD) * line + c / 2, 0, 2);
        ivec low[MOST_ROWS][MOST], high[MOST_ROWS][MOST];
        EACH(i, r) EACH(t, n) low[i][t] = high[i][t] = (ivec){0};
        UNROLL for (int at = 0; at < 4 / parts; at++)
            EACH(half, BLOCK / WIDE) {
                int k = part * 4 / parts + at;
                ivec pairs[MOST_ROWS];
                EACH(i, r) {
                    uvec words = (uvec)pairs_at(w + i * line + c / 2 + half * sizeof(ivec));
                    pairs[i] = (ivec)(words >> (k / 2 * 8)) & (k % 2 ? 0x00f000f0 : 0x000f000f);
                }
                EACH(t, n) {
                    ivec now = pairs_at(x + t * 2 * stride + c + k * BLOCK + half * WIDE);
                    EACH(i, r) {
                        ivec *sum = k % 2 ? &high[i][t] : &low[i][t];
                        *sum = add_pairs(*sum, pairs[i], now);
                    }
                }
            }
        EACH(i, r) EACH(t, n) {
            ivec all = low[i][t] + (high[i][t] >> 4);
            sums[i][t] += in_f32(all) * scales[i][t][g % LANES];
        }
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

/* FEW and MANY rows share what is loaded of x for a token and for several. */
#define FEW 4
#define MANY 2

static void rows_of_token(const Product *p, long row, long last, long token) {
    for (; row + FEW <= last; row += FEW) some_rows(p, row, token, 1, FEW);
    for (; row < last; row++) some_rows(p, row, token, 1, 1);
}

#define ROWS(N)                                                                                    \
    for (; row + MANY <= last; row += MANY) some_rows(p, row, first, N, MANY);                     \
    for (; row < last; row++) some_rows(p, row, first, N, 1);

static void rows_of_tokens(const Product *p, long row, long last, long first, long n) {
    switch (n) {
        case 2: ROWS(2) break;
        case 3: ROWS(3) break;
        default: ROWS(4)
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
