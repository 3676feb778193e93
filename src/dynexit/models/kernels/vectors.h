/* As many numbers at a time as a register holds, in GCC's vector types: AVX-512, AVX2 and NEON all come
 * from the same source. Everything is summed in fp32, whatever it is stored in. A vector wider than the
 * registers would live in memory, which is ten times slower. */
#ifndef DYNEXIT_VECTORS_H
#define DYNEXIT_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

typedef uint16_t bf16;
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES)));

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
#elif defined(__AVX2__)
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
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
#if LANES == 16
    x += __builtin_shuffle(x, (ivec){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
    x += __builtin_shuffle(x, (ivec){4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11});
    x += __builtin_shuffle(x, (ivec){2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
#elif LANES == 8
    x += __builtin_shuffle(x, (ivec){4, 5, 6, 7, 0, 1, 2, 3});
    x += __builtin_shuffle(x, (ivec){2, 3, 0, 1, 6, 7, 4, 5});
#else
    x += __builtin_shuffle(x, (ivec){2, 3, 0, 1});
#endif
    return x[0] + x[1];
}

INLINE float read(const void *p, long i, int is_bf16) {
    return is_bf16 ? widen_bf16(((const bf16 *)p)[i]) : ((const float *)p)[i];
}

INLINE void write(void *p, long i, int is_bf16, float x) {
    if (is_bf16) ((bf16 *)p)[i] = narrow_bf16(x);
    else ((float *)p)[i] = x;
}

/* x + i of a type */
INLINE void *moved(const void *x, long i, int is_bf16) { return (char *)x + i * (is_bf16 ? 2 : 4); }

INLINE vec read_vec(const void *p, long i, int is_bf16) {
    return is_bf16 ? load_bf16((const bf16 *)p + i) : load_f32((const float *)p + i);
}

INLINE vec choose(ivec where, vec yes, vec no) {
    return (vec)((where & (ivec)yes) | (~where & (ivec)no));
}

/* bf16 in the upper half of every word, as narrow_bf16 rounds */
INLINE uvec rounded_words(vec x) {
    uvec bits = (uvec)x, odd = (bits >> 16) & 1;
    ivec is_nan = (ivec)(bits & 0x7fffffff) > 0x7f800000;
    return (uvec)choose(is_nan, (vec)((uvec){0} + 0x7fc00000), (vec)((bits + 0x7fff + odd) & 0xffff0000));
}

INLINE void write_vec(void *p, long i, int is_bf16, vec x) {
    if (is_bf16) {
        hvec half = __builtin_convertvector(rounded_words(x) >> 16, hvec);
        memcpy((bf16 *)p + i, &half, sizeof half);
    } else memcpy((float *)p + i, &x, sizeof x);
}

/* x rounded to bf16 and widened again, where the type is bf16 */
INLINE vec round_vec(vec x, int is_bf16) { return is_bf16 ? (vec)rounded_words(x) : x; }

/* The first n numbers of a vector, for what is no multiple of LANES. */
INLINE vec read_part(const void *p, long i, int n, int is_bf16) {
    vec out = {0};
    for (int l = 0; l < n; l++) out[l] = read(p, i + l, is_bf16);
    return out;
}

INLINE void write_part(void *p, long i, int n, int is_bf16, vec x) {
    for (int l = 0; l < n; l++) write(p, i + l, is_bf16, x[l]);
}

/* x as it is stored: a product before and a sum behind are not made one operation with one rounding,
 * so that adding at once gives what adding later does. */
INLINE float settled(float x) {
    volatile float stored = x;
    return stored;
}

/* e^x to 2e-7: x = n ln 2 + r, a polynomial of r, and n into the exponent; NaN stays NaN */
INLINE vec exp_vec(vec x) {
    vec bounded = choose(x > 88.0f, (vec){0} + 88.0f, choose(x < -87.0f, (vec){0} - 87.0f, x));
    vec shifted = bounded * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds */
    vec whole = shifted - 12582912.0f;
    vec r = bounded - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec poly = 1.9875691500e-4f * r + 1.3981999507e-3f;
    poly = poly * r + 8.3334519073e-3f;
    poly = poly * r + 4.1665795894e-2f;
    poly = poly * r + 1.6666665459e-1f;
    poly = poly * r + 5.0000001201e-1f;
    poly = poly * r * r + r + 1.0f;
    ivec power = (__builtin_convertvector(whole, ivec) + 127) << 23;
    return poly * (vec)power;
}

INLINE vec silu_vec(vec x) { return x / (1.0f + exp_vec(-x)); }

/* every other number of a and b, from the first or from the second on */
#if LANES == 16
#define EVENS {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30}
#elif LANES == 8
#define EVENS {0, 2, 4, 6, 8, 10, 12, 14}
#else
#define EVENS {0, 2, 4, 6}
#endif
INLINE vec evens(vec a, vec b) { return __builtin_shuffle(a, b, (ivec)EVENS); }
INLINE vec odds(vec a, vec b) { return __builtin_shuffle(a, b, (ivec)EVENS + 1); }

/* the same number of `stride` apart in 16 neighbours */
INLINE vec strided(const void *p, long i, long stride, int is_bf16) {
    vec out;
    for (int l = 0; l < LANES; l++) out[l] = read(p, i + l * stride, is_bf16);
    return out;
}

#endif
