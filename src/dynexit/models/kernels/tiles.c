/* y = x W' in bf16 by tiles: 16 rows of W, as they lie in memory, times up to 64 tokens, 32 columns at a
 * time. A tile of weights that comes from memory takes longer to arrive than to be multiplied with 64
 * tokens, so that these cost little more than one. The sums of a token do not depend on the others.
 *
 * Weights of int8 and int4 are made bf16 a run at a time, for tokens too many for integers.c.
 *
 * The unit wants x by pairs of columns: of every tile of 16 tokens (the last may have fewer) and every 32
 * columns, 16 pairs with one word a token. For a single token that is x as it is. */
#include "tiles.h"

#if defined(__AMX_BF16__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>

#include "result.h"

#define TALL 16     /* rows of a tile of weights, */
#define DEEP 32     /* its columns, */
#define SOME 16     /* tokens of a tile of x, */
#define MOST_TILES 4 /* and how many of these share the weights */
#define GROUP (SOME * MOST_TILES)
#define ORDINALS {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#define FEW 8 /* tokens that int8 and int4 are multiplied with as whole numbers */

extern long syscall(long number, ...); /* the rest of unistd.h has names that are ours */

int tiles_ready(void) {
    static int known = -1;
    /* arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) */
    if (known < 0) known = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
    return known;
}

int is_tiled(const Product *p) {
    int fits = p->kind == WEIGHT_BF16 || (p->kind != WEIGHT_F32 && p->tokens > FEW);
    return fits && p->is_bf16 && p->cols % DEEP == 0 && tiles_ready();
}

static long at_most(long x, long most) { return x < most ? x : most; }

/* A tile of x has its tokens side by side, tiles of all columns follow each other. */
void pack_columns(const Product *p, long from, long to) {
    if (p->tokens == 1) return;
    const ivec each = ORDINALS;
    const uint32_t *x = p->x;
    for (long first = 0; first < p->tokens; first += SOME) {
        long n = at_most(p->tokens - first, SOME);
        uint32_t *out = (uint32_t *)p->wide + first * p->cols / 2;
        for (long t = 0; t < n; t++)
            for (long pair = from / 2; pair < to / 2; pair += LANES)
                _mm512_i32scatter_epi32(out + pair * n + t, (__m512i)(each * (int)n),
                                        _mm512_loadu_si512(x + (first + t) * p->cols / 2 + pair), 4);
    }
}

typedef struct {
    uint8_t palette, start, none[14];
    uint16_t bytes[16]; /* of a tile's line */
    uint8_t lines[16];
} Shapes;

/* For `tokens` of them: tiles 0 to 3 are the sums, 4 the weights, 5 a whole tile of x, 6 the last one. */
static void shape(long height, long tokens) {
    Shapes shapes = {.palette = 1};
    long last = (tokens - 1) / SOME, n = tokens - last * SOME;
    for (int i = 0; i <= last; i++) shapes.lines[i] = height, shapes.bytes[i] = 4 * (i < last ? SOME : n);
    shapes.lines[4] = height, shapes.bytes[4] = 2 * DEEP;
    shapes.lines[5] = DEEP / 2, shapes.bytes[5] = 4 * SOME;
    shapes.lines[6] = DEEP / 2, shapes.bytes[6] = 4 * n;
    _tile_loadconfig(&shapes);
}

/* A run of weights in bf16: its blocks, each of them a tile */
typedef bf16 Tiles[RUN / DEEP][TALL][DEEP];

