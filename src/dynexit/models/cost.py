"""What a token costs: floating point operations and bytes moved, from a backbone's shapes alone.

Counted are the multiply-adds (2 operations each) of projections, attention, convolution, and the
recurrence; not counted are norms, activations, softmax, rotations and residuals, which are less
than a percent. Bytes are those of weights and state, each read once per token (batch of one);
activations stay in the processor's caches.
"""

from __future__ import annotations

from dataclasses import dataclass

from dynexit.models.config import (
    AttentionConfig,
    BackboneConfig,
    Mamba2Config,
    MambaConfig,
    MixerConfig,
)
from dynexit.models.matrices import (
    Matrices,
    advance_matrices,
    mixer_matrices,
    mixer_width,
    mlp_matrices,
    stored_bytes,
    weights,
)

# operations per element of an SSM state: decay it, outer product, add; then 2 to read it out
_UPDATE, _OUTPUT = 3, 2
_MAMBA_DECAY = 1  # Mamba has a decay for each element of the state, Mamba-2 one for each head


@dataclass(frozen=True)
class LayerCost:
    """One token: operations, bytes of weights read, bytes of state read and written."""

    flops: int = 0
    weight_bytes: int = 0
    state_bytes: int = 0

    @property
    def bytes(self) -> int:
        """All bytes moved."""
        return self.weight_bytes + self.state_bytes

    def __add__(self, other: LayerCost) -> LayerCost:
        return LayerCost(
            self.flops + other.flops,
            self.weight_bytes + other.weight_bytes,
            self.state_bytes + other.state_bytes,
        )


def layer_cost(
    config: BackboneConfig, index: int, context: int, dtype_bytes: int | None = None
) -> LayerCost:
    """A whole layer (``index`` from 0) for a token with ``context`` tokens before it.

    ``dtype_bytes`` is the size of a weight that is not quantised (None: of the checkpoint's dtype).
    """
    layer, size = config.layers[index], _size(config, dtype_bytes)
    matrices = _layer_matrices(config, index)
    small = layer_parameters(config, index) - weights(matrices)
    cost = LayerCost(0, small * size + stored_bytes(config, matrices, size), 0)
    if layer.mixer is not None:
        flops = mixer_flops(layer.mixer, config.hidden, context)
        cost += LayerCost(flops, 0, _state_bytes(layer.mixer, context, size))
    if layer.mlp is not None:
        cost += LayerCost(2 * weights(mlp_matrices(layer.mlp, config.hidden)))
    return cost


def advance_cost(config: BackboneConfig, index: int, dtype_bytes: int | None = None) -> LayerCost:
    """Only the state of a layer (``Block.advance``), nothing where it has none."""
    mixer, hidden, size = config.layers[index].mixer, config.hidden, _size(config, dtype_bytes)
    if mixer is None:
        return LayerCost()
    read = advance_matrices(mixer, hidden)
    matrix_bytes = stored_bytes(config, read, size)
    if isinstance(mixer, AttentionConfig):
        small = mixer.qkv_bias * _key_value(mixer) + mixer.qk_norm * mixer.head_dim + hidden
        state = _key_value(mixer) * size
        return LayerCost(2 * weights(read), matrix_bytes + small * size, state)
    whole = weights(mixer_matrices(mixer, hidden))
    # all small parameters but D, the norm of Mamba-2, and the biases of gate and output
    unread = mixer.heads + mixer.inner if isinstance(mixer, Mamba2Config) else mixer.inner
    unread += mixer.bias * (mixer.inner + mixer_width(mixer, hidden))
    small = mixer_parameters(mixer, hidden) - whole - unread + hidden
    outputs = _OUTPUT * mixer.inner * mixer.state
    flops = mixer_flops(mixer, hidden, 0) - 2 * (whole - weights(read)) - outputs
    return LayerCost(flops, matrix_bytes + small * size, _state_bytes(mixer, 0, size))


def embedding_cost(config: BackboneConfig, dtype_bytes: int | None = None) -> LayerCost:
    """The embedding of one token: a row of the table."""
    return LayerCost(0, config.hidden * _size(config, dtype_bytes), 0)


def readout_cost(config: BackboneConfig, dtype_bytes: int | None = None) -> LayerCost:
    """Final norm and output projection, from any layer."""
    size, head = _size(config, dtype_bytes), [(config.vocab, config.hidden)]
    return LayerCost(2 * weights(head), stored_bytes(config, head, size) + config.hidden * size, 0)


