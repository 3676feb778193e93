"""Decoding: steps, sampling, text, and what it all cost."""