/* int8 without its scales, which is exact */
static void widen_i8(const Product *p, const int8_t *w, long height, long count, Tiles out) {
    for (long i = 0; i < height; i++, w += p->cols) {
        __builtin_prefetch(w + TALL * p->cols, 0, 2);
        __builtin_prefetch(w + TALL * p->cols + LINE, 0, 2);
        for (long k = 0; k * DEEP < count; k++) {
            __m512 low = (__m512)load_i8(w + k * DEEP), high = (__m512)load_i8(w + k * DEEP + LANES);
            _mm512_storeu_si512(out[k][i], (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
    }
}

/* What the numbers of a group of int4 stand for, twice: five bits choose one of them, the highest of which
 * may be any. */
INLINE __m512i meanings(const Product *p, long row, long g) {
    const vec each = ORDINALS;
    long at = row * (p->cols / p->group) + g;
    vec all = each * read(p->scales, at, p->scale_is_bf16) + read(p->zeros, at, p->scale_is_bf16);
    return _mm512_broadcast_i64x4((__m256i)_mm512_cvtneps_pbh((__m512)all));
}

/* int4 from column `from` on: block k has in the halves of words what is in the four bits of them from 4 k
 * on, as matrix.c says. */
static void widen_i4(const Product *p, long row, long height, long from, long count, Tiles out) {
    long line = I4_BYTES(p->cols);
    const uint8_t *w = (const uint8_t *)p->weight + row * line + from / RUN * RUN_BYTES;
    for (long i = 0; i < height; i++, w += line) {
        __builtin_prefetch(w + TALL * line, 0, 2);
        __m512i words = _mm512_loadu_si512(w), table = _mm512_setzero_si512();
        for (long k = 0; k * DEEP < count; k++) {
            if (k * DEEP % p->group == 0) table = meanings(p, row + i, (from + k * DEEP) / p->group);
            _mm512_storeu_si512(out[k][i], _mm512_permutexvar_epi16(words, table));
            words = _mm512_srli_epi32(words, 4);
        }
    }
}

/* Tiles are named by constants, so that each number of them is a loop of its own. `last` has `n` tokens:
 * its sums are made by a tile as wide as it is. */
#define WHOLE(i) _tile_loadd(5, x + i * SOME * p->cols + c * SOME, 4 * SOME); _tile_dpbf16ps(i, 4, 5);
#define LAST(i) _tile_loadd(6, x + i * SOME * p->cols + c * n, 4 * n); _tile_dpbf16ps(i, 4, 6);
#define COLUMNS(...)                                                                              \
    for (long c = from; c < to; c += DEEP, w += step) {                                           \
        _tile_loadd(4, w, stride);                                                                \
        __VA_ARGS__                                                                               \
    }

/* Adds to the sums columns `from` to `to` of tiles `step` apart, whose rows are `stride` bytes apart. */
INLINE void add_columns(const Product *p, const bf16 *w, long step, long stride, const bf16 *x, long from,
                        long to, long tiles, long n) {
    switch (tiles) {
        case 1: COLUMNS(LAST(0)) break;
        case 2: COLUMNS(WHOLE(0) LAST(1)) break;
        case 3: COLUMNS(WHOLE(0) WHOLE(1) LAST(2)) break;
        default: COLUMNS(WHOLE(0) WHOLE(1) WHOLE(2) LAST(3))
    }
}

/* The same for all columns of weights that must be widened. */
static void add_widened(const Product *p, long row, long height, const bf16 *x, long tiles, long n) {
    Tiles made __attribute__((aligned(64)));
    for (long from = 0; from < p->cols; from += RUN) {
        long count = at_most(p->cols - from, RUN);
        const int8_t *w = (const int8_t *)p->weight + row * p->cols + from;
        if (p->kind == WEIGHT_I8) widen_i8(p, w, height, count, made);
        else widen_i4(p, row, height, from, count, made);
        add_columns(p, made[0][0], TALL * DEEP, 2 * DEEP, x, from, from + count, tiles, n);
    }
}

/* out[tile][row][token] of the rows from `row` on and of the tokens whose packed columns begin at `x` */
static void sums(const Product *p, long row, long height, const bf16 *x, long tiles, long n, float *out) {
    _tile_zero(0);
    if (tiles > 1) _tile_zero(1);
    if (tiles > 2) _tile_zero(2);
    if (tiles > 3) _tile_zero(3);
    const bf16 *w = (const bf16 *)p->weight + row * p->cols;
    if (p->kind == WEIGHT_BF16) add_columns(p, w, DEEP, 2 * p->cols, x, 0, p->cols, tiles, n);
    else add_widened(p, row, height, x, tiles, n);
    _tile_stored(0, out, 4 * SOME);
    if (tiles > 1) _tile_stored(1, out + TALL * SOME, 4 * SOME);
    if (tiles > 2) _tile_stored(2, out + 2 * TALL * SOME, 4 * SOME);
    if (tiles > 3) _tile_stored(3, out + 3 * TALL * SOME, 4 * SOME);
    if (p->kind != WEIGHT_I8) return;
    for (long tile = 0; tile < tiles; tile++)
        for (long i = 0; i < height; i++) {
            float *some = out + (tile * TALL + i) * SOME;
            vec scaled = load_f32(some) * ((const float *)p->scales)[row + i];
            memcpy(some, &scaled, sizeof scaled);
        }
}

/* `height` rows from `row` on, for `count` tokens from `first` on */
static void block(const Product *p, long row, long height, long first, long count) {
    float out[GROUP * TALL] __attribute__((aligned(64)));
    const bf16 *x = p->tokens == 1 ? p->x : (const void *)p->wide;
    long tiles = (count + SOME - 1) / SOME, n = count - (tiles - 1) * SOME;
    sums(p, row, height, x + first * p->cols, tiles, n, out);
    const ivec lines = (ivec)ORDINALS * SOME;
    for (long t = 0; t < count; t++) {
        const float *of_token = out + t / SOME * TALL * SOME + t % SOME;
        if (height == TALL) {
            finish_bf16(p, first + t, row, (vec)_mm512_i32gather_ps((__m512i)lines, of_token, 4));
        } else {
            for (long i = 0; i < height; i++) finish(p, first + t, row + i, of_token[i * SOME]);
        }
    }
}

void rows_tiled(const Product *p) {
    char before[64] __attribute__((aligned(64)));
    long height = 0, width = 0;
    _tile_storeconfig(before); /* PyTorch's own library takes what it has set for granted */
#pragma omp for schedule(guided, 2) nowait
    for (long row = 0; row < p->rows; row += TALL)
        for (long first = 0; first < p->tokens; first += GROUP) {
            long high = at_most(p->rows - row, TALL), wide = at_most(p->tokens - first, GROUP);
            if (high != height || wide != width) shape(high, wide);
            height = high, width = wide;
            block(p, row, high, first, wide);
        }
    _tile_loadconfig(before);
}

#else
int tiles_ready(void) { return 0; }
int is_tiled(const Product *p) { return 0; }
void pack_columns(const Product *p, long from, long to) {}
void rows_tiled(const Product *p) {}
#endif
