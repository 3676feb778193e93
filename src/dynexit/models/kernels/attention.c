/* A few tokens of each row through causal attention: keys are rotated and written to the cache with
 * the values, then every query sees all positions up to its own (or the last `window` of them).
 * Queries that share keys read them together, once. */
#include "attention.h"

#include <omp.h>

#include "vectors.h"

#define KEYS 4    /* done together, as QUERIES are */
#define BLOCK 256 /* values that stay in the nearest cache */

/* x of one head turned to its position: channel i pairs with i + turned / 2 */
INLINE void turn(const Attention *a, const void *x, long at, long table, float *out, int h) {
    long half = a->turned / 2;
    for (long i = 0; i < a->size; i++) out[i] = read(x, at + i, h);
    if (!a->cosine) return;
    for (long i = 0; i < half; i++) {
        float first = out[i], second = out[i + half];
        out[i] = first * read(a->cosine, table + i, h) + second * read(a->sine, table + i, h);
        out[i + half] = second * read(a->cosine, table + half + i, h) +
                        first * read(a->sine, table + half + i, h);
    }
}

INLINE long table_of(const Attention *a, long row, long token) {
    return ((a->tables < a->span.tokens ? 0 : a->span.firsts[row]) + token) * a->turned;
}

INLINE void remember(const Attention *a, long row, long head, int h) {
    for (long t = 0; t < a->span.lengths[row]; t++) {
        long from = ((a->span.firsts[row] + t) * a->kv_heads + head) * a->size;
        long to = ((a->span.slots[row] * a->kv_heads + head) * a->capacity + a->span.starts[row] + t) * a->size;
        float turned[a->size];
        turn(a, a->k, from, table_of(a, row, t), turned, h);
        for (long i = 0; i < a->size; i++) {
            write(a->keys, to + i, h, turned[i]);
            write(a->values, to + i, h, read(a->v, from + i, h));
        }
    }
}

/* scores[n, room] of n queries with the `span` keys from `base` on */
INLINE void score(const Attention *a, const float *q, int n, long base, long span, long room,
                  float *scores, int h) {
    for (long p = 0; p < span; p += KEYS) {
        int keys = span - p < KEYS ? (int)(span - p) : KEYS;
        vec sums[QUERIES][KEYS];
        for (int i = 0; i < QUERIES; i++)
            for (int j = 0; j < KEYS; j++) sums[i][j] = (vec){0};
        for (long c = 0; c < a->size; c += LANES) {
            vec key[KEYS];
            for (int j = 0; j < KEYS; j++)
                key[j] = read_vec(a->keys, base + (p + (j < keys ? j : 0)) * a->size + c, h);
            for (int i = 0; i < QUERIES; i++) {
                vec query = load_f32(q + (i < n ? i : 0) * a->size + c);
                for (int j = 0; j < KEYS; j++) sums[i][j] += query * key[j];
            }
        }
        for (int i = 0; i < n; i++)
            for (int j = 0; j < keys; j++) scores[i * room + p + j] = sum_of(sums[i][j]) * a->scale;
    }
}

/* scores[room] -> their softmax over [first, last], with zeros elsewhere; room is a multiple of LANES */
INLINE void soften(float *scores, long room, long first, long last) {
    vec totals = {0};
    float most = -INFINITY;
    for (long p = 0; p < first; p++) scores[p] = -INFINITY;
    for (long p = last + 1; p < room; p++) scores[p] = -INFINITY;
    for (long p = first; p <= last; p++) most = scores[p] > most ? scores[p] : most;
    for (long p = 0; p < room; p += LANES) {
        vec below = load_f32(scores + p) - most;
        vec power = choose(below < -80.0f, (vec){0}, exp_vec(below));
        totals += power;
        memcpy(scores + p, &power, sizeof power);
    }
    float share = 1.0f / sum_of(totals);
    for (long p = 0; p < room; p++) scores[p] *= share;
}

