/* A few tokens of each row, one after the other, through the recurrent parts of Mamba and Mamba-2. The
 * state, which is the largest thing here after the weights, is read and written once. */
#include "recurrent.h"

#include "vectors.h"

INLINE float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }

/* weight [channels, taps] -> one vector a tap, of LANES channels from c on */
#define TAPS 4 /* as nearly all models have; others are read number by number */
INLINE void read_taps(const void *weight, long c, vec *out, int is_bf16) {
    vec in[TAPS];
    for (int t = 0; t < TAPS; t++) in[t] = read_vec(weight, c * TAPS + t * LANES, is_bf16);
    vec even[2] = {evens(in[0], in[1]), evens(in[2], in[3])};
    vec odd[2] = {odds(in[0], in[1]), odds(in[2], in[3])};
    out[0] = evens(even[0], even[1]);
    out[1] = evens(odd[0], odd[1]);
    out[2] = odds(even[0], even[1]);
    out[3] = odds(odd[0], odd[1]);
}

INLINE vec tap(const Conv *p, const vec *read, long c, long t, int h) {
    return p->taps == TAPS ? read[t] : strided(p->weight, c * p->taps + t, p->taps, h);
}

/* LANES channels of one row */
INLINE void conv_lanes(const Conv *p, long row, long c, int h) {
    long taps = p->taps, base = p->span.slots[row] * (taps - 1) * p->channels + c;
    long at = p->span.firsts[row], end = at + p->span.lengths[row];
    vec weights[TAPS];
    if (taps == TAPS) read_taps(p->weight, c, weights, h);
    for (; at < end; at++) {
        vec now = read_vec(p->x, at * p->stride + c, h);
        vec sum = now * tap(p, weights, c, taps - 1, h);
        if (p->bias) sum += read_vec(p->bias, c, h);
        for (long t = 0; t + 1 < taps; t++) {
            vec past = read_vec(p->state, base + t * p->channels, h);
            sum += past * tap(p, weights, c, t, h);
            if (t) write_vec(p->state, base + (t - 1) * p->channels, h, past);
        }
        if (taps > 1) write_vec(p->state, base + (taps - 2) * p->channels, h, now);
        write_vec(p->out, at * p->channels + c, h, silu_vec(sum));
    }
    for (; at < p->span.firsts[row + 1]; at++) write_vec(p->out, at * p->channels + c, h, (vec){0});
}

void conv_rows(const Conv *p) {
#pragma omp for collapse(2) schedule(static) nowait
    for (long row = 0; row < p->span.rows; row++)
        for (long c = 0; c < p->channels; c += LANES) {
            if (p->is_bf16) conv_lanes(p, row, c, 1);
            else conv_lanes(p, row, c, 0);
        }
}

/* h = decay h + scale b and, where c is given, h . c, over one line of the state */
INLINE float line(float *h, const float *b, const float *c, long size, float decay, float scale) {
    vec sum = {0};
    for (long i = 0; i < size; i += LANES) {
        vec now = load_f32(h + i) * decay + load_f32(b + i) * scale;
        memcpy(h + i, &now, sizeof now);
        if (c) sum += now * load_f32(c + i);
    }
    return c ? sum_of(sum) : 0;
}

/* values[width] *= silu(gate) */
INLINE void gate_line(float *values, const void *gate, long at, long width, int h) {
    for (long i = 0; i < width; i += LANES) {
        int n = width - i < LANES ? (int)(width - i) : LANES;
        if (n == LANES)
            write_vec(values, i, 0, load_f32(values + i) * silu_vec(read_vec(gate, at + i, h)));
        else
            write_part(values, i, n, 0, read_part(values, i, n, 0) * silu_vec(read_part(gate, at + i, n, h)));
    }
}

