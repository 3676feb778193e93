/* A few tokens of each row, one after the other, through the recurrent parts of Mamba and Mamba-2. The
 * state, which is the largest thing here after the weights, is read and written once. `slots` [rows]
 * is each row's place in the states, `lengths` [rows] how many of its `tokens` are real. */
#include "vectors.h"

INLINE float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }

/* Causal convolution and SiLU: out[rows, tokens, channels]; conv [slots, taps - 1, channels] moves on
 * by a row's tokens. x has `stride` numbers a token. */
INLINE void conv_rows(const void *x, long stride, void *conv, const void *weight, const void *bias,
                      void *out, const int64_t *slots, const int64_t *lengths, long rows, long tokens,
                      long channels, long taps, int is_bf16, int threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++)
        for (long c = 0; c < channels; c += LANES) {
            long base = slots[row] * (taps - 1) * channels + c;
            for (long at = row * tokens; at < row * tokens + lengths[row]; at++) {
                vec now = read_vec(x, at * stride + c, is_bf16);
                vec sum = now * strided(weight, c * taps + taps - 1, taps, is_bf16);
                if (bias) sum += read_vec(bias, c, is_bf16);
                for (long t = 0; t + 1 < taps; t++) {
                    vec past = read_vec(conv, base + t * channels, is_bf16);
                    sum += past * strided(weight, c * taps + t, taps, is_bf16);
                    if (t) write_vec(conv, base + (t - 1) * channels, is_bf16, past);
                }
                if (taps > 1) write_vec(conv, base + (taps - 2) * channels, is_bf16, now);
                write_vec(out, at * channels + c, is_bf16, silu_vec(sum));
            }
        }
}

void conv_step(const void *x, long stride, void *conv, const void *weight, const void *bias,
               void *out, const int64_t *slots, const int64_t *lengths, long rows, long tokens,
               long channels, long taps, int is_bf16, int threads) {
    if (is_bf16)
        conv_rows(x, stride, conv, weight, bias, out, slots, lengths, rows, tokens, channels, taps, 1,
                  threads);
    else
        conv_rows(x, stride, conv, weight, bias, out, slots, lengths, rows, tokens, channels, taps, 0,
                  threads);
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

/* Mamba-2: mixed [rows, tokens, channels] is x [heads, width] with B and C [groups, size] behind it;
 * dt has `stride` numbers a token; y [rows, tokens, heads * width] in fp32, or null for the state
 * alone. `scratch` holds rows * tokens * 2 * groups * size floats. */
void ssd_step(const void *mixed, const void *dt, long stride, const void *dt_bias,
              const void *a_log, const void *skip, float dt_min, float dt_max, float *ssm, float *y,
              float *scratch, const int64_t *slots, const int64_t *lengths, long rows, long tokens,
              long heads, long width, long groups, long size, int is_bf16, int threads) {
    long inner = heads * width, shared = 2 * groups * size, channels = inner + shared;
    for (long at = 0; at < rows * tokens; at++)
        for (long i = 0; i < shared; i++)
            scratch[at * shared + i] = read(mixed, at * channels + inner + i, is_bf16);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++)
        for (long head = 0; head < heads; head++) {
            float rate = expf(read(a_log, head, is_bf16)), bias = read(dt_bias, head, is_bf16);
            float *state = ssm + (slots[row] * heads + head) * width * size;
            for (long at = row * tokens; at < row * tokens + lengths[row]; at++) {
                float step = softplus(read(dt, at * stride + head, is_bf16) + bias);
                step = fminf(fmaxf(step, dt_min), dt_max);
                float decay = expf(-step * rate);
                const float *b = scratch + at * shared + head / (heads / groups) * size;
                const float *c = y ? b + groups * size : 0;
                for (long p = 0; p < width; p++) {
                    float x = read(mixed, at * channels + head * width + p, is_bf16);
                    float out = line(state + p * size, b, c, size, decay, step * x);
                    if (y) y[at * inner + head * width + p] = out + x * read(skip, head, is_bf16);
                }
            }
        }
}

