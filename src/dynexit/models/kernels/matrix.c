/* A few hidden states through one matrix: y[n, rows] = x[n, cols] W' + b.
 *
 * One token is bound by reading W, so each row is read once, as one stream, with several sums under
 * way to hide the latency of adding. More tokens share the row while it is in the nearest cache. The
 * order of the sums does not depend on how many tokens there are: a token's result is the same alone
 * and among others.
 *
 * Weights come in blocks of 32 columns. Where the processor multiplies pairs of bf16 and x is bf16, a
 * block is one register of them; otherwise it is two of fp32, and x is made fp32 first. */
#include "matrix.h"

#include "team.h"
#include "vectors.h"

#define SUMS 4
#define BLOCK 32
#define STEP (SUMS * BLOCK)
#define MOST 4    /* tokens that share a pass over a row or two, */
#define AT_ONCE 8 /* and the most there may be (MOST_TOKENS of matrix.py) */
#define FEW 2     /* tokens for which rows are read whole */
#define TALL 8    /* rows done by a thread before it looks for more */
#define CHUNK 1024 /* columns of x for many tokens, and */
#define LONG 4096  /* for few, that the nearest cache holds beside the weights */
#define GROUPS (AT_ONCE / MOST)
#define UNROLL _Pragma("GCC unroll 8")
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

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

/* A block as registers of fp32; written out, as a compiler keeps an array of them in memory otherwise. */
#if LANES == 16
#define EACH_PART(DO) DO(0) DO(1)
#elif LANES == 8
#define EACH_PART(DO) DO(0) DO(1) DO(2) DO(3)
#else
#define EACH_PART(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#endif
#define PER_RUN (16 / LANES)

typedef struct {
    vec part[BLOCK / LANES];
} wide_block;

#define WIDEN(NAME, WEIGHT, LOAD)                                                                 \
    INLINE wide_block NAME(const WEIGHT *w) {                                                     \
        wide_block out;                                                                           \
        EACH_PART(LOAD)                                                                           \
        return out;                                                                               \
    }
#define LOAD_F32(i) out.part[i] = load_f32(w + i * LANES);
#define LOAD_BF16(i) out.part[i] = load_bf16(w + i * LANES);
#define LOAD_I8(i) out.part[i] = load_i8(w + i * LANES);
WIDEN(wide_f32, float, LOAD_F32)
WIDEN(wide_bf16, bf16, LOAD_BF16)
WIDEN(wide_i8, int8_t, LOAD_I8)

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

INLINE pair_block pairs_bf16(const bf16 *w) { return ((pair_cast){_mm512_loadu_si512(w)}).pairs; }
INLINE pair_block pairs_i8(const int8_t *w) { /* whole numbers up to 256 are exact in bf16 */
    return _mm512_cvtne2ps_pbh((__m512)load_i8(w + LANES), (__m512)load_i8(w));
}
INLINE pair_block pairs_i4(const uint8_t *run, int k) {
    /* 0 to 15 twice, as five bits choose: the fifth is of the next number, and makes no difference */
    static const bf16 table[32] = {
        0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
        0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0,
        0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
    __m512i at = (__m512i)((uvec)words_of(run, 0) >> (4 * k));
    return ((pair_cast){_mm512_permutexvar_epi16(at, _mm512_loadu_si512(table))}).pairs;
}
INLINE vec add_pairs(vec sum, pair_block w, const bf16 *x) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, w, pairs_bf16(x));
}
#endif

/* Sums under way of one row with up to MOST tokens, and what int4 adds to them at the end. */
typedef struct {
    vec parts[MOST][SUMS];
    float shift[MOST];
} Sums;

/* Goes on with the sums of `r` rows, `cols` apart, and `n` tokens, `stride` apart, over columns `from`
 * to `to`. */
