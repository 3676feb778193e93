/* Where the tokens of a call are: of each row its place in the states, the position of its first token
 * and how many of its `tokens` are real. */
#ifndef DYNEXIT_SPAN_H
#define DYNEXIT_SPAN_H

#include <stdint.h>

typedef struct {
    const int64_t *slots, *starts, *lengths; /* [rows] */
    long rows, tokens;
} Span;

#endif
