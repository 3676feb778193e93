"""The matrices of a layer as (rows, columns): what nearly all operations and bytes belong to."""

from __future__ import annotations

from collections.abc import Sequence

from dynexit.models.config import (
    AttentionConfig,
    BackboneConfig,
    Mamba2Config,
    MambaConfig,
    MixerConfig,
    MlpConfig,
)

Matrices = list[tuple[int, int]]


def mixer_matrices(mixer: MixerConfig, hidden: int) -> Matrices:
    """Those of a whole mixer, each used for one multiply-add a token and weight."""
    if isinstance(mixer, AttentionConfig):
        wide, narrow = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
        return [(wide, hidden), (narrow, hidden), (narrow, hidden), (hidden, wide)]
    output = (mixer_width(mixer, hidden), mixer.inner)
    if isinstance(mixer, Mamba2Config):
        return [(mixer.inner + mixer.conv_dim + mixer.heads, hidden), output]
    return [(2 * mixer.inner, hidden), *_selection(mixer), output]


def advance_matrices(mixer: MixerConfig, hidden: int) -> Matrices:
    """What of them the state needs: no query, no gate, no output."""
    if isinstance(mixer, AttentionConfig):
        return [(mixer.kv_heads * mixer.head_dim, hidden)] * 2
    if isinstance(mixer, Mamba2Config):
        return [(mixer.conv_dim + mixer.heads, hidden)]
    return [(mixer.inner, hidden), *_selection(mixer)]


def mlp_matrices(mlp: MlpConfig, hidden: int) -> Matrices:
    """Those of a feed-forward block."""
    return [(mlp.intermediate, hidden)] * (2 if mlp.gated else 1) + [(hidden, mlp.intermediate)]


def mixer_width(mixer: MambaConfig | Mamba2Config, hidden: int) -> int:
    """Outputs of a state-space mixer."""
    return mixer.out if isinstance(mixer, Mamba2Config) and mixer.out is not None else hidden


def weights(matrices: Sequence[tuple[int, int]]) -> int:
    """How many weights they have."""
    return sum(rows * columns for rows, columns in matrices)


def stored_bytes(
    config: BackboneConfig, matrices: Sequence[tuple[int, int]], dtype_bytes: int
) -> int:
    """Bytes read to apply them: quantised where ``config`` says so and their shape allows it,
    otherwise ``dtype_bytes`` a weight."""
    total = 0
    for rows, columns in matrices:
        quantization = config.quantization
        packed = None if quantization is None else quantization.matrix_bytes(rows, columns)
        total += rows * columns * dtype_bytes if packed is None else packed
    return total


def _selection(mixer: MambaConfig) -> Matrices:
    """From the inner channels to the time step, B and C, and from the time step's few to all."""
    return [(mixer.dt_rank + 2 * mixer.state, mixer.inner), (mixer.inner, mixer.dt_rank)]
