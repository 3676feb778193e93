/* A whole layer by one team of threads, which meet between its steps: nothing is allocated, and nobody
 * goes back to Python in between. Every step is the function that serves single calls, too, so a layer's
 * numbers are those of its steps one by one. */
#include "layer.h"

#include "norm.h"
#include "team.h"

void *take(Team *t, long numbers, long bytes) {
    char *at = t->room;
    t->room += ROUND_UP(numbers * bytes, 64);
    return at;
}

void *take_typed(Team *t, long numbers) { return take(t, numbers, t->layer->is_bf16 ? 2 : 4); }

Product applied(const Team *t, const Product *matrix, const void *x, void *y) {
    Product p = *matrix;
    p.x = x, p.y = y, p.wide = t->wide, p.totals = t->totals, p.tokens = t->tokens;
    return p;
}

void add_to_stream(const Team *t, const Product *matrix, const void *x, const void *stream) {
    Product p = applied(t, matrix, x, t->call->out);
    if (t->layer->adds) p.residual = stream;
    p.residual_is_bf16 = t->layer->stream_is_bf16, p.scale = t->layer->scale;
    products(&p, 1);
}

void normed_stream(const Team *t, const void *stream, const void *weight, void *y) {
    const Layer *l = t->layer;
    rms_norm(stream, l->width, weight, y, t->tokens, l->width, l->eps, l->stream_is_bf16, l->is_bf16);
}

static void mlp_part(Team *t, const void *stream) {
    const MlpPart *m = t->layer->mlp;
    long wide = m->up.rows;
    int gated = m->gate.weight != 0;
    void *normed = take_typed(t, t->tokens * t->layer->width);
    void *gate = take_typed(t, t->tokens * wide), *up = take_typed(t, t->tokens * wide);
    if (!t->call->room) return;
    normed_stream(t, stream, t->layer->mlp_norm, normed);
    Product both[2] = {applied(t, &m->up, normed, up), applied(t, &m->gate, normed, gate)};
    products(both, gated ? 2 : 1);
    meet();
    activate(gated ? gate : up, gated ? up : 0, gate, t->tokens, wide, m->activation, t->layer->is_bf16);
    add_to_stream(t, &m->down, gate, stream);
}

/* Returns where the room ends. */
static char *whole(const Layer *l, const Call *c) {
    long tokens = c->span.tokens, columns = tokens * ROUND_UP(l->widest, RUN);
    Team t = {.layer = l, .call = c, .room = c->room, .tokens = tokens};
    t.wide = take(&t, columns, sizeof(float));
    t.totals = take(&t, columns, sizeof(float)); /* groups are fewer than columns */
    if (l->attention) attention_part(&t);
    if (l->mamba2) mamba2_part(&t);
    if (l->mamba) mamba_part(&t);
    if (!l->mlp || !c->out) return t.room;
    int mixes = l->attention || l->mamba2 || l->mamba;
    if (mixes && c->room) meet();
    mlp_part(&t, mixes ? c->out : c->stream);
    return t.room;
}

void run_layer(const Layer *l, const Call *c) {
#pragma omp parallel num_threads(c->threads)
    whole(l, c);
}

long layer_room(const Layer *l, const Call *c) { return (long)whole(l, c); }
