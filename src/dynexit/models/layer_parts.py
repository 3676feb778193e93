"""The parts of a block as our own kernels take a whole layer; see ``kernels/layer.h``."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dynexit.models import kernels
from dynexit.models.attention import Attention
from dynexit.models.kernels import Layer, Matrix
from dynexit.models.kernels.layer import (
    AttentionPart,
    LayerFields,
    Mamba2Part,
    MambaPart,
    MlpPart,
)
from dynexit.models.kernels.matrix import Product
from dynexit.models.mamba import Mamba
from dynexit.models.mamba2 import Mamba2
from dynexit.models.mlp import Mlp
from dynexit.models.norm import RmsNorm
from dynexit.models.rope import RopeTable

if TYPE_CHECKING:
    from dynexit.models.block import Block


@dataclass(frozen=True)
class LayerForm:
    """A prepared layer, and what a call of it is given beside hidden states and states.

    Up to ``most_tokens`` at once it is the fastest way. ``table`` has the rotary positions. A
    recurrent mixer's in-projection gives ``projected`` channels, of which a trail remembers those
    from ``first`` to ``last``.
    """

    layer: Layer
    dtype: torch.dtype
    most_tokens: int
    table: RopeTable | None = None
    projected: int = 0
    first: int = 0
    last: int = 0


class _Unfit(Exception):
    """This block has something that the whole-layer kernels don't."""


def prepare(block: Block, stream: torch.dtype, state_only: bool) -> LayerForm | None:
    """The block for hidden states in ``stream``, or what of it updates its state; None where the
    kernels one by one, or PyTorch, must compute it."""
    try:
        norm = block.mlp_norm if block.mixer_norm is None else block.mixer_norm
        _demand(norm is not None)
        assert norm is not None
        _demand(norm.weight.dtype in (stream, torch.bfloat16))
        return _Parts(norm, stream).form(block, state_only)
    except _Unfit:
        return None


def prepare_alone(
    norm: RmsNorm, mixer: Mamba2, in_bias: Tensor, stream: torch.dtype
) -> Layer | None:
    """A norm and a mixer that adds to no stream but gives what its out-projection does; ``in_bias``
    takes the place of its in-projection's own. None as for ``prepare``."""
    try:
        return _Parts(norm, stream).alone(norm, mixer, in_bias)
    except _Unfit:
        return None


