/* Sums of products of whole numbers, several rows and tokens at once. */
#ifndef DYNEXIT_SUMS_H
#define DYNEXIT_SUMS_H

#include "vectors.h"

#define MOST 4      /* tokens and */
#define MOST_ROWS 4 /* rows done together */
#define AHEAD 4     /* rows between what is multiplied and what is called from memory */

/* Sums of `r` rows from `row` on with `n` tokens from `first` on, which are constants where it is called. */
typedef vec Sums[MOST_ROWS][MOST];

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

INLINE vec in_f32(ivec x) { return __builtin_convertvector(x, vec); }

#endif
