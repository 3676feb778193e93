/* What a whole layer is made of, as layer.py prepares it: weights stay, a call's numbers change. */
#ifndef DYNEXIT_LAYER_H
#define DYNEXIT_LAYER_H

#include "matrix.h"
#include "span.h"

typedef struct {
    Product q, k, v, o;
    const void *q_norm, *k_norm; /* [size], or null */
    long heads, kv_heads, size, turned, window;
    float norm_eps, scale;
} AttentionPart;

typedef struct {
    Product in, out;
    const void *conv, *conv_bias, *dt_bias, *a_log, *skip, *norm;
    long inner, channels, taps, heads, width, groups, size;
    float dt_min, dt_max, norm_eps;
} Mamba2Part;

typedef struct {
    Product in, select, dt, out;
    const void *conv, *conv_bias, *a_log, *skip;
    const void *dt_norm, *b_norm, *c_norm; /* [rank], [size], [size], or null */
    long inner, taps, rank, size;
    float norm_eps;
} MambaPart;

typedef struct {
    Product gate, up, down; /* gate.weight is null in a plain block */
    int activation;
} MlpPart;

typedef struct {
    const void *mixer_norm, *mlp_norm;
    const AttentionPart *attention; /* one of these mixers, or none */
    const Mamba2Part *mamba2;
    const MambaPart *mamba;
    const MlpPart *mlp; /* or null */
    long width;         /* of the residual stream */
    long widest;        /* most columns that any matrix has */
    float eps, scale;   /* of the norms; of what is added to the stream */
    int is_bf16, stream_is_bf16;
    int adds; /* to the stream; otherwise `out` gets the mixer's output alone, in the weights' type */
} Layer;

typedef struct {
    const void *stream; /* [tokens, width]: the hidden states before the layer */
    void *out;          /* the same after it; null: only the state is wanted */
    void *states[2];    /* keys and values, or convolution and SSM state */
    const void *cosine, *sine;
    void *projected; /* null, or where a recurrent mixer leaves what its in-projection gave */
    char *room;      /* scratch of layer_room bytes */
    Span span;
    long tables, capacity, longest;
    int threads;
} Call;

/* One thread's view of a layer in progress; all of them take the same room. */
typedef struct {
    const Layer *layer;
    const Call *call;
    char *room;
    float *wide, *totals;
    long tokens;
} Team;

void *take(Team *t, long numbers, long bytes);
void *take_typed(Team *t, long numbers); /* in the type of the weights */

/* The matrix with its input and output; the products of one x are done together. */
Product applied(const Team *t, const Product *matrix, const void *x, void *y);

/* The stream, if the layer adds to it, plus `x` through a matrix, to call->out. */
void add_to_stream(const Team *t, const Product *matrix, const void *x, const void *stream);

/* Mixers add to the normed stream, or only update their state where `out` is null. Where the call has no
 * room yet, all parts only take it, which tells how much is needed. */
void attention_part(Team *t);
void mamba2_part(Team *t);
void mamba_part(Team *t);

/* Norm of the stream: all have met before it, and `products` meets after it. */
void normed_stream(const Team *t, const void *stream, const void *weight, void *y);

#endif