class _Parts:
    """Collects the parts of one layer, and all memory that they point to."""

    def __init__(self, norm: RmsNorm, stream: torch.dtype) -> None:
        self.stream, self.width = stream, norm.weight.shape[0]
        self.eps, self.dtype = norm.eps, norm.weight.dtype
        self.held: list[object] = []
        self.widest = self.weight_bytes = 0
        self.most_tokens = kernels.most_tokens(self.dtype)

    def form(self, block: Block, state_only: bool) -> LayerForm:
        fields = LayerFields(adds=True, scale=block.scale)
        more: dict[str, Any] = {}
        if block.mixer is not None and block.mixer_norm is not None:
            fields.mixer_norm = self.address(block.mixer_norm.weight)
            name, part, more = self.mixer(block.mixer, state_only)
            setattr(fields, name, self.keep(part))
        else:
            _demand(not state_only)
        if block.mlp is not None and block.mlp_norm is not None and not state_only:
            fields.mlp_norm = self.address(block.mlp_norm.weight)
            fields.mlp = self.keep(self.mlp(block.mlp))
        return LayerForm(self.layer(fields), self.dtype, self.most_tokens, **more)

    def alone(self, norm: RmsNorm, mixer: Mamba2, in_bias: Tensor) -> Layer:
        part = self.mamba2(mixer, 0)
        part.input.bias = self.address(in_bias)
        fields = LayerFields(mixer_norm=self.address(norm.weight), mamba2=self.keep(part))
        return self.layer(fields)

    def layer(self, fields: LayerFields) -> Layer:
        fields.width, fields.widest, fields.eps = self.width, self.widest, self.eps
        fields.is_bf16 = self.dtype == torch.bfloat16
        fields.stream_is_bf16 = self.stream == torch.bfloat16
        return Layer(fields, self.held, self.weight_bytes)

    def mixer(self, mixer: object, state_only: bool) -> tuple[str, Any, dict[str, Any]]:
        if isinstance(mixer, Attention):
            return "attention", self.attention(mixer, state_only), {"table": mixer.rope}
        if isinstance(mixer, Mamba2):
            c = mixer.config
            _demand(mixer.out_proj.out_features == self.width)
            skipped = c.inner if state_only else 0
            wide = c.inner + c.conv_dim + c.heads - skipped
            more = {"projected": wide, "first": c.inner - skipped, "last": wide}
            return "mamba2", self.mamba2(mixer, skipped), more
        _demand(isinstance(mixer, Mamba))
        assert isinstance(mixer, Mamba)
        inner = mixer.config.inner
        more = {"projected": inner if state_only else 2 * inner, "last": inner}
        return "mamba", self.mamba(mixer, state_only), more

    def attention(self, m: Attention, state_only: bool) -> AttentionPart:
        c = m.config
        turned = 0 if c.rope is None else c.rope.dim
        _demand(c.head_dim % kernels.LANES == 0 and turned % 2 == 0)
        part = AttentionPart(heads=c.heads, kv_heads=c.kv_heads, size=c.head_dim, turned=turned)
        part.window, part.scale = c.window or 0, c.scale
        part.k, part.v = self.products(m.k_proj, m.v_proj)
        if not state_only:
            part.q, *_ = self.products(m.q_proj, m.k_proj, m.v_proj)
            part.o = self.to_stream(m.o_proj)
        if m.q_norm is not None and m.k_norm is not None:
            part.q_norm, part.k_norm = map(self.address, (m.q_norm.weight, m.k_norm.weight))
            part.norm_eps = m.q_norm.eps
        return part

    def mamba2(self, m: Mamba2, skipped: int) -> Mamba2Part:
        c, conv = m.config, m.conv1d
        _demand(kernels.fits(c.inner // c.groups, c.state, c.conv_dim))
        part = Mamba2Part(inner=c.inner, channels=c.conv_dim, taps=c.conv_kernel, heads=c.heads)
        part.width, part.groups, part.size = c.head_dim, c.groups, c.state
        part.dt_min, part.dt_max, part.norm_eps = c.dt_min, c.dt_max, m.norm.eps
        part.input = self.part_of(m.in_proj, skipped, m.in_proj.out_features)
        part.conv, part.conv_bias = self.address(conv.weight), self.address(conv.bias)
        part.dt_bias, part.a_log, part.skip = map(self.address, (m.dt_bias, m.A_log, m.D))
        part.norm = self.address(m.norm.weight)
        if not skipped:
            (part.out,) = self.products(m.out_proj)
        return part

    def mamba(self, m: Mamba, state_only: bool) -> MambaPart:
        c, conv = m.config, m.conv1d
        _demand(kernels.fits(c.inner, c.state) and c.bcdt_norm in (None, "learned"))
        part = MambaPart(inner=c.inner, taps=c.conv_kernel, rank=c.dt_rank, size=c.state)
        part.norm_eps = c.bcdt_norm_eps
        part.input = self.part_of(m.in_proj, 0, c.inner if state_only else 2 * c.inner)
        (part.select,), (part.dt,) = self.products(m.x_proj), self.products(m.dt_proj)
        part.conv, part.conv_bias = self.address(conv.weight), self.address(conv.bias)
        part.a_log, part.skip = self.address(m.A_log), self.address(m.D)
        norms = (m.dt_layernorm, m.b_layernorm, m.c_layernorm)
        weights = [None if norm is None else self.address(norm.weight) for norm in norms]
        part.dt_norm, part.b_norm, part.c_norm = weights
        if not state_only:
            part.out = self.to_stream(m.out_proj)
        return part

    def mlp(self, m: Mlp) -> MlpPart:
        _demand(m.activation in kernels.ACTIVATIONS)
        part = MlpPart(activation=kernels.ACTIVATIONS[m.activation])
        if m.gate_proj is None:
            (part.up,) = self.products(m.up_proj)
        else:
            part.gate, part.up = self.products(m.gate_proj, m.up_proj)
        part.down = self.to_stream(m.down_proj)
        return part

    def products(self, *projections: Any) -> list[Product]:
        """Of the same input; the kernels want them stored in the same way."""
        made = [self.part_of(p, 0, p.out_features) for p in projections]
        _demand(len({(product.kind, product.group) for product in made}) == 1)
        return made

    def to_stream(self, projection: Any) -> Product:
        _demand(projection.out_features == self.width)
        return self.products(projection)[0]

    def part_of(self, projection: Any, start: int, stop: int) -> Product:
        """Rows ``start`` to ``stop`` of a projection."""
        matrix: Matrix | None = projection.part(torch.empty(1, 1, dtype=self.dtype), start, stop)
        _demand(matrix is not None)
        assert matrix is not None
        self.held.append(matrix)
        product, columns = Product.from_buffer_copy(matrix.call), projection.in_features
        product.cols, product.is_bf16 = columns, self.dtype == torch.bfloat16
        product.group = columns // product.group if product.group else 0
        self.widest = max(self.widest, columns)
        self.weight_bytes += matrix.nbytes
        self.most_tokens = min(self.most_tokens, matrix.most_tokens)
        return product

    def address(self, weight: Tensor | None) -> int | None:
        if weight is None:
            return None
        _demand(weight.dtype == self.dtype and weight.is_contiguous())
        self.held.append(weight.detach())
        return weight.data_ptr()

    def keep(self, part: ctypes.Structure) -> int:
        self.held.append(part)
        return ctypes.addressof(part)


def _demand(fits: bool) -> None:
    if not fits:
        raise _Unfit
