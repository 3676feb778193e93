/* Products of int8 and int4 with x in bf16 by whole numbers; see integers.c. */
#ifndef DYNEXIT_INTEGERS_H
#define DYNEXIT_INTEGERS_H

#include "matrix.h"

/* Whether this product is one. */
int is_whole(const Product *p);

/* Columns `from` to `to` of x, whole runs but for the last, to p->wide, and sums of groups to p->totals. */
void pack_wholes(const Product *p, long from, long to);

/* All threads of a team, after all columns are packed: the rows of y. */
void rows_whole(const Product *p);

#endif
