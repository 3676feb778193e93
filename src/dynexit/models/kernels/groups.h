/* What the zeros of int4 add to a product: w = q scale + zero, by groups of columns. */
#ifndef DYNEXIT_GROUPS_H
#define DYNEXIT_GROUPS_H

#include "matrix.h"
#include "vectors.h"

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