#define DOT(NAME, WEIGHT, LOAD, X, ADD)                                                           \
    INLINE void NAME(const WEIGHT *w, long cols, const X *x, long stride, long from, long to,     \
                     int n, int r, Sums *s) {                                                     \
        vec sums[2][MOST][SUMS];                                                                  \
        EACH(i, r) EACH(t, n) EACH(u, SUMS) sums[i][t][u] = s[i].parts[t][u];            \
        long c = from;                                                                            \
        for (; c + STEP <= to; c += STEP) EACH(u, SUMS) {                                         \
            long at = c + u * BLOCK;                                                              \
            __typeof__(LOAD(w)) block[2];                                                         \
            EACH(i, r) block[i] = LOAD(w + i * cols + at);                                        \
            if (r > 1 || n > FEW) EACH(i, r) __builtin_prefetch(w + (i + r) * cols + at, 0, 2);   \
            EACH(t, n) EACH(i, r) sums[i][t][u] = ADD(sums[i][t][u], block[i], x + t * stride + at); \
        }                                                                                         \
        for (; c + BLOCK <= to; c += BLOCK) EACH(i, r) {                                          \
            __typeof__(LOAD(w)) block = LOAD(w + i * cols + c);                                   \
            EACH(t, n) sums[i][t][0] = ADD(sums[i][t][0], block, x + t * stride + c);             \
        }                                                                                         \
        EACH(i, r) EACH(t, n) EACH(u, SUMS) s[i].parts[t][u] = sums[i][t][u];            \
    }

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

/* The same for int4, where w = q scale + zero, so y = sum of scale (q . x) + zero (sum of x) by group.
 * `w` is the first of the rows, number `row`; `x` is filled up with zeros to a whole run. */