def token_cost(
    config: BackboneConfig, layers_run: int, context: int, dtype_bytes: int | None = None
) -> LayerCost:
    """A token through embedding, layers 1 to ``layers_run`` and readout."""
    cost = embedding_cost(config, dtype_bytes) + readout_cost(config, dtype_bytes)
    for index in range(layers_run):
        cost += layer_cost(config, index, context, dtype_bytes)
    return cost


def parameters(config: BackboneConfig) -> int:
    """Number of parameters of the backbone; a tied output projection counts once."""
    tables = (1 if config.tied else 2) * config.vocab * config.hidden
    layers = sum(layer_parameters(config, index) for index in range(config.depth))
    return tables + layers + config.hidden


def layer_parameters(config: BackboneConfig, index: int) -> int:
    """Number of parameters of a layer (``index`` from 0), norms included."""
    layer, hidden, count = config.layers[index], config.hidden, 0
    if layer.mixer is not None:
        count += hidden + mixer_parameters(layer.mixer, hidden)
    if layer.mlp is not None:
        wide, bias = layer.mlp.intermediate, layer.mlp.bias
        biases = bias * ((2 if layer.mlp.gated else 1) * wide + hidden)
        count += hidden + weights(mlp_matrices(layer.mlp, hidden)) + biases
    return count


def mixer_parameters(mixer: MixerConfig, hidden: int) -> int:
    """Number of parameters of a mixer, without the norm before it."""
    small: int
    matrices = weights(mixer_matrices(mixer, hidden))
    if isinstance(mixer, AttentionConfig):
        outputs = mixer.heads * mixer.head_dim + _key_value(mixer)
        small = mixer.qkv_bias * outputs + mixer.output_bias * hidden
        return matrices + small + mixer.qk_norm * 2 * mixer.head_dim
    conv = _channels(mixer) * (mixer.conv_kernel + mixer.conv_bias)
    if isinstance(mixer, Mamba2Config):
        width = mixer.inner + mixer.conv_dim + mixer.heads
        small = 3 * mixer.heads + mixer.inner + mixer.bias * (width + mixer_width(mixer, hidden))
        return matrices + conv + small
    small = mixer.inner * (mixer.state + 2) + mixer.bias * (2 * mixer.inner + hidden)
    if mixer.bcdt_norm == "learned":
        small += mixer.dt_rank + 2 * mixer.state
    return matrices + conv + small


def mixer_flops(mixer: MixerConfig, hidden: int, context: int) -> int:
    """Operations of a mixer for a token with ``context`` tokens before it."""
    flops = 2 * weights(mixer_matrices(mixer, hidden))
    if isinstance(mixer, AttentionConfig):
        return flops + 4 * mixer.heads * mixer.head_dim * _span(mixer, context)
    flops += 2 * _channels(mixer) * mixer.conv_kernel
    each = _UPDATE + _OUTPUT + (_MAMBA_DECAY if isinstance(mixer, MambaConfig) else 0)
    return flops + each * mixer.inner * mixer.state


def _layer_matrices(config: BackboneConfig, index: int) -> Matrices:
    layer = config.layers[index]
    mixer = [] if layer.mixer is None else mixer_matrices(layer.mixer, config.hidden)
    return mixer + ([] if layer.mlp is None else mlp_matrices(layer.mlp, config.hidden))


def _state_bytes(mixer: MixerConfig, context: int, size: int) -> int:
    """Keys and values of the span read and one written; recurrent state read and written."""
    if isinstance(mixer, AttentionConfig):
        return _key_value(mixer) * (_span(mixer, context) + 1) * size
    conv = (mixer.conv_kernel - 1) * _channels(mixer) * size
    return 2 * (conv + mixer.inner * mixer.state * max(4, size))


def _key_value(mixer: AttentionConfig) -> int:
    """Elements of one token's key and value."""
    return 2 * mixer.kv_heads * mixer.head_dim


def _span(mixer: AttentionConfig, context: int) -> int:
    """Tokens attended to, the token itself among them."""
    return context + 1 if mixer.window is None else min(context + 1, mixer.window)


def _channels(mixer: MambaConfig | Mamba2Config) -> int:
    return mixer.conv_dim if isinstance(mixer, Mamba2Config) else mixer.inner


def _size(config: BackboneConfig, dtype_bytes: int | None) -> int:
    return config.dtype.itemsize if dtype_bytes is None else dtype_bytes
