#include "vectors.h"
int recurrent_placeholder(void) { return 0; }
