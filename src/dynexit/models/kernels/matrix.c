/* A few hidden states through one matrix: y[n, rows] = x[n, cols] W' + b.
 *
 * One token is bound by reading W, so rows are read once, as streams, with several sums under way to
 * hide the latency of adding. More tokens are bound by multiplying: they share the registers of
 * weights, and several rows share those of x. The order of the sums does not depend on how many tokens
 * or rows are done together: a token's result is the same alone and among others.
 *
 * Weights come in blocks of 32 columns. Where the processor multiplies pairs of bf16 and x is bf16, a
 * block is one register of them; otherwise it is several of fp32, and x is made fp32 first. Where it
 * multiplies tiles of bf16, those do it all (tiles.c). Weights of whole numbers are multiplied with whole
 * numbers where x is bf16 (integers.c). */
#include "matrix.h"

#include "groups.h"
#include "integers.h"
#include "result.h"
#include "team.h"
#include "tiles.h"
#include "vectors.h"

#ifndef FEW_ROWS
#define FEW_ROWS 4 /* done together for one or two tokens, which keeps the processor busy, */
#if LANES == 16
#define MANY_ROWS 4 /* and for more, as far as registers hold the sums */
#else
#define MANY_ROWS 2
#endif
#endif
#ifndef FEW_I4
#define FEW_I4 2
#define MANY_I4 1
#endif
#define MOST_ROWS 4
#define AHEAD 4 /* rows between what is multiplied and what is called from memory */
#define MOST 4    /* tokens that share a pass over a row or two, */
#define AT_ONCE 8 /* and the most that share one over all rows */
#define FEW 2     /* tokens for which rows are read whole */
#define TALL 8    /* rows done by a thread before it looks for more */
#define CHUNK 1024 /* columns of x for many tokens, and */
#define LONG 4096  /* for few, that the nearest cache holds beside the weights */
#define GROUPS (AT_ONCE / MOST)
#define PARTS (BLOCK / LANES) /* registers of fp32 in a block */

/* Register `part` of a block in fp32. Two neighbours of bf16 are one word, whose halves are taken at
 * once: registers of even columns alternate with registers of odd ones, as `widen` orders x. */
INLINE vec part_f32(const float *w, int part) { return load_f32(w + part * LANES); }
INLINE vec part_i8(const int8_t *w, int part) { return load_i8(w + part * LANES); }
INLINE vec part_bf16(const bf16 *w, int part) {
    uvec words;
    memcpy(&words, w + part / 2 * 2 * LANES, sizeof words);
    return part % 2 ? (vec)(words & 0xffff0000) : (vec)(words << 16);
}
INLINE vec add_part(vec sum, vec w, vec x) { return sum + w * x; }

/* A block of int4 as registers of fp32; written out, as a compiler keeps an array of them in memory
 * otherwise. */
#if LANES == 16
#define EACH_PART(DO) DO(0) DO(1)
#elif LANES == 8
#define EACH_PART(DO) DO(0) DO(1) DO(2) DO(3)
#else
#define EACH_PART(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#endif
#define PER_RUN (16 / LANES)

typedef struct {
    vec part[PARTS];
} wide_block;

/* Words `part` * LANES and on of a run of int4: columns 2 j of its block k are nibble k of word j, and
 * columns 2 j + 1 nibble k + 4. */
INLINE ivec words_of(const uint8_t *run, int part) {
    ivec words;
    memcpy(&words, run + part * sizeof words, sizeof words);
    return words;
}

INLINE wide_block wide_i4(const uint8_t *run, int k) {
    wide_block out;
#define LOAD_I4(i) out.part[i] = nibble(words_of(run, i % PER_RUN), k + i / PER_RUN * 4);
    EACH_PART(LOAD_I4)
    return out;
}

INLINE vec add_wide(vec sum, wide_block w, const float *x) {
#define ADD_PART(i) sum += w.part[i] * load_f32(x + i * LANES);
    EACH_PART(ADD_PART)
    return sum;
}

/* The same in fewer steps that wait for each other, for a single sum under way. */
INLINE vec add_wide_i4(vec sum, wide_block w, const float *x) {
#if LANES == 8
    vec first = w.part[0] * load_f32(x) + w.part[1] * load_f32(x + LANES);
    vec second = w.part[2] * load_f32(x + 2 * LANES) + w.part[3] * load_f32(x + 3 * LANES);
    return sum + (first + second);
#else
    return add_wide(sum, w, x);
#endif
}

