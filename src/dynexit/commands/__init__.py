"""One file per command, and the few things they share."""
