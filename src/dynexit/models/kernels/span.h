/* Where the `tokens` of a call are: of each row its place in the states, the position of its first token,
 * how many there are, and the number in the call of the first. Up to the next row's first (the last of
 * `firsts` is `tokens`) may be padding. */
#ifndef DYNEXIT_SPAN_H
#define DYNEXIT_SPAN_H

#include <stdint.h>

typedef struct {
    const int64_t *slots, *starts, *lengths; /* [rows] */
    const int64_t *firsts;                   /* [rows + 1] */
    long rows, tokens;
} Span;

#endif
