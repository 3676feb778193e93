"""Causal attention with grouped heads, rotary positions, optional q/k norm and sliding window."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models import kernels
from dynexit.models.cache import AttentionState
from dynexit.models.config import AttentionConfig
from dynexit.models.norm import RmsNorm
from dynexit.models.placement import Placement
from dynexit.models.projection import Projection, together
from dynexit.models.rope import RopeTable, rotate


class Attention(nn.Module):
    """Attention over the cache (or over the call's own tokens when there is none)."""

    def __init__(self, config: AttentionConfig, hidden: int, eps: float) -> None:
        super().__init__()
        self.config = config
        wide, narrow = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = Projection(hidden, wide, bias=config.qkv_bias)
        self.k_proj = Projection(hidden, narrow, bias=config.qkv_bias)
        self.v_proj = Projection(hidden, narrow, bias=config.qkv_bias)
        self.o_proj = Projection(wide, hidden, bias=config.output_bias)
        self.q_norm = RmsNorm(config.head_dim, eps) if config.qk_norm else None
        self.k_norm = RmsNorm(config.head_dim, eps) if config.qk_norm else None
        self.rope = None if config.rope is None else RopeTable(config.rope)

    def new_state(
        self, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> AttentionState:
        c = self.config
        k = torch.zeros(rows, c.kv_heads, capacity, c.head_dim, dtype=dtype, device=device)
        return AttentionState(k, torch.zeros_like(k))

    def forward(self, x: Tensor, state: AttentionState | None, place: Placement) -> Tensor:
        """``x`` [B, T, hidden] -> [B, T, hidden]; writes keys and values into ``state``."""
        if state is not None and self._has_kernel(x, state, place):
            return self.o_proj(self._attend_by_kernel(x, state, place))  # type: ignore[no-any-return]
        q = self._heads(self.q_proj(x), self.config.heads)
        if self.q_norm is not None:
            q = self.q_norm(q)
        k, v = self._keys_values(x, place)
        q = self._rotate(q, place)
        if state is not None:
            self._write(state, k, v, place)
            k, v = self._read(state, place)
        return self.o_proj(self._attend(q, k, v, place))  # type: ignore[no-any-return]

    def advance(self, x: Tensor, state: AttentionState, place: Placement) -> None:
        """Only what later tokens need of these: their keys and values."""
        self._write(state, *self._keys_values(x, place), place)

    def _has_kernel(self, x: Tensor, state: AttentionState, place: Placement) -> bool:
        """Whether these tokens, if they are few, can go through our own kernel."""
        c = self.config
        turned = c.head_dim if c.rope is None else c.rope.dim
        return (
            place.on_host
            and place.is_short
            and c.head_dim % 16 == 0
            and turned % 2 == 0
            and state.k.dtype == x.dtype
            and (self.q_norm is None or self.q_norm.weight.dtype == x.dtype)
            and kernels.usable(x, state.k)
        )

    def _attend_by_kernel(self, x: Tensor, state: AttentionState, place: Placement) -> Tensor:
        """Rotation, cache and attention in one: [B, T, heads * head_dim]."""
        c, (rows, width, _) = self.config, x.shape
        q, k, v = (
            out.view(rows, width, -1, c.head_dim)
            for out in together(x, self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None and self.k_norm is not None:
            # for any number of heads, so that a token's numbers don't depend on how many there are
            q = kernels.rms_norm(q, self.q_norm.weight, self.q_norm.eps)
            k = kernels.rms_norm(k, self.k_norm.weight, self.k_norm.eps)
        rotation = None if self.rope is None else place.rotation(self.rope, x.dtype)
        cache = (state.k, state.v)
        return kernels.attend(q, k, v, rotation, cache, place.span, c.window, c.scale)

    def _keys_values(self, x: Tensor, place: Placement) -> tuple[Tensor, Tensor]:
        k = self._heads(self.k_proj(x), self.config.kv_heads)
        if self.k_norm is not None:
            k = self.k_norm(k)
        return self._rotate(k, place), self._heads(self.v_proj(x), self.config.kv_heads)

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        """[B, T, heads * head_dim] -> [B, heads, T, head_dim]."""
        rows, width, _ = x.shape
        if width == 1:
            return x.view(rows, heads, 1, self.config.head_dim)
        return x.view(rows, width, heads, self.config.head_dim).transpose(1, 2)

    def _rotate(self, x: Tensor, place: Placement) -> Tensor:
        return x if self.rope is None else rotate(x, *place.rotation(self.rope, x.dtype))

    def _write(self, state: AttentionState, k: Tensor, v: Tensor, place: Placement) -> None:
        if place.uniform:
            start, width = place.starts[0], place.width
            state.k.narrow(2, start, width).copy_(k)
            state.v.narrow(2, start, width).copy_(v)
            return
        if place.width == 1 and not place.padded:
            rows, positions = place.scatter
            state.k[rows, :, positions] = k[:, :, 0].to(state.k.dtype)
            state.v[rows, :, positions] = v[:, :, 0].to(state.v.dtype)
            return
        rows_of_call = range(place.batch) if place.numbers is None else place.numbers
        for b, row in enumerate(rows_of_call):
            start, length = place.starts[b], place.lengths[b]
            state.k[row, :, start : start + length] = k[b, :, :length]
            state.v[row, :, start : start + length] = v[b, :, :length]

    def _read(self, state: AttentionState, place: Placement) -> tuple[Tensor, Tensor]:
        k, v = state.k.narrow(2, 0, place.end), state.v.narrow(2, 0, place.end)
        return (k, v) if place.rows is None else (k[place.rows], v[place.rows])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, place: Placement) -> Tensor:
        """Attention [B, T, heads * head_dim] of ``q`` [B, heads, T, head_dim]."""
        c = self.config
        rows, heads, width, size = q.shape
        window = None if c.window is None or place.end <= c.window else c.window
        if place.uniform and width == 1:
            if window is not None:
                k, v = k[:, :, -window:], v[:, :, -window:]
        elif place.uniform and place.starts[0] == 0 and window is None:
            out = F.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=c.scale, enable_gqa=heads != c.kv_heads
            )
            return out.transpose(1, 2).flatten(-2)
        # heads that share keys become queries of one head: their keys are read once, not repeated
        fold = heads // c.kv_heads
        folded = q.reshape(rows, c.kv_heads, fold * width, size)
        mask = place.mask(window, fold)
        out = F.scaled_dot_product_attention(folded, k, v, attn_mask=mask, scale=c.scale)
        if width == 1:
            return out.reshape(rows, 1, heads * size)
        return out.reshape(rows, heads, width, size).transpose(1, 2).flatten(-2)
