/* x in bf16 as whole numbers of 16 bits, with one scale for every run of columns. The largest number of a
 * run keeps 15 bits of the 8 that bf16 has: what is lost of the others is less than what bf16 had lost of
 * the largest. */
#ifndef DYNEXIT_WHOLES_H
#define DYNEXIT_WHOLES_H

#include "matrix.h"
#include "vectors.h"

#define LARGEST 32639.0f /* 256 * 127 + 127, so that two signed bytes can tell it */
#define WORDS (RUN_BYTES / 4 / LANES) /* registers in a run of int4 */
#define STRIDE ROUND_UP(p->cols, RUN)

typedef int16_t svec __attribute__((vector_size(2 * LANES)));
typedef uint16_t halves __attribute__((vector_size(4 * LANES)));

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

/* Halves of words, to be cut to their upper bytes, for lower bytes that are signed */
INLINE uvec rounded(uvec x) { return (uvec)((halves)x + 128); }

/* A run for int4, in place: each number is 256 times a signed byte plus a signed byte, and the bytes are in
 * the order of the nibbles of int4's words: a word of bytes has columns 2 j, 64 + 2 j, 2 j + 1, 65 + 2 j
 * for the lower nibbles of word j, and 32 columns on for the upper. */
INLINE void split_run(int16_t *run) {
    uvec words[RUN / 2 / LANES], bytes[2][2][WORDS];
    memcpy(words, run, sizeof words);
    EACH(upper, 2) EACH(i, WORDS) {
        uvec near = words[upper * WORDS + i], far = words[(2 + upper) * WORDS + i];
        bytes[upper][0][i] = (rounded(near) >> 8 & 0x00ff00ff) | (rounded(far) & 0xff00ff00);
        bytes[upper][1][i] = (near & 0x00ff00ff) | (far & 0x00ff00ff) << 8;
    }
    memcpy(run, bytes, sizeof bytes);
}

/* Columns `from` to `to` of a token */
INLINE void pack_token(const Product *p, long t, long from, long to) {
    const bf16 *x = (const bf16 *)p->x + t * p->cols;
    for (long c = from; c < to; c += RUN) {
        long count = to - c < RUN ? to - c : RUN, each = p->group ? p->group : RUN;
        float scale = pack_run(x + c, count, wholes_of(p, t) + c);
        for (long i = 0; i < count; i += each) scales_of(p, t)[(c + i) / each] = scale;
    }
    if (!p->group) return;
    total(p, t, from, to);
    for (long c = from; c < to; c += RUN) split_run(wholes_of(p, t) + c);
}

#endif
