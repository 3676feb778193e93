"""Speed and memory, suite by suite, beside the machine's own limits measured in the same run."""
