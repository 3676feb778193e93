/* Sixteen numbers at a time, in GCC's vector types: AVX-512, AVX2 and NEON all come from the same
 * source. Everything is summed in fp32, whatever it is stored in. */
#ifndef DYNEXIT_VECTORS_H
#define DYNEXIT_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef uint16_t bf16;
typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));
typedef uint32_t uvec __attribute__((vector_size(64)));
typedef uint16_t hvec __attribute__((vector_size(32)));

INLINE float widen_bf16(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

/* to the nearest, ties to even, as PyTorch rounds; NaN stays NaN */
INLINE bf16 narrow_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

INLINE vec load_f32(const float *p) {
    vec out;
    memcpy(&out, p, sizeof out);
    return out;
}

INLINE vec load_bf16(const bf16 *p) {
    hvec half;
    memcpy(&half, p, sizeof half);
    return (vec)(__builtin_convertvector(half, uvec) << 16);
}

INLINE vec load_i8(const int8_t *p) {
#ifdef __AVX512F__
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
#else
    ivec wide;
    for (int i = 0; i < LANES; i++) wide[i] = p[i];
    return __builtin_convertvector(wide, vec);
#endif
}

/* the number in bits 4k to 4k + 3 of every word */
INLINE vec nibble(ivec words, int k) {
    ivec shifted = (ivec)((uvec)words >> (4 * k));
#ifdef __AVX512F__
    const vec table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (vec)_mm512_permutexvar_ps((__m512i)shifted, (__m512)table); /* reads the low 4 bits */
#else
    return __builtin_convertvector(shifted & 15, vec);
#endif
}

INLINE float sum_of(vec x) {
    float out = 0;
    for (int i = 0; i < LANES; i++) out += x[i];
    return out;
}

INLINE float read(const void *p, long i, int is_bf16) {
    return is_bf16 ? widen_bf16(((const bf16 *)p)[i]) : ((const float *)p)[i];
}

INLINE void write(void *p, long i, int is_bf16, float x) {
    if (is_bf16) ((bf16 *)p)[i] = narrow_bf16(x);
    else ((float *)p)[i] = x;
}

INLINE vec read_vec(const void *p, long i, int is_bf16) {
    return is_bf16 ? load_bf16((const bf16 *)p + i) : load_f32((const float *)p + i);
}

INLINE float silu(float x) { return x / (1 + expf(-x)); }

#endif