/* y [rows, inner] fp32 -> out: RMS norm by group of y * silu(gate), as GatedRmsNorm; y is changed */
INLINE void gated_rows(float *y, const void *gate, long stride, const void *weight, void *out,
                       long rows, long inner, long groups, float eps, int is_bf16) {
    long size = inner / groups;
    for (long job = 0; job < rows * groups; job++) {
        long row = job / groups, at = job % groups * size;
        float *values = y + row * inner + at;
        vec squares = {0};
        for (long i = 0; i < size; i += LANES) {
            vec now = load_f32(values + i) * silu_vec(read_vec(gate, row * stride + at + i, is_bf16));
            memcpy(values + i, &now, sizeof now);
            squares += now * now;
        }
        float scale = 1.0f / sqrtf(sum_of(squares) / size + eps);
        for (long i = 0; i < size; i += LANES) {
            vec normed = round_vec(load_f32(values + i) * scale, is_bf16);
            write_vec(out, row * inner + at + i, is_bf16, read_vec(weight, at + i, is_bf16) * normed);
        }
    }
}

void gated_norm(float *y, const void *gate, long stride, const void *weight, void *out, long rows,
                long inner, long groups, float eps, int is_bf16) {
    if (is_bf16) gated_rows(y, gate, stride, weight, out, rows, inner, groups, eps, 1);
    else gated_rows(y, gate, stride, weight, out, rows, inner, groups, eps, 0);
}

/* Mamba: x and dt [rows, tokens, inner], dt before softplus and with its bias, B and C [rows, tokens,
 * size] in fp32; ssm [slots, inner, size]. out = (h . c + D x) * silu(gate), or null for the state
 * alone. */
INLINE void selective_rows(const void *x, const void *dt, const float *b, const float *c,
                           const void *a_log, const void *skip, const void *gate, long stride,
                           float *ssm, void *out, const int64_t *slots, const int64_t *lengths,
                           long rows, long tokens, long inner, long size, int is_bf16, int threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++)
        for (long first = 0; first < inner; first += LANES)
            for (long at = row * tokens; at < row * tokens + lengths[row]; at++) {
                vec sums = {0}, value = read_vec(x, at * inner + first, is_bf16);
                for (int l = 0; l < LANES; l++) {
                    long channel = first + l;
                    float step = softplus(read(dt, at * inner + channel, is_bf16));
                    float *h = ssm + (slots[row] * inner + channel) * size;
                    vec sum = {0};
                    for (long i = 0; i < size; i += LANES) {
                        vec rate = exp_vec(read_vec(a_log, channel * size + i, is_bf16));
                        vec now = load_f32(h + i) * exp_vec(-step * rate) +
                                  load_f32(b + at * size + i) * (step * value[l]);
                        memcpy(h + i, &now, sizeof now);
                        if (out) sum += now * load_f32(c + at * size + i);
                    }
                    sums[l] = sum_of(sum);
                }
                if (!out) continue;
                sums += value * read_vec(skip, first, is_bf16);
                sums *= silu_vec(read_vec(gate, at * stride + first, is_bf16));
                write_vec(out, at * inner + first, is_bf16, sums);
            }
}

void selective_step(const void *x, const void *dt, const float *b, const float *c,
                    const void *a_log, const void *skip, const void *gate, long stride, float *ssm,
                    void *out, const int64_t *slots, const int64_t *lengths, long rows, long tokens,
                    long inner, long size, int is_bf16, int threads) {
    if (is_bf16)
        selective_rows(x, dt, b, c, a_log, skip, gate, stride, ssm, out, slots, lengths, rows, tokens,
                       inner, size, 1, threads);
    else
        selective_rows(x, dt, b, c, a_log, skip, gate, stride, ssm, out, slots, lengths, rows, tokens,
                       inner, size, 0, threads);
}
