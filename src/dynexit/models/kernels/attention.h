/* Attention over the cache, by a team; see attention.c. */
#ifndef DYNEXIT_ATTENTION_H
#define DYNEXIT_ATTENTION_H

#include "span.h"

typedef struct {
    const void *q, *k, *v;     /* [tokens, heads or kv_heads, size] */
    const void *cosine, *sine; /* [tables, turned], of each token or of a row's positions; or null */
    void *keys, *values;       /* the cache [slots, kv_heads, capacity, size] */
    void *out;                 /* [tokens, heads, size] */
    float *scratch;            /* threads * QUERIES * the longest text rounded up to 16 */
    Span span;
    long heads, kv_heads, size, turned, tables, capacity, window, room;
    float scale;
    int is_bf16, threads;
} Attention;

#define QUERIES 4 /* done together */

void attend_rows(const Attention *a);   /* keys and values to the cache, and attention */
void remember_rows(const Attention *a); /* keys and values alone */

#endif
