/* Norms and activations of a few tokens, by a team; see norm.c and activation.c. */
#ifndef DYNEXIT_NORM_H
#define DYNEXIT_NORM_H

/* y[tokens, size] = weight * (x / rms(x)); x has `stride` numbers a token */
void rms_norm(const void *x, long stride, const void *weight, void *y, long tokens, long size, float eps,
              int x_is_bf16, int is_bf16);

/* x[rows, size] -> its norm, in place */
void norm_heads(void *x, const void *weight, long rows, long size, float eps, int is_bf16);

/* y[size] = the norm of x[size], by one thread */
void norm_one(const void *x, const void *weight, void *y, long size, float eps, int is_bf16);

/* y[tokens, size] in fp32 -> its norm by group of columns */
void group_norm(const float *y, const void *weight, void *out, long tokens, long size, long groups,
                float eps, int is_bf16);

enum { SILU, RELU, RELU2 };

/* y[tokens, size] = act(gate) * up, or act(gate) where up is null; y may be gate */
void activate(const void *gate, const void *up, void *y, long tokens, long size, int kind, int is_bf16);

#endif
