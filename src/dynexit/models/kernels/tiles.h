/* Products of bf16 by the processor's matrix unit (Intel's AMX), where it has one; see tiles.c. */
#ifndef DYNEXIT_TILES_H
#define DYNEXIT_TILES_H

#include "matrix.h"

/* Whether the unit is there and the system lets this process use it, which is asked for once. */
int tiles_ready(void);

/* Whether this product goes through it. */
int is_tiled(const Product *p);

/* Columns `from` to `to` of x, multiples of 32, to p->wide as the unit reads them. */
void pack_columns(const Product *p, long from, long to);

/* All threads of a team, after all columns are packed: the rows of y. */
void rows_tiled(const Product *p);

#endif
