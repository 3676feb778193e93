/* Products of int4 with x in whole numbers, by bytes: each number of x is 256 times a signed byte plus a
 * signed byte, and both are multiplied with weights that need not be made wider than they are. */
#ifndef DYNEXIT_NIBBLES_H
#define DYNEXIT_NIBBLES_H

#include "sums.h"
#include "wholes.h"

/* Scales of LANES groups from `g` on of a row times those of a token, and zeros beyond the last. */
INLINE void group_scales(const Product *p, long row, long token, long g, long groups, float *out) {
    const float *of_x = scales_of(p, token) + g;
    long at = row * groups + g;
    if (g + LANES <= groups) {
        vec scales = read_vec(p->scales, at, p->scale_is_bf16) * load_f32(of_x);
        memcpy(out, &scales, sizeof scales);
    } else {
        for (long i = 0; i < LANES; i++)
            out[i] = g + i < groups ? read(p->scales, at + i, p->scale_is_bf16) * of_x[i] : 0;
    }
}

/* Products of bytes, weights from 0 to 15 with signed x, are added four to a word, or two to each half of
 * one: halves have at most four times 2 * 15 * 128. */
#if defined(__AVX512VNNI__) && LANES == 16
INLINE ivec add_bytes(ivec sum, uvec w, ivec x) {
    return (ivec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
}
INLINE ivec begun(ivec upper) { return upper << 8; }
INLINE ivec joined(ivec upper, ivec lower) { return lower; }
#else
INLINE ivec add_bytes(ivec sum, uvec w, ivec x) {
#if LANES == 16
    return (ivec)_mm512_add_epi16((__m512i)sum, _mm512_maddubs_epi16((__m512i)w, (__m512i)x));
#else
    return (ivec)_mm256_add_epi16((__m256i)sum, _mm256_maddubs_epi16((__m256i)w, (__m256i)x));
#endif
}
INLINE ivec begun(ivec upper) { return (ivec){0}; } /* what sums with the lower bytes of x start from, */
INLINE ivec joined(ivec upper, ivec lower) { /* and all of them as words */
    return add_pairs(add_pairs((ivec){0}, upper, (ivec){0} + 0x01000100), lower, (ivec){0} + 0x00010001);
}
#endif

/* Nibbles of a run's words, lower and upper, that are of group `part` of `parts`; of four groups each has
 * either. */
typedef uvec Nibbles[2][WORDS][MOST_ROWS];
#define OF_GROUP(upper, parts, part) ((parts) < 4 || (upper) == (part) % 2)

INLINE void nibbles_of(const uint8_t *w, long line, int r, int parts, int part, Nibbles out) {
    uint32_t mask = parts == 1 ? 0x0f0f0f0f : part * 2 / parts ? 0x0f000f00 : 0x000f000f;
    EACH(upper, 2) EACH(at, WORDS) EACH(i, r) {
        if (!OF_GROUP(upper, parts, part)) continue;
        uvec words = (uvec)pairs_at(w + i * line + at * sizeof(uvec));
        out[upper][at][i] = (words >> (4 * upper)) & mask;
    }
}

INLINE void add_nibbles(Nibbles w, const int8_t *x, long stride, int n, int r, int parts, int part,
                        ivec sums[MOST_ROWS][MOST]) {
    EACH(upper, 2) EACH(at, WORDS) EACH(t, n) {
        if (!OF_GROUP(upper, parts, part)) continue;
        ivec now = pairs_at(x + t * stride + upper * 2 * RUN_BYTES + at * sizeof(ivec));
        EACH(i, r) sums[i][t] = add_bytes(sums[i][t], w[upper][at][i], now);
    }
}

/* Scales of LANES groups, of a row times those of a token */
typedef float Scales[MOST_ROWS][MOST][LANES];

/* Group `part` of a run, number `g` of `scales`, for rows `line` and tokens `stride` apart. */
INLINE void add_group(const uint8_t *w, long line, const int8_t *x, long stride, int n, int r, int parts,
                      int part, const Scales scales, long g, Sums sums) {
    Nibbles nibbles;
    nibbles_of(w, line, r, parts, part, nibbles);
    ivec upper[MOST_ROWS][MOST], lower[MOST_ROWS][MOST];
    EACH(i, r) EACH(t, n) upper[i][t] = (ivec){0};
    add_nibbles(nibbles, x, stride, n, r, parts, part, upper);
    EACH(i, r) EACH(t, n) lower[i][t] = begun(upper[i][t]);
    add_nibbles(nibbles, x + RUN_BYTES, stride, n, r, parts, part, lower);
    EACH(i, r) EACH(t, n) sums[i][t] += in_f32(joined(upper[i][t], lower[i][t])) * scales[i][t][g];
}

INLINE void dot_i4(const Product *p, long row, long first, int n, int r, int parts, Sums sums) {
    long stride = STRIDE * sizeof(float), line = I4_BYTES(p->cols), groups = p->cols / p->group;
    const uint8_t *w = (const uint8_t *)p->weight + row * line;
    const int8_t *x = (const int8_t *)wholes_of(p, first);
    for (long from = 0; from < groups; from += LANES) {
        Scales scales;
        EACH(i, r) EACH(t, n) group_scales(p, row + i, first + t, from, groups, scales[i][t]);
        long some = groups - from < LANES ? groups - from : LANES;
        for (long g = 0; g < some; g += parts, w += RUN_BYTES, x += 2 * RUN) {
            EACH(i, r) __builtin_prefetch(w + (i + AHEAD) * line, 0, 2);
            EACH(part, parts) add_group(w, line, x, stride, n, r, parts, part, scales, g + part, sums);
        }
    }
}

#endif
