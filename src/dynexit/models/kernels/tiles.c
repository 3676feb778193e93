/* y = x W' in bf16 by tiles: 16 rows of W, as they lie in memory, times up to 64 tokens, 32 columns at a
 * time. A tile of weights that comes from memory takes longer to arrive than to be multiplied with 64
 * tokens, so that these cost little more than one. The sums of a token do not depend on the others.
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

extern long syscall(long number, ...); /* the rest of unistd.h has names that are ours */

int tiles_ready(void) {
    static int known = -1;
    /* arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) */
    if (known < 0) known = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
    return known;
}

int is_tiled(const Product *p) {
    return p->kind == WEIGHT_BF16 && p->is_bf16 && p->cols % DEEP == 0 && tiles_ready();
}

static long at_most(long x, long most) { return x < most ? x : most; }

/* A tile of x has its tokens side by side, tiles of all columns follow each other. */
void pack_columns(const Product *p, long from, long to) {
    if (p->tokens == 1) return;
    const ivec each = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
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

/* Tiles are named by constants, so that each number of them is a loop of its own. `last` has `n` tokens:
 * its sums are made by a tile as wide as it is. */
#define WHOLE(i) _tile_loadd(5, x + i * SOME * p->cols + c * SOME, 4 * SOME); _tile_dpbf16ps(i, 4, 5);
#define LAST(i) _tile_loadd(6, x + i * SOME * p->cols + c * n, 4 * n); _tile_dpbf16ps(i, 4, 6);
#define COLUMNS(...)                                                                              \
    for (long c = 0; c < p->cols; c += DEEP) {                                                    \
        _tile_loadd(4, w + c, 2 * p->cols);                                                       \
        __VA_ARGS__                                                                               \
    }

/* out[tile][row][token] of the rows from `w` on and of the tokens whose packed columns begin at `x` */
static void sums(const Product *p, const bf16 *w, const bf16 *x, long tiles, long n, float *out) {
    _tile_zero(0);
    if (tiles > 1) _tile_zero(1);
    if (tiles > 2) _tile_zero(2);
    if (tiles > 3) _tile_zero(3);
    switch (tiles) {
        case 1: COLUMNS(LAST(0)) break;
        case 2: COLUMNS(WHOLE(0) LAST(1)) break;
        case 3: COLUMNS(WHOLE(0) WHOLE(1) LAST(2)) break;
        default: COLUMNS(WHOLE(0) WHOLE(1) WHOLE(2) LAST(3))
    }
    _tile_stored(0, out, 4 * SOME);
    if (tiles > 1) _tile_stored(1, out + TALL * SOME, 4 * SOME);
    if (tiles > 2) _tile_stored(2, out + 2 * TALL * SOME, 4 * SOME);
    if (tiles > 3) _tile_stored(3, out + 3 * TALL * SOME, 4 * SOME);
}

/* `height` rows from `row` on, for `count` tokens from `first` on */
static void block(const Product *p, long row, long height, long first, long count) {
    float out[GROUP * TALL] __attribute__((aligned(64)));
    const bf16 *x = p->tokens == 1 ? p->x : (const void *)p->wide;
    long tiles = (count + SOME - 1) / SOME, n = count - (tiles - 1) * SOME;
    sums(p, (const bf16 *)p->weight + row * p->cols, x + first * p->cols, tiles, n, out);
    const ivec lines = (ivec){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} * SOME;
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
