"""When a token leaves and what becomes of the layers it skipped."""
