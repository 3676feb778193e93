/* One token through the recurrent parts of Mamba and Mamba-2. The state, which is the largest thing
 * here after the weights, is read and written once. `slots` gives each row's place in the states. */
#include "vectors.h"

INLINE float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }

/* Causal convolution of one token and SiLU: out[n, channels]; conv [slots, taps - 1, channels] moves
 * on by one. x has `stride` numbers a row. */
INLINE void conv_rows(const void *x, long stride, void *conv, const void *weight, const void *bias,
                      void *out, const int64_t *slots, long rows, long channels, long taps,
                      int is_bf16, int threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++)
        for (long c = 0; c < channels; c += LANES) {
            long base = slots[row] * (taps - 1) * channels + c;
            vec now = read_vec(x, row * stride + c, is_bf16);
            vec sum = now * strided(weight, c * taps + taps - 1, taps, is_bf16);
            if (bias) sum += read_vec(bias, c, is_bf16);
            for (long t = 0; t + 1 < taps; t++) {
                vec past = read_vec(conv, base + t * channels, is_bf16);
                sum += past * strided(weight, c * taps + t, taps, is_bf16);
                if (t) write_vec(conv, base + (t - 1) * channels, is_bf16, past);
            }
            if (taps > 1) write_vec(conv, base + (taps - 2) * channels, is_bf16, now);
            write_vec(out, row * channels + c, is_bf16, silu_vec(sum));
        }
}

void conv_step(const void *x, long stride, void *conv, const void *weight, const void *bias,
               void *out, const int64_t *slots, long rows, long channels, long taps, int is_bf16,
               int threads) {
    if (is_bf16) conv_rows(x, stride, conv, weight, bias, out, slots, rows, channels, taps, 1, threads);
    else conv_rows(x, stride, conv, weight, bias, out, slots, rows, channels, taps, 0, threads);
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

/* Mamba-2: x [rows, heads, width] with B and C [rows, groups, size] behind it in `mixed`, dt with
 * `stride` numbers a row; y [rows, heads * width] in fp32, or null for the state alone. `scratch`
 * holds rows * 2 * groups * size floats. */
void ssd_step(const void *mixed, const void *dt, long stride, const void *dt_bias,
              const void *a_log, const void *skip, float dt_min, float dt_max, float *ssm, float *y,
              float *scratch, const int64_t *slots, long rows, long heads, long width, long groups,
              long size, int is_bf16, int threads) {
    long inner = heads * width, shared = groups * size, channels = inner + 2 * shared;
    for (long row = 0; row < rows; row++)
        for (long i = 0; i < 2 * shared; i++)
            scratch[row * 2 * shared + i] = read(mixed, row * channels + inner + i, is_bf16);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long job = 0; job < rows * heads; job++) {
        long row = job / heads, head = job % heads;
        float step = softplus(read(dt, row * stride + head, is_bf16) + read(dt_bias, head, is_bf16));
        step = fminf(fmaxf(step, dt_min), dt_max);
        float decay = expf(-step * expf(read(a_log, head, is_bf16)));
        const float *b = scratch + row * 2 * shared + head / (heads / groups) * size;
        const float *c = y ? b + shared : 0;
        for (long p = 0; p < width; p++) {
            float x = read(mixed, row * channels + head * width + p, is_bf16);
            float *h = ssm + ((slots[row] * heads + head) * width + p) * size;
            float out = line(h, b, c, size, decay, step * x);
            if (y) y[row * inner + head * width + p] = out + x * read(skip, head, is_bf16);
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

/* Mamba: x [rows, inner], dt [rows, inner] before softplus and with its bias, B and C [rows, size],
 * the last two in fp32; ssm [slots, inner, size]. out = (h . c + D x) * silu(gate), or null for the
 * state alone. */
INLINE void selective_rows(const void *x, const void *dt, const float *b, const float *c,
                           const void *a_log, const void *skip, const void *gate, long stride,
                           float *ssm, void *out, const int64_t *slots, long rows, long inner,
                           long size, int is_bf16, int threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++)
        for (long first = 0; first < inner; first += LANES) {
            vec sums = {0}, value = read_vec(x, row * inner + first, is_bf16);
            for (int l = 0; l < LANES; l++) {
                long channel = first + l;
                float step = softplus(read(dt, row * inner + channel, is_bf16));
                float *h = ssm + (slots[row] * inner + channel) * size;
                vec sum = {0};
                for (long i = 0; i < size; i += LANES) {
                    vec rate = exp_vec(read_vec(a_log, channel * size + i, is_bf16));
                    vec now = load_f32(h + i) * exp_vec(-step * rate) +
                              load_f32(b + row * size + i) * (step * value[l]);
                    memcpy(h + i, &now, sizeof now);
                    if (out) sum += now * load_f32(c + row * size + i);
                }
                sums[l] = sum_of(sum);
            }
            if (!out) continue;
            sums += value * read_vec(skip, first, is_bf16);
            sums *= silu_vec(read_vec(gate, row * stride + first, is_bf16));
            write_vec(out, row * inner + first, is_bf16, sums);
        }
}

void selective_step(const void *x, const void *dt, const float *b, const float *c,
                    const void *a_log, const void *skip, const void *gate, long stride, float *ssm,
                    void *out, const int64_t *slots, long rows, long inner, long size, int is_bf16,
                    int threads) {
    if (is_bf16)
        selective_rows(x, dt, b, c, a_log, skip, gate, stride, ssm, out, slots, rows, inner, size, 1,
                       threads);
    else
        selective_rows(x, dt, b, c, a_log, skip, gate, stride, ssm, out, slots, rows, inner, size, 0,
                       threads);
}
