/* Steps of the recurrent mixers, by a team; see recurrent.c. Outputs at padding are zeros. */
#ifndef DYNEXIT_RECURRENT_H
#define DYNEXIT_RECURRENT_H

#include "span.h"

/* Causal convolution and SiLU. */
typedef struct {
    const void *x; /* [tokens, channels], `stride` numbers a token */
    void *state;   /* [slots, taps - 1, channels], moves on by a row's tokens */
    const void *weight, *bias; /* [channels, taps] and [channels] or null */
    void *out;                 /* [tokens, channels] */
    Span span;
    long stride, channels, taps;
    int is_bf16, threads;
} Conv;

/* Mamba-2. */
typedef struct {
    const void *mixed; /* [tokens, channels]: x [heads, width], then B and C [groups, size] */
    const void *dt;    /* [tokens, heads], `stride` numbers a token as `gate` has */
    const void *dt_bias, *a_log, *skip; /* [heads] */
    const void *gate;                   /* [tokens, heads * width] */
    float *ssm;                         /* [slots, heads, width, size] */
    float *y; /* (C h + D x) silu(gate) [tokens, heads * width], or null for the state alone */
    Span span;
    long stride, heads, width, groups, size;
    float dt_min, dt_max;
    int is_bf16, threads;
} Ssd;

/* Mamba. */
typedef struct {
    const void *x, *dt;         /* [tokens, inner], dt before softplus and with its bias */
    const float *b, *c;         /* [tokens, size] */
    const void *a_log, *skip;   /* [inner, size] and [inner] */
    const void *gate;           /* [tokens, inner], `stride` numbers a token */
    float *ssm;                 /* [slots, inner, size] */
    void *out; /* (C h + D x) silu(gate) [tokens, inner], or null for the state alone */
    Span span;
    long stride, inner, size;
    int is_bf16, threads;
} Selective;

void conv_rows(const Conv *c);
void ssd_rows(const Ssd *s);
void selective_rows(const Selective *s);

#endif
