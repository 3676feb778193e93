"""Causal attention with grouped heads, rotary positions, optional q/k norm and sliding window."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models.cache import AttentionState
from dynexit.models.config import AttentionConfig
from dynexit.models.norm import RmsNorm
from dynexit.models.placement import Placement, RopeTable
from dynexit.models.rope import rotate


class Attention(nn.Module):
    """Attention over the cache (or over the call's own tokens when there is none)."""

    def __init__(self, config: AttentionConfig, hidden: int, eps: float) -> None:
        super().__init__()
        self.config = config
        wide, narrow = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(hidden, wide, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden, narrow, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden, narrow, bias=config.qkv_bias)
        self.o_proj = nn.Linear(wide, hidden, bias=config.output_bias)
        self.q_norm = RmsNorm(config.head_dim, eps) if config.qk_norm else None
        self.k_norm = RmsNorm(config.head_dim, eps) if config.qk_norm else None
        self._table: RopeTable | None = None

    def new_state(
        self, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> AttentionState:
        c = self.config
        k = torch.zeros(rows, c.kv_heads, capacity, c.head_dim, dtype=dtype, device=device)
        return AttentionState(k, torch.zeros_like(k))

    def forward(self, x: Tensor, state: AttentionState | None, place: Placement) -> Tensor:
        """``x`` [B, T, hidden] -> [B, T, hidden]; writes keys and values into ``state``."""
        q = self._heads(self.q_proj(x), self.config.heads)
        if self.q_norm is not None:
            q = self.q_norm(q)
        k, v = self._keys_values(x, place)
        q = self._rotate(q, place)
        if state is not None:
            self._write(state, k, v, place)
            k, v = self._read(state, place)
        out = self._attend(q, k, v, place)
        return self.o_proj(out.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]

    def advance(self, x: Tensor, state: AttentionState, place: Placement) -> None:
        """Only what later tokens need of these: their keys and values."""
        self._write(state, *self._keys_values(x, place), place)

    def _keys_values(self, x: Tensor, place: Placement) -> tuple[Tensor, Tensor]:
        k = self._heads(self.k_proj(x), self.config.kv_heads)
        if self.k_norm is not None:
            k = self.k_norm(k)
        return self._rotate(k, place), self._heads(self.v_proj(x), self.config.kv_heads)

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.config.head_dim)).transpose(1, 2)

    def _rotate(self, x: Tensor, place: Placement) -> Tensor:
        rope = self.config.rope
        if rope is None:
            return x
        if self._table is None or self._table.device != x.device or self._table.dtype != x.dtype:
            self._table = RopeTable(rope, x.dtype, x.device)
        cos, sin = place.rotation(self._table)
        return rotate(x, cos, sin)

    def _write(self, state: AttentionState, k: Tensor, v: Tensor, place: Placement) -> None:
        if place.uniform:
            at = slice(place.starts[0], place.starts[0] + place.width)
            state.k[:, :, at] = k
            state.v[:, :, at] = v
            return
        rows = range(place.batch) if place.rows is None else place.rows.tolist()
        for b, row in enumerate(rows):
            start, length = place.starts[b], place.lengths[b]
            state.k[row, :, start : start + length] = k[b, :, :length]
            state.v[row, :, start : start + length] = v[b, :, :length]

    def _read(self, state: AttentionState, place: Placement) -> tuple[Tensor, Tensor]:
        k, v = state.k[:, :, : place.end], state.v[:, :, : place.end]
        return (k, v) if place.rows is None else (k[place.rows], v[place.rows])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, place: Placement) -> Tensor:
        c = self.config
        single = place.uniform and place.width == 1
        if single and c.window is not None and k.shape[2] > c.window:
            k, v = k[:, :, -c.window :], v[:, :, -c.window :]
        fresh = place.uniform and place.starts[0] == 0 and not single
        windowless = c.window is None or place.end <= c.window
        if fresh and windowless:
            return F.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=c.scale, enable_gqa=c.heads != c.kv_heads
            )
        mask = place.mask(None if windowless else c.window)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=c.scale, enable_gqa=c.heads != c.kv_heads
        )
