"""Kernels in C for what decoding on a CPU spends its time on, compiled on first use.

PyTorch's matrix-vector product in bf16 reaches two thirds of a machine's read bandwidth and its
steps of a recurrence pass over the state five times; these reach the bandwidth and pass once. They
are used where they can be (a compiler is there, tensors are on the CPU, nothing is differentiated,
and there are only a few tokens), and PyTorch everywhere else: no result depends on them beyond
rounding. ``DYNEXIT_KERNELS=off`` in the environment turns them off.
"""

from dynexit.models.kernels.attention import attend
from dynexit.models.kernels.build import describe, library
from dynexit.models.kernels.layer import Layer
from dynexit.models.kernels.matrix import (
    MOST_TOKENS,
    Matrix,
    available,
    most_tokens,
    multiply,
    usable,
)
from dynexit.models.kernels.norm import ACTIVATIONS, activate, group_norm, rms_norm
from dynexit.models.kernels.recurrent import LANES, conv_step, fits, selective_step, ssd_step
from dynexit.models.kernels.span import Span

__all__ = [
    "ACTIVATIONS",
    "LANES",
    "MOST_TOKENS",
    "Layer",
    "Matrix",
    "Span",
    "activate",
    "attend",
    "available",
    "conv_step",
    "describe",
    "fits",
    "group_norm",
    "library",
    "most_tokens",
    "multiply",
    "rms_norm",
    "selective_step",
    "ssd_step",
    "usable",
]
