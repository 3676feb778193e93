/* The mixers of a layer as steps of a team; see layer.c. */
#include "attention.h"
#include "layer.h"
#include "norm.h"
#include "recurrent.h"
#include "team.h"
#include "vectors.h"

static Attention attention_of(const Team *t, const AttentionPart *a) {
    const Call *c = t->call;
    return (Attention){.cosine = c->cosine, .sine = c->sine, .keys = c->states[0], .values = c->states[1],
                       .span = c->span, .heads = a->heads, .kv_heads = a->kv_heads, .size = a->size,
                       .turned = a->turned, .tables = c->tables, .capacity = c->capacity,
                       .window = a->window, .room = ROUND_UP(c->longest, LANES), .scale = a->scale,
                       .is_bf16 = t->layer->is_bf16};
}

void attention_part(Team *t) {
    const AttentionPart *a = t->layer->attention;
    const Call *c = t->call;
    long n = t->tokens, queries = c->out ? 1 : 0;
    Attention call = attention_of(t, a);
    void *normed = take_typed(t, n * t->layer->width), *q = take_typed(t, n * a->q.rows);
    void *k = take_typed(t, n * a->k.rows), *v = take_typed(t, n * a->v.rows);
    call.q = q, call.k = k, call.v = v, call.out = take_typed(t, n * a->q.rows);
    call.scratch = take(t, c->threads * QUERIES * call.room, sizeof(float));
    if (!c->room) return;
    normed_stream(t, c->stream, t->layer->mixer_norm, normed);
    Product three[3] = {applied(t, &a->k, normed, k), applied(t, &a->v, normed, v),
                        applied(t, &a->q, normed, q)};
    products(three, 2 + queries);
    meet();
    if (a->k_norm) {
        if (queries) norm_heads(q, a->q_norm, n * a->heads, a->size, a->norm_eps, t->layer->is_bf16);
        norm_heads(k, a->k_norm, n * a->kv_heads, a->size, a->norm_eps, t->layer->is_bf16);
        meet();
    }
    if (!queries) {
        remember_rows(&call);
        return;
    }
    attend_rows(&call);
    meet();
    add_to_stream(t, &a->o, call.out, c->stream);
}

/* What the in-projection gives is the gate, x with B and C, and the time step; for the state alone it
 * has no gate. */
void mamba2_part(Team *t) {
    const Mamba2Part *m = t->layer->mamba2;
    const Call *c = t->call;
    long n = t->tokens, inner = c->out ? m->inner : 0;
    int h = t->layer->is_bf16;
    void *projected = c->projected ? c->projected : take_typed(t, n * m->in.rows);
    void *normed = take_typed(t, n * t->layer->width), *mixed = take_typed(t, n * m->channels);
    float *y = take(t, n * inner, sizeof *y);
    void *out = take_typed(t, n * inner);
    if (!c->room) return;
    normed_stream(t, c->stream, t->layer->mixer_norm, normed);
    Product in = applied(t, &m->in, normed, projected);
    products(&in, 1);
    meet();
    conv_rows(&(Conv){.x = moved(projected, inner, h), .state = c->states[0], .weight = m->conv,
                      .bias = m->conv_bias, .out = mixed, .span = c->span, .stride = m->in.rows,
                      .channels = m->channels, .taps = m->taps, .is_bf16 = h});
    meet();
    ssd_rows(&(Ssd){.mixed = mixed, .dt = moved(projected, inner + m->channels, h), .dt_bias = m->dt_bias,
                    .a_log = m->a_log, .skip = m->skip, .gate = projected, .ssm = c->states[1],
                    .y = c->out ? y : 0, .span = c->span, .stride = m->in.rows, .heads = m->heads,
                    .width = m->width, .groups = m->groups, .size = m->size, .dt_min = m->dt_min,
                    .dt_max = m->dt_max, .is_bf16 = h});
    if (!c->out) return;
    meet();
    group_norm(y, m->norm, out, n, inner, m->groups, m->norm_eps, h);
    add_to_stream(t, &m->out, out, c->stream);
}

/* `size` numbers of what was selected, normed where there is a norm */
static void pick(const Team *t, const void *x, const void *norm, long size, void *y) {
    int h = t->layer->is_bf16;
    if (norm) norm_one(x, norm, y, size, t->layer->mamba->norm_eps, h);
    else memcpy(y, x, size * (h ? 2 : 4));
}

/* selected [tokens, rank + 2 size] -> the input of the time step's projection, and B and C in fp32 */
static void select_rows(const Team *t, void *selected, void *dt, float *b, float *c) {
    const MambaPart *m = t->layer->mamba;
    long width = m->rank + 2 * m->size;
    int h = t->layer->is_bf16;
#pragma omp for schedule(static) nowait
    for (long at = 0; at < t->tokens; at++) {
        float stored[m->size];
        void *from = moved(selected, at * width, h);
        pick(t, from, m->dt_norm, m->rank, moved(dt, at * m->rank, h));
        pick(t, moved(from, m->rank, h), m->b_norm, m->size, stored);
        for (long i = 0; i < m->size; i++) b[at * m->size + i] = read(stored, i, h);
        pick(t, moved(from, m->rank + m->size, h), m->c_norm, m->size, stored);
        for (long i = 0; i < m->size; i++) c[at * m->size + i] = read(stored, i, h);
    }
}

/* What the in-projection gives is x and the gate; for the state alone it has no gate. */
void mamba_part(Team *t) {
    const MambaPart *m = t->layer->mamba;
    const Call *c = t->call;
    long n = t->tokens;
    int h = t->layer->is_bf16;
    void *projected = c->projected ? c->projected : take_typed(t, n * m->in.rows);
    void *normed = take_typed(t, n * t->layer->width), *inner = take_typed(t, n * m->inner);
    void *selected = take_typed(t, n * m->select.rows), *low = take_typed(t, n * m->rank);
    void *dt = take_typed(t, n * m->inner), *y = take_typed(t, n * m->inner);
    float *b = take(t, n * m->size, sizeof *b), *coefficients = take(t, n * m->size, sizeof *b);
    if (!c->room) return;
    normed_stream(t, c->stream, t->layer->mixer_norm, normed);
    Product in = applied(t, &m->in, normed, projected);
    products(&in, 1);
    meet();
    conv_rows(&(Conv){.x = projected, .state = c->states[0], .weight = m->conv, .bias = m->conv_bias,
                      .out = inner, .span = c->span, .stride = m->in.rows, .channels = m->inner,
                      .taps = m->taps, .is_bf16 = h});
    meet();
    Product select = applied(t, &m->select, inner, selected);
    products(&select, 1);
    meet();
    select_rows(t, selected, low, b, coefficients);
    meet();
    Product step = applied(t, &m->dt, low, dt);
    products(&step, 1);
    meet();
    selective_rows(&(Selective){.x = inner, .dt = dt, .b = b, .c = coefficients, .a_log = m->a_log,
                                .skip = m->skip, .gate = moved(projected, m->inner, h),
                                .ssm = c->states[1], .out = c->out ? y : 0, .span = c->span,
                                .stride = m->in.rows, .inner = m->inner, .size = m->size, .is_bf16 = h});
    if (!c->out) return;
    meet();
    add_to_stream(t, &m->out, y, c->stream);
}