/* One token of one head, whose state is at `state` */
INLINE void ssd_token(const Ssd *s, long at, long head, float *state, float rate, int h) {
    long inner = s->heads * s->width, shared = s->groups * s->size;
    long source = at * (inner + 2 * shared), group = head / (s->heads / s->groups) * s->size;
    float b[s->size], c[s->size];
    for (long i = 0; i < s->size; i += LANES) {
        write_vec(b, i, 0, read_vec(s->mixed, source + inner + group + i, h));
        write_vec(c, i, 0, read_vec(s->mixed, source + inner + shared + group + i, h));
    }
    float step = softplus(read(s->dt, at * s->stride + head, h) + read(s->dt_bias, head, h));
    step = fminf(fmaxf(step, s->dt_min), s->dt_max);
    float decay = expf(-step * rate), skip = read(s->skip, head, h);
    float *y = s->y ? s->y + at * inner + head * s->width : 0;
    for (long p = 0; p < s->width; p++) {
        float x = read(s->mixed, source + head * s->width + p, h);
        float out = line(state + p * s->size, b, y ? c : 0, s->size, decay, step * x);
        if (y) y[p] = out + x * skip;
    }
    if (y) gate_line(y, s->gate, at * s->stride + head * s->width, s->width, h);
}

INLINE void ssd_head(const Ssd *s, long row, long head, int h) {
    long at = s->span.firsts[row], end = at + s->span.lengths[row], inner = s->heads * s->width;
    float rate = expf(read(s->a_log, head, h));
    float *state = s->ssm + (s->span.slots[row] * s->heads + head) * s->width * s->size;
    for (; at < end; at++) ssd_token(s, at, head, state, rate, h);
    for (; s->y && at < s->span.firsts[row + 1]; at++)
        memset(s->y + at * inner + head * s->width, 0, s->width * sizeof(float));
}

void ssd_rows(const Ssd *s) {
#pragma omp for collapse(2) schedule(static) nowait
    for (long row = 0; row < s->span.rows; row++)
        for (long head = 0; head < s->heads; head++) {
            if (s->is_bf16) ssd_head(s, row, head, 1);
            else ssd_head(s, row, head, 0);
        }
}

/* One token of LANES channels */
INLINE void selective_token(const Selective *s, long slot, long at, long first, int h) {
    vec sums = {0}, value = read_vec(s->x, at * s->inner + first, h);
    for (int l = 0; l < LANES; l++) {
        long channel = first + l, size = s->size;
        float step = softplus(read(s->dt, at * s->inner + channel, h));
        float *state = s->ssm + (slot * s->inner + channel) * size;
        vec sum = {0};
        for (long i = 0; i < size; i += LANES) {
            vec rate = exp_vec(read_vec(s->a_log, channel * size + i, h));
            vec now = load_f32(state + i) * exp_vec(-step * rate) +
                      load_f32(s->b + at * size + i) * (step * value[l]);
            memcpy(state + i, &now, sizeof now);
            if (s->out) sum += now * load_f32(s->c + at * size + i);
        }
        sums[l] = sum_of(sum);
    }
    if (!s->out) return;
    sums += value * read_vec(s->skip, first, h);
    sums *= silu_vec(read_vec(s->gate, at * s->stride + first, h));
    write_vec(s->out, at * s->inner + first, h, sums);
}

INLINE void selective_lanes(const Selective *s, long row, long first, int h) {
    long at = s->span.firsts[row], end = at + s->span.lengths[row];
    for (; at < end; at++) selective_token(s, s->span.slots[row], at, first, h);
    for (; s->out && at < s->span.firsts[row + 1]; at++)
        write_vec(s->out, at * s->inner + first, h, (vec){0});
}

void selective_rows(const Selective *s) {
#pragma omp for collapse(2) schedule(static) nowait
    for (long row = 0; row < s->span.rows; row++)
        for (long first = 0; first < s->inner; first += LANES) {
            if (s->is_bf16) selective_lanes(s, row, first, 1);
            else selective_lanes(s, row, first, 0);
        }
}

/* For callers that are alone. */
void conv_step(const Conv *c) {
#pragma omp parallel num_threads(c->threads)
    conv_rows(c);
}

void ssd_step(const Ssd *s) {
#pragma omp parallel num_threads(s->threads)
    ssd_rows(s);
}

void selective_step(const Selective *s) {
#pragma omp parallel num_threads(s->threads)
    selective_rows(s);
}