/* out[n][size]: values weighed by scores[n, room] */
INLINE void weigh(const Attention *a, const float *scores, int n, long base, long span, long room,
                  const long *to, int h) {
    float out[QUERIES * a->size];
    for (long i = 0; i < QUERIES * a->size; i++) out[i] = 0;
    for (long block = 0; block < span; block += BLOCK) {
        long stop = span - block < BLOCK ? span : block + BLOCK;
        for (long c = 0; c < a->size; c += LANES) {
            vec sums[QUERIES];
            for (int i = 0; i < QUERIES; i++) sums[i] = load_f32(out + i * a->size + c);
            for (long p = block; p < stop; p++) {
                vec value = read_vec(a->values, base + p * a->size + c, h);
                for (int i = 0; i < QUERIES; i++) sums[i] += value * scores[(i < n ? i : 0) * room + p];
            }
            for (int i = 0; i < QUERIES; i++) memcpy(out + i * a->size + c, &sums[i], sizeof(vec));
        }
    }
    for (int i = 0; i < n; i++)
        for (long c = 0; c < a->size; c += LANES)
            write_vec(a->out, to[i] + c, h, load_f32(out + i * a->size + c));
}

/* all queries of one row that share a head of keys; scores has room for QUERIES of them */
INLINE void attend_head(const Attention *a, long row, long head, float *scores, int h) {
    long fold = a->heads / a->kv_heads, start = a->span.starts[row], count = a->span.lengths[row] * fold;
    long begin = a->window && start + 1 > a->window ? start + 1 - a->window : 0;
    long span = start + a->span.lengths[row] - begin, room = (span + LANES - 1) / LANES * LANES;
    long base = ((a->span.slots[row] * a->kv_heads + head) * a->capacity + begin) * a->size;
    for (long at = 0; at < count; at += QUERIES) {
        int n = count - at < QUERIES ? (int)(count - at) : QUERIES;
        float queries[QUERIES * a->size];
        long to[QUERIES];
        for (int i = 0; i < n; i++) {
            long token = (at + i) / fold;
            to[i] = ((a->span.firsts[row] + token) * a->heads + head * fold + (at + i) % fold) * a->size;
            turn(a, a->q, to[i], table_of(a, row, token), queries + i * a->size, h);
        }
        score(a, queries, n, base, span, room, scores, h);
        for (int i = 0; i < n; i++) {
            long own = start + (at + i) / fold - begin; /* the query's position in the span */
            long first = a->window && own + 1 > a->window ? own + 1 - a->window : 0;
            soften(scores + i * room, room, first, own);
        }
        weigh(a, scores, n, base, span, room, to, h);
    }
}

/* Padding gives zeros: what is no number would spoil even what is multiplied by zero. */
INLINE void blank(const Attention *a, long row, long head, int h) {
    long fold = a->heads / a->kv_heads;
    for (long t = a->span.firsts[row] + a->span.lengths[row]; t < a->span.firsts[row + 1]; t++) {
        long at = (t * a->heads + head * fold) * a->size;
        for (long c = 0; c < fold * a->size; c += LANES) write_vec(a->out, at + c, h, (vec){0});
    }
}

INLINE void attend_typed(const Attention *a, int h) {
    float *scores = a->scratch + omp_get_thread_num() * QUERIES * a->room;
#pragma omp for collapse(2) schedule(dynamic, 1) nowait
    for (long row = 0; row < a->span.rows; row++)
        for (long head = 0; head < a->kv_heads; head++) {
            remember(a, row, head, h);
            attend_head(a, row, head, scores, h);
            blank(a, row, head, h);
        }
}

void attend_rows(const Attention *a) {
    if (a->is_bf16) attend_typed(a, 1);
    else attend_typed(a, 0);
}

void remember_rows(const Attention *a) {
#pragma omp for collapse(2) schedule(static) nowait
    for (long row = 0; row < a->span.rows; row++)
        for (long head = 0; head < a->kv_heads; head++) {
            if (a->is_bf16) remember(a, row, head, 1);
            else remember(a, row, head, 0);
        }
}

/* For a caller that is alone. */
void attend(const Attention *a) {
#pragma omp parallel num_threads(a->threads)
    attend_rows(a);
}