#define RUN_BYTES 64
#define DOT_I4(NAME, LOAD, X, ADD)                                                                \
    INLINE void NAME(const Product *p, long row, const uint8_t *w, const X *x, long stride,       \
                     long first, long from, long to, int n, int r, int parts, Sums *s) {          \
        long groups = p->cols / p->group;                                                         \
        vec sums[2][MOST];                                                                        \
        if (from == 0) EACH(i, r) EACH(t, n) s[i].shift[t] = shift_of(p, row + i, first + t);     \
        EACH(i, r) EACH(t, n) sums[i][t] = s[i].parts[t][0];                              \
        for (long c = from; c < to; c += RUN) {                                                   \
            if (r > 1 || n > FEW)                                                                 \
                EACH(i, r) __builtin_prefetch(w + ((i + r) * stride + c) / 2, 0, 2);              \
            EACH(part, parts) {                                                                   \
                long g = c / RUN * parts + part;                                                  \
                if (g >= groups) break;                                                           \
                vec products[2][MOST];                                                            \
                EACH(i, r) EACH(t, n) products[i][t] = (vec){0};                                  \
                UNROLL for (int k = part * 4 / parts; k < (part + 1) * 4 / parts; k++) {          \
                    __typeof__(LOAD(w, 0)) block[2];                                              \
                    EACH(i, r) block[i] = LOAD(w + (i * stride + c) / 2, k);                      \
                    EACH(t, n) EACH(i, r) products[i][t] =                                        \
                        ADD(products[i][t], block[i], x + t * stride + c + k * BLOCK);            \
                }                                                                                 \
                EACH(i, r) {                                                                      \
                    vec scale = scale_of(p, row + i, g);                                          \
                    EACH(t, n) sums[i][t] += products[i][t] * scale;                              \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        EACH(i, r) EACH(t, n) s[i].parts[t][0] = sums[i][t];                              \
    }

DOT(wide_dot_f32, float, wide_f32, float, add_wide)
DOT(wide_dot_bf16, bf16, wide_bf16, float, add_wide)
DOT(wide_dot_i8, int8_t, wide_i8, float, add_wide)
DOT_I4(wide_dot_i4, wide_i4, float, add_wide_i4)
#ifdef PAIRS
DOT(pairs_dot_bf16, bf16, pairs_bf16, bf16, add_pairs)
DOT(pairs_dot_i8, int8_t, pairs_i8, bf16, add_pairs)
DOT_I4(pairs_dot_i4, pairs_i4, bf16, add_pairs)
#endif

INLINE float result(const Sums *s, int t) {
    return sum_of((s->parts[t][0] + s->parts[t][1]) + (s->parts[t][2] + s->parts[t][3])) + s->shift[t];
}

/* One result: its sums, the columns beyond the last whole block, the row's scale. */
#define FINISH(s, t, ONE, SCALE)                                                                  \
    {                                                                                             \
        float rest = 0;                                                                           \
        for (long c = p->cols / BLOCK * BLOCK; c < p->cols; c++)                                  \
            rest += ONE(row, c) * read(p->x, (t) * p->cols + c, p->is_bf16);                      \
        finish(p, t, row, (result(s, (t) % MOST) + rest) * (SCALE));                              \
    }

/* One or two tokens: whole rows, one after the other; two at once where `pair` says that x, which they
 * then read together, is what takes the time. */
#define FEW_TOKENS(CALL, ONE, SCALE, pair)                                                        \
    {                                                                                             \
        const long from = 0, to = p->cols, first = 0, width = (pair) ? 2 : 1;                     \
        _Pragma("omp for schedule(guided, 4) nowait")                                    \
        for (long block = 0; block < p->rows; block += TALL) {                                    \
            long last = p->rows - block < TALL ? p->rows : block + TALL, step;                    \
            for (long row = block; row < last; row += step) {                                     \
                step = row + width <= last ? width : 1;                                           \
                Sums s[2];                                                                        \
                EACH(i, 2) EACH(t, FEW) s[i].shift[t] = 0;                                        \
                EACH(i, 2) EACH(t, FEW) EACH(u, SUMS) s[i].parts[t][u] = (vec){0};                \
                if (p->tokens == 1 && step == 1) { CALL(1, 1); }                                  \
                else if (p->tokens == 1) { CALL(1, 2); }                                          \
                else if (step == 1) { CALL(2, 1); }                                               \
                else { CALL(2, 2); }                                                              \
                for (long i = 0, at = row; i < step; i++, at++)                                   \
                    for (long t = 0, row = at; t < p->tokens; t++) FINISH(&s[i], t, ONE, SCALE)   \
            }                                                                                     \
        }                                                                                         \
    }

/* More tokens: CHUNK columns are done at a time, so that x stays in the nearest cache. CALL(n, r) is
 * for constant numbers of tokens and rows, so that each case is a loop of its own. */
#define MANY_TOKENS(CALL, ONE, SCALE)                                                             \
    _Pragma("omp for schedule(guided, 4) nowait")                                        \
    for (long block = 0; block < p->rows; block += TALL) {                                        \
        long last = p->rows - block < TALL ? p->rows : block + TALL;                              \
        Sums sums[TALL * GROUPS];                                                                 \
        memset(sums, 0, sizeof sums);                                                             \
        for (long from = 0; from < p->cols; from += CHUNK) {                                      \
            long to = p->cols - from < CHUNK ? p->cols : from + CHUNK;                            \
            for (long row = block; row < last; row++)                                             \
                for (long first = 0; first < p->tokens; first += MOST) {                          \
                    long n = p->tokens - first < MOST ? p->tokens - first : MOST;                 \
                    Sums *s = &sums[first / MOST * TALL + row - block];                           \
                    switch (n) {                                                                  \
                        case 1: CALL(1, 1); break;                                                \
                        case 2: CALL(2, 1); break;                                                \
                        case 3: CALL(3, 1); break;                                                \
                        default: CALL(4, 1);                                                      \
                    }                                                                             \
                }                                                                                 \
        }                                                                                         \
        for (long row = block; row < last; row++)                                                 \
            for (long t = 0; t < p->tokens; t++)                                                  \
                FINISH(&sums[t / MOST * TALL + row - block], t, ONE, SCALE)                       \
    }

#define ROWS(CALL, ONE, SCALE, pair)                                                              \
    if (p->tokens <= FEW) FEW_TOKENS(CALL, ONE, SCALE, pair)                                      \
    else MANY_TOKENS(CALL, ONE, SCALE)

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
    ROWS(CALL, ONE, 1.0f, p->tokens * p->cols > 4 * LONG)
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
    ROWS(CALL, ONE, 1.0f, p->tokens * p->cols > 4 * LONG)
#undef CALL
#undef ONE
}

static void rows_i8(const Product *p) {
    const int8_t *w = p->weight;
    const float *scales = p->scales;
#define ONE(ROW, C) (float)w[(ROW) * p->cols + (C)]
#ifdef PAIRS
    if (p->is_bf16) {
#define CALL(N, R) \
    pairs_dot_i8(w + row * p->cols, p->cols, AT(bf16), p->cols, from, to, N, R, s)
        ROWS(CALL, ONE, scales[row], p->tokens * p->cols > LONG)
#undef CALL
        return;
    }
#endif
    long stride = STRIDE;
#define CALL(N, R) wide_dot_i8(w + row * p->cols, p->cols, WIDE, stride, from, to, N, R, s)
    ROWS(CALL, ONE, scales[row], p->tokens * p->cols > LONG)
#undef CALL
#undef ONE
}

#define CALL_BY_GROUP(N, R)                                                                       \
    switch (p->group) {                                                                           \
        case 128: SPLIT(N, R, 1); break;                                                          \
        case 64: SPLIT(N, R, 2); break;                                                           \
        default: SPLIT(N, R, 4);                                                                  \
    }
#define NONE(ROW, C) 0.0f /* the number of columns is a multiple of the groups' */

static void rows_i4(const Product *p) {
    const uint8_t *w = p->weight;
    long stride = STRIDE, bytes = stride / RUN * RUN_BYTES;
#ifdef PAIRS
    if (p->is_bf16 && p->cols == stride) {
#define SPLIT(N, R, COUNT) \
    pairs_dot_i4(p, row, w + row * bytes, AT(bf16), stride, first, from, to, N, R, COUNT, s)
        ROWS(CALL_BY_GROUP, NONE, 1.0f, p->tokens * p->cols > LONG)
#undef SPLIT
        return;
    }
#endif
#define SPLIT(N, R, COUNT) \
    wide_dot_i4(p, row, w + row * bytes, WIDE, stride, first, from, to, N, R, COUNT, s)
    ROWS(CALL_BY_GROUP, NONE, 1.0f, p->tokens * p->cols > LONG)
#undef SPLIT
}

/* Sixteen pairs of columns of int4: the even ones, then the odd ones. */
INLINE void part_pairs(const void *x, long at, int is_bf16, float *out) {
    for (int j = 0; j < BLOCK / 2; j++) {
        out[j] = read(x, at + 2 * j, is_bf16);
        out[BLOCK / 2 + j] = read(x, at + 2 * j + 1, is_bf16);
    }
}

/* Columns `from` to `to` of one token in fp32, with zeros up to a whole run behind the last. */
INLINE void widen(const Product *p, long token, long from, long to, int is_bf16) {
    float *out = p->wide + token * STRIDE;
    const void *x = p->x;
    long at = token * p->cols, whole = to / BLOCK * BLOCK, c = from;
    if (p->kind == WEIGHT_I4)
        for (; c < whole; c += BLOCK) part_pairs(x, at + c, is_bf16, out + c);
    else
        for (; c < whole; c += LANES) {
            vec now = read_vec(x, at + c, is_bf16);
            memcpy(out + c, &now, sizeof now);
        }
    if (c == to) return;
    for (long i = c; i < ROUND_UP(to, RUN); i++) out[i] = 0;
    for (; c < to; c++) {
        long j = c % BLOCK, half = BLOCK / 2;
        out[p->kind == WEIGHT_I4 ? c - j + j % 2 * half + j / 2 : c] = read(x, at + c, is_bf16);
    }
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
    if (p->is_bf16 && p->kind != WEIGHT_F32) return p->kind != WEIGHT_I4 || p->cols == STRIDE;
#endif
    return p->kind == WEIGHT_F32;
}

/* What all rows need of this thread's columns of x. */
INLINE void prepare(const Product *p, int is_bf16) {
    Share share = share_of(p->cols);
    if (share.from >= share.to) return;
    for (long t = 0; t < p->tokens; t++) {
        if (!reads_x(p)) widen(p, t, share.from, share.to, is_bf16);
        if (p->group) total(p, t, share.from, share.to, is_bf16);
    }
}

/* Products of one x in the same form share what is prepared of it. */
static int is_prepared(const Product *p, long i) { return i && p[i].wide == p[i - 1].wide; }

void products(const Product *p, long count) {
    for (long i = 0; i < count; i++) {
        if (is_prepared(p, i)) continue;
        if (p[i].is_bf16) prepare(p + i, 1);
        else prepare(p + i, 0);
    }
    meet();
    for (long i = 0; i < count; i++) switch (p[i].kind) {
            case WEIGHT_F32: rows_f32(p + i); break;
            case WEIGHT_BF16: rows_bf16(p + i); break;
            case WEIGHT_I8: rows_i8(p + i); break;
            default: rows_i4(p + i);
        }
}

/* The same for a caller that is alone. */
void multiply(const Product *p, long count) {
#pragma omp parallel num_threads(p->threads)
    products(p, count);
}
