/* What becomes of a sum: bias, rounding, and what is added to the stream. */
#ifndef DYNEXIT_RESULT_H
#define DYNEXIT_RESULT_H

#include "matrix.h"
#include "vectors.h"

INLINE void finish(const Product *p, long token, long row, float value) {
    long at = token * p->rows + row;
    if (p->bias) value += read(p->bias, row, p->is_bf16);
    if (!p->residual) {
        write(p->y, at, p->is_bf16, value);
        return;
    }
    /* rounded where the separate steps round */
    float update = settled(p->is_bf16 ? widen_bf16(narrow_bf16(value)) : value);
    if (p->scale != 1.0f) {
        update = settled(update * p->scale);
        if (p->is_bf16) update = widen_bf16(narrow_bf16(update));
    }
    write(p->y, at, p->residual_is_bf16, read(p->residual, at, p->residual_is_bf16) + update);
}

/* The same for LANES rows from `row` on, in bf16: what is rounded there can't become one operation. */
INLINE void finish_bf16(const Product *p, long token, long row, vec value) {
    long at = token * p->rows + row;
    if (p->bias) value += read_vec(p->bias, row, 1);
    if (!p->residual) {
        write_vec(p->y, at, 1, value);
        return;
    }
    vec update = round_vec(value, 1);
    if (p->scale != 1.0f) update = round_vec(update * p->scale, 1);
    write_vec(p->y, at, p->residual_is_bf16, read_vec(p->residual, at, p->residual_is_bf16) + update);
}

#endif
