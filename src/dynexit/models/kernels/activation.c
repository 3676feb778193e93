/* The activation of a feed-forward block, times its other half; rounded as PyTorch's steps round. */
#include "norm.h"
#include "team.h"
#include "vectors.h"

INLINE vec activated(vec x, int kind, int is_bf16) {
    if (kind == SILU) return round_vec(silu_vec(x), is_bf16);
    vec positive = choose(x < 0.0f, (vec){0}, x); /* NaN stays NaN */
    return kind == RELU ? positive : round_vec(positive * positive, is_bf16);
}

INLINE void columns(const void *gate, const void *up, void *y, long at, Share share, int kind,
                    int is_bf16) {
    long i = share.from;
    for (; i + LANES <= share.to; i += LANES) {
        vec out = activated(read_vec(gate, at + i, is_bf16), kind, is_bf16);
        if (up) out *= read_vec(up, at + i, is_bf16);
        write_vec(y, at + i, is_bf16, out);
    }
    int rest = (int)(share.to - i);
    if (rest <= 0) return;
    vec out = activated(read_part(gate, at + i, rest, is_bf16), kind, is_bf16);
    if (up) out *= read_part(up, at + i, rest, is_bf16);
    write_part(y, at + i, rest, is_bf16, out);
}

void activate(const void *gate, const void *up, void *y, long tokens, long size, int kind, int is_bf16) {
    Share share = share_of(size);
    if (share.from >= share.to) return;
    for (long t = 0; t < tokens; t++) {
        if (is_bf16) columns(gate, up, y, t * size, share, kind, 1);
        else columns(gate, up, y, t * size, share, kind, 0);
    }
}
