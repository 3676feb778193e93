/* Products of hidden states with matrices, as other steps of a layer call them; see matrix.c. */
#ifndef DYNEXIT_MATRIX_H
#define DYNEXIT_MATRIX_H

typedef struct {
    const void *weight, *scales, *zeros, *bias;
    const void *x; /* [tokens, cols] */
    void *y;       /* [tokens, rows] */
    float *wide;   /* scratch of tokens * (cols rounded up to RUN): x in fp32 */
    float *totals; /* scratch of tokens * groups, for int4: sums of x by group */
    const void *residual; /* null, or what is added to `scale` times the result: y is of its type then */
    long tokens, rows, cols, group;
    float scale;
    int kind;             /* of the weights: one of the four below */
    int is_bf16;          /* x, bias, and y without a residual: bf16, otherwise fp32 */
    int scale_is_bf16;    /* scales and zeros of int4 */
    int residual_is_bf16;
    int threads;
} Product;

enum { WEIGHT_F32, WEIGHT_BF16, WEIGHT_I8, WEIGHT_I4 };

#define ROUND_UP(x, to) (((x) + (to)-1) / (to) * (to))
#define RUN 128 /* columns that belong together, whatever the weights are, */
#define BLOCK 32 /* those of them that are loaded at once, */
#define RUN_BYTES 64 /* and what a run of int4 takes */
#define I4_BYTES(cols) (ROUND_UP(cols, RUN) / RUN * RUN_BYTES) /* of a row */
#define LINE 64 /* bytes that come from memory together */

/* All threads of a team: `count` products, one after the other. Columns of x may have been written just
 * now by the threads whose share (team.h) they are; no thread waits at the end. */
void products(const Product *p, long count);

#endif
