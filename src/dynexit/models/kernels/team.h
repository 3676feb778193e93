/* The threads that do a layer together: each takes its share of a step, and all meet before a step that
 * reads what others have written. A single thread outside a parallel region is a team of one. */
#ifndef DYNEXIT_TEAM_H
#define DYNEXIT_TEAM_H

#include <omp.h>

#include "matrix.h"

typedef struct {
    long from, to;
} Share;

/* This thread's columns of `size`, in whole runs. The same columns of everything of that size are the
 * same thread's, so that it can go on with what it wrote without meeting the others. */
static inline Share share_of(long size) {
    long runs = (size + RUN - 1) / RUN, me = omp_get_thread_num(), all = omp_get_num_threads();
    long from = runs * me / all * RUN, to = runs * (me + 1) / all * RUN;
    return (Share){from, to < size ? to : size};
}

static inline void meet(void) {
#pragma omp barrier
}

#endif