#ifdef __AVX512BF16__
#define PAIRS 1
typedef __m512bh pair_block; /* a block as one register of pairs of bf16 */
typedef union {
    __m512i bits;
    __m512bh pairs;
} pair_cast;

INLINE pair_block pairs_at(const bf16 *x) { return ((pair_cast){_mm512_loadu_si512(x)}).pairs; }
INLINE pair_block pairs_bf16(const bf16 *w, int part) { return pairs_at(w + part); } /* there is one */
INLINE vec add_pair(vec sum, pair_block w, pair_block x) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, w, x);
}
#endif

/* Sums under way of one row with up to MOST tokens, and what int4 adds to them at the end. */
typedef struct {
    vec parts[MOST];
    float shift[MOST];
} Sums;

/* Goes on with the sums of `r` rows, `cols` apart, and `n` tokens, `stride` apart, over columns `from`
 * to `to`, a block of COUNT registers at a time. Rows that come next are called from memory. */
#define DOT(NAME, WEIGHT, LOAD, X, LOAD_X, ADD, COUNT)                                            \
    INLINE void NAME(const WEIGHT *w, long cols, const X *x, long stride, long from, long to,     \
                     int n, int r, Sums *s) {                                                     \
        vec sums[MOST_ROWS][MOST];                                                                \
        EACH(i, r) EACH(t, n) sums[i][t] = s[i].parts[t];                                         \
        for (long c = from; c + BLOCK <= to; c += BLOCK) {                                        \
            EACH(i, r) __builtin_prefetch(w + (i + AHEAD) * cols + c, 0, 2);                      \
            EACH(part, COUNT) {                                                                   \
                __typeof__(LOAD(w, 0)) block[MOST_ROWS];                                          \
                EACH(i, r) block[i] = LOAD(w + i * cols + c, part);                               \
                EACH(t, n) {                                                                      \
                    __typeof__(block[0]) now = LOAD_X(x + t * stride + c + part * LANES);         \
                    EACH(i, r) sums[i][t] = ADD(sums[i][t], block[i], now);                       \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        EACH(i, r) EACH(t, n) s[i].parts[t] = sums[i][t];                                         \
    }

DOT(wide_dot_f32, float, part_f32, float, load_f32, add_part, PARTS)
DOT(wide_dot_bf16, bf16, part_bf16, float, load_f32, add_part, PARTS)
DOT(wide_dot_i8, int8_t, part_i8, float, load_f32, add_part, PARTS)
#ifdef PAIRS
DOT(pairs_dot_bf16, bf16, pairs_bf16, bf16, pairs_at, add_pair, 1)
#endif

/* Scale of a row's group in every lane. */
INLINE vec scale_of(const Product *p, long row, long g) {
    long at = row * (p->cols / p->group) + g;
#ifdef __AVX512BW__
    if (p->scale_is_bf16)
        return (vec)((ivec)_mm512_set1_epi16(((const int16_t *)p->scales)[at]) & (int)0xffff0000);
#endif
    return (vec){0} + read(p->scales, at, p->scale_is_bf16);
}

/* The same for int4, where w = q scale + zero, so y = sum of scale (q . x) + zero (sum of x) by group.
 * `w` is the first of the rows, number `row`; `x` is filled up with zeros to a whole run. */
INLINE void wide_dot_i4(const Product *p, long row, const uint8_t *w, const float *x, long stride,
                        long first, long from, long to, int n, int r, int parts, Sums *s) {
    long groups = p->cols / p->group;
    vec sums[MOST_ROWS][MOST];
    if (from == 0) EACH(i, r) EACH(t, n) s[i].shift[t] = shift_of(p, row + i, first + t);
    EACH(i, r) EACH(t, n) sums[i][t] = s[i].parts[t];
    for (long c = from; c < to; c += RUN) {
        if (r > 1 || n > FEW) EACH(i, r) __builtin_prefetch(w + ((i + r) * stride + c) / 2, 0, 2);
        EACH(part, parts) {
            long g = c / RUN * parts + part;
            if (g >= groups) break;
            vec products[MOST_ROWS][MOST];
            EACH(i, r) EACH(t, n) products[i][t] = (vec){0};
            UNROLL for (int k = part * 4 / parts; k < (part + 1) * 4 / parts; k++) {
                wide_block block[MOST_ROWS];
                EACH(i, r) block[i] = wide_i4(w + (i * stride + c) / 2, k);
                EACH(t, n) EACH(i, r) products[i][t] =
                    add_wide_i4(products[i][t], block[i], x + t * stride + c + k * BLOCK);
            }
            EACH(i, r) {
                vec scale = scale_of(p, row + i, g);
                EACH(t, n) sums[i][t] += products[i][t] * scale;
            }
        }
    }
    EACH(i, r) EACH(t, n) s[i].parts[t] = sums[i][t];
}

/* One result, token `t` of `s`: its sums, the columns beyond the last whole block, the row's scale. */
#define FINISH(s, t, token, ONE, SCALE)                                                           \
    {                                                                                             \
        float rest = 0;                                                                           \
        for (long c = p->cols / BLOCK * BLOCK; c < p->cols; c++)                                  \
            rest += ONE(row, c) * read(p->x, (token) * p->cols + c, p->is_bf16);                  \
        finish(p, token, row, (sum_of((s)->parts[t]) + (s)->shift[t] + rest) * (SCALE));          \
    }

/* One or two tokens: `together` whole rows at once, which read x together. CALL(n, r) is for constant
 * numbers of tokens and rows, so that each case is a loop of its own. */
#define FEW_TOKENS(CALL, ONE, SCALE, together)                                                    \
    {                                                                                             \
        const long from = 0, to = p->cols, first = 0;                                             \
        _Pragma("omp for schedule(guided, 4) nowait")                                             \
        for (long block = 0; block < p->rows; block += TALL) {                                    \
            long last = p->rows - block < TALL ? p->rows : block + TALL, step;                    \
            for (long row = block; row < last; row += step) {                                     \
                step = row + together <= last ? together : 1;                                     \
                Sums s[together];                                                                 \
                EACH(i, together) EACH(t, FEW) s[i].parts[t] = (vec){0}, s[i].shift[t] = 0;       \
                if (p->tokens == 1 && step == 1) { CALL(1, 1); }                                  \
                else if (p->tokens == 1) { CALL(1, together); }                                   \
                else if (step == 1) { CALL(2, 1); }                                               \
                else { CALL(2, together); }                                                       \
                for (long i = 0, at = row; i < step; i++, at++)                                   \
                    for (long t = 0, row = at; t < p->tokens; t++)                                \
                        FINISH(&s[i], t, t, ONE, SCALE)                                           \
            }                                                                                     \
        }                                                                                         \
    }

#define OF_SIZE(CALL, n, r)                                                                       \
    switch (n) {                                                                                  \
        case 2: CALL(2, r); break;                                                                \
        case 3: CALL(3, r); break;                                                                \
        default: CALL(4, r);                                                                      \
    }

/* More tokens, in groups of two to MOST: CHUNK columns are done at a time, so that x stays in the nearest
 * cache. */
#define MANY_TOKENS(CALL, ONE, SCALE, together)                                                   \
    {                                                                                             \
        long size = p->tokens > MOST ? (p->tokens + 1) / 2 : p->tokens;                           \
        _Pragma("omp for schedule(guided, 4) nowait")                                             \
        for (long block = 0; block < p->rows; block += TALL) {                                    \
            long last = p->rows - block < TALL ? p->rows : block + TALL;                          \
            Sums sums[GROUPS][TALL];                                                              \
            memset(sums, 0, sizeof sums);                                                         \
            for (long from = 0; from < p->cols; from += CHUNK) {                                  \
                long to = p->cols - from < CHUNK ? p->cols : from + CHUNK, step;                  \
                for (long row = block; row < last; row += step) {                                 \
                    step = row + together <= last ? together : 1;                                 \
                    for (long first = 0; first < p->tokens; first += size) {                      \
                        long n = p->tokens - first < size ? p->tokens - first : size;             \
                        Sums *s = &sums[first / size][row - block];                               \
                        if (step == 1) { OF_SIZE(CALL, n, 1); }                                   \
                        else { OF_SIZE(CALL, n, together); }                                      \
                    }                                                                             \
                }                                                                                 \
            }                                                                                     \
            for (long row = block; row < last; row++)                                             \
                for (long t = 0; t < p->tokens; t++)                                              \
                    FINISH(&sums[t / size][row - block], t % size, t, ONE, SCALE)                 \
        }                                                                                         \
    }

#define ROWS(CALL, ONE, SCALE, few, many)                                                         \
    if (p->tokens <= FEW) FEW_TOKENS(CALL, ONE, SCALE, few)                                       \
    else MANY_TOKENS(CALL, ONE, SCALE, many)

#define AT(X) ((const X *)p->x + first * p->cols)
#define WIDE (p->wide + first * stride)
#define STRIDE ROUND_UP(p->cols, RUN)

/* Each of these is called by all threads at once, which share the rows: first in long pieces, which
 * memory is read in best, then in shorter ones, so that nobody waits long for the last. */
static void rows_f32(const Product *p) {
    const float *w = p->weight;
#define CALL(N, R) \
    wide_dot_f32(w + row * p->cols, p->cols, AT(float), p->cols, from, to, N, R, s)
#define ONE(ROW, C) w[(ROW) * p->cols + (C)]
    ROWS(CALL, ONE, 1.0f, FEW_ROWS, MANY_ROWS)
#undef CALL
#undef ONE
}

static void rows_bf16(const Product *p) {
    const bf16 *w = p->weight;
#define ONE(ROW, C) widen_bf16(w[(ROW) * p->cols + (C)])
#ifdef PAIRS
#define CALL(N, R) \
    pairs_dot_bf16(w + row * p->cols, p->cols, AT(bf16), p->cols, from, to, N, R, s)
#else
    long stride = STRIDE;
#define CALL(N, R) \
    wide_dot_bf16(w + row * p->cols, p->cols, WIDE, stride, from, to, N, R, s)
#endif
    ROWS(CALL, ONE, 1.0f, FEW_ROWS, MANY_ROWS)
#undef CALL
#undef ONE
}

static void rows_i8(const Product *p) {
    const int8_t *w = p->weight;
    const float *scales = p->scales;
#define ONE(ROW, C) (float)w[(ROW) * p->cols + (C)]
    long stride = STRIDE;
#define CALL(N, R) wide_dot_i8(w + row * p->cols, p->cols, WIDE, stride, from, to, N, R, s)
    ROWS(CALL, ONE, scales[row], FEW_ROWS, MANY_ROWS)
#undef CALL
#undef ONE
}

static void rows_i4(const Product *p) {
    const uint8_t *w = p->weight;
    long stride = STRIDE, bytes = stride / RUN * RUN_BYTES;
#define DOT_PARTS(N, R, COUNT) \
    wide_dot_i4(p, row, w + row * bytes, WIDE, stride, first, from, to, N, R, COUNT, s)
#define CALL(N, R)                                                                                \
    switch (p->group) {                                                                           \
        case 128: DOT_PARTS(N, R, 1); break;                                                      \
        case 64: DOT_PARTS(N, R, 2); break;                                                       \
        default: DOT_PARTS(N, R, 4);                                                              \
    }
#define NONE(ROW, C) 0.0f /* the number of columns is a multiple of the groups' */
    ROWS(CALL, NONE, 1.0f, FEW_I4, MANY_I4)
#undef CALL
#undef NONE
#undef DOT_PARTS
}

/* Where column j of a block goes among those of x in fp32: words of int4 have all even columns before
 * the odd ones, those of bf16 a register of each in turn. */
INLINE long place_of(int kind, long j) {
    if (kind == WEIGHT_I4) return j % 2 * (BLOCK / 2) + j / 2;
    if (kind == WEIGHT_BF16) return j / (2 * LANES) * 2 * LANES + j % 2 * LANES + j % (2 * LANES) / 2;
    return j;
}

/* Columns `at` and on of x as a block of fp32. */
INLINE void widen_block(const void *x, long at, int kind, int is_bf16, float *out) {
    for (int j = 0; j < BLOCK; j += 2 * LANES) {
        vec low = read_vec(x, at + j, is_bf16), high = read_vec(x, at + j + LANES, is_bf16);
        int paired = kind == WEIGHT_I4 || kind == WEIGHT_BF16;
        vec first = paired ? evens(low, high) : low, second = paired ? odds(low, high) : high;
        memcpy(out + place_of(kind, j), &first, sizeof first);
        memcpy(out + (paired ? place_of(kind, j + 1) : j + LANES), &second, sizeof second);
    }
}

/* Columns `from` to `to` of one token in fp32, with zeros up to a whole run behind the last. */
INLINE void widen(const Product *p, long token, long from, long to, int kind, int is_bf16) {
    float *out = p->wide + token * STRIDE;
    long at = token * p->cols, whole = to / BLOCK * BLOCK, c = from;
    for (; c < whole; c += BLOCK) widen_block(p->x, at + c, kind, is_bf16, out + c);
    if (c == to) return;
    for (long i = c; i < ROUND_UP(to, RUN); i++) out[i] = 0;
    for (; c < to; c++) out[whole + place_of(kind, c - whole)] = read(p->x, at + c, is_bf16);
}

INLINE void total(const Product *p, long token, long from, long to, int is_bf16) {
    float *out = p->totals + token * (p->cols / p->group);
    for (long c = from; c < to; c += p->group) {
        vec sum = {0};
        for (long i = c; i < c + p->group; i += LANES) sum += read_vec(p->x, token * p->cols + i, is_bf16);
        out[c / p->group] = sum_of(sum);
    }
}

/* Whether x is read as it is, and not from `wide`. */
static int reads_x(const Product *p) {
#ifdef PAIRS
    if (p->is_bf16 && p->kind == WEIGHT_BF16) return 1;
#endif
    return p->kind == WEIGHT_F32;
}

/* What all rows need of this thread's columns of x. */
INLINE void prepare(const Product *p, int is_bf16) {
    Share share = share_of(p->cols);
    if (share.from >= share.to) return;
    if (is_tiled(p)) {
        pack_columns(p, share.from, share.to);
        return;
    }
    if (is_whole(p)) {
        pack_wholes(p, share.from, share.to);
        return;
    }
    for (long t = 0; t < p->tokens; t++) {
        if (!reads_x(p)) widen(p, t, share.from, share.to, p->kind, is_bf16);
        if (p->group) total(p, t, share.from, share.to, is_bf16);
    }
}

/* Products of one x in the same form share what is prepared of it. */
static int is_prepared(const Product *p, long i) { return i && p[i].wide == p[i - 1].wide; }

/* The product for `tokens` of its tokens from `first` on. */
static Product some_of(const Product *p, long first, long tokens) {
    Product some = *p;
    int sum_is_bf16 = p->residual ? p->residual_is_bf16 : p->is_bf16;
    some.x = moved(p->x, first * p->cols, p->is_bf16);
    some.y = moved(p->y, first * p->rows, sum_is_bf16);
    if (p->residual) some.residual = moved(p->residual, first * p->rows, p->residual_is_bf16);
    some.wide += first * STRIDE;
    if (p->group) some.totals += first * (p->cols / p->group);
    some.tokens = tokens;
    return some;
}

static void some_at_a_time(const Product *p) {
    for (long first = 0; first < p->tokens; first += AT_ONCE) {
        long left = p->tokens - first;
        Product some = some_of(p, first, left < AT_ONCE ? left : AT_ONCE);
        switch (p->kind) {
            case WEIGHT_F32: rows_f32(&some); break;
            case WEIGHT_BF16: rows_bf16(&some); break;
            case WEIGHT_I8: rows_i8(&some); break;
            default: rows_i4(&some);
        }
    }
}

void products(const Product *p, long count) {
    for (long i = 0; i < count; i++) {
        if (is_prepared(p, i)) continue;
        if (p[i].is_bf16) prepare(p + i, 1);
        else prepare(p + i, 0);
    }
    meet();
    for (long i = 0; i < count; i++) {
        if (is_tiled(p + i)) rows_tiled(p + i);
        else if (is_whole(p + i)) rows_whole(p + i);
        else some_at_a_time(p + i);
    }
}

/* The same for a caller that is alone. */
void multiply(const Product *p, long count) {
#pragma omp parallel num_threads(p->threads)
    products(p, count);
}
