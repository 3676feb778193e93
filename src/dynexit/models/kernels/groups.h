/* Scales and zeros of int4 by groups of columns: w = q scale + zero. */
#ifndef DYNEXIT_GROUPS_H
#define DYNEXIT_GROUPS_H

#include "matrix.h"
#include "vectors.h"

/* Scale of a row's group in every lane. */
INLINE vec scale_of(const Product *p, long row, long g) {
    long at = row * (p->cols / p->group) + g;
#ifdef __AVX512BW__
    if (p->scale_is_bf16)
        return (vec)((ivec)_mm512_set1_epi16(((const int16_t *)p->scales)[at]) & (int)0xffff0000);
#endif
    return (vec){0} + read(p->scales, at, p->scale_is_bf16);
}

/* Sum over a row's groups of zero times the sum of a token's x. */
INLINE float shift_of(const Product *p, long row, long token) {
    long groups = p->cols / p->group, g = 0;
    vec sums = {0};
    for (; g + LANES <= groups; g += LANES)
        sums += read_vec(p->zeros, row * groups + g, p->scale_is_bf16) *
                load_f32(p->totals + token * groups + g);
    float rest = 0;
    for (; g < groups; g++)
        rest += read(p->zeros, row * groups + g, p->scale_is_bf16) * p->totals[token * groups + g];
    return sum_of(sums) + rest;
}

#endif
