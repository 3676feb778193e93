"""The Mamba-2 mixer: projection, causal convolution, SSD scan, gated norm, projection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models.cache import RecurrentState
from dynexit.models.config import Mamba2Config
from dynexit.models.conv import causal_conv
from dynexit.models.norm import GatedRmsNorm
from dynexit.models.placement import Placement
from dynexit.models.ssd import ssd_scan, ssd_step, ssd_update


class ConvWeights(nn.Module):
    """Depthwise taps [channels, 1, kernel] under the names a checkpoint uses."""

    def __init__(self, channels: int, kernel: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, kernel) / kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None


class Mamba2(nn.Module):
    """Mamba-2 with the parameter names of the published checkpoints."""

    def __init__(self, config: Mamba2Config, hidden: int) -> None:
        super().__init__()
        self.config = config
        out = hidden if config.out is None else config.out
        width = config.inner + config.conv_dim + config.heads
        self.in_proj = nn.Linear(hidden, width, bias=config.bias)
        self.conv1d = ConvWeights(config.conv_dim, config.conv_kernel, config.conv_bias)
        self.dt_bias = nn.Parameter(_initial_dt_bias(config.heads))
        self.A_log = nn.Parameter(torch.log(torch.linspace(1.0, 16.0, config.heads)))
        self.D = nn.Parameter(torch.ones(config.heads))
        self.norm = GatedRmsNorm(config.inner, config.groups, config.norm_eps)
        self.out_proj = nn.Linear(config.inner, out, bias=config.bias)

    def new_state(
        self, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> RecurrentState:
        c = self.config
        conv = torch.zeros(rows, c.conv_kernel - 1, c.conv_dim, dtype=dtype, device=device)
        wide = torch.promote_types(dtype, torch.float32)
        ssm = torch.zeros(rows, c.heads, c.head_dim, c.state, dtype=wide, device=device)
        return RecurrentState(conv, ssm)

    def forward(self, x: Tensor, state: RecurrentState | None, place: Placement) -> Tensor:
        """``x`` [B, T, hidden] -> [B, T, out]; goes on from ``state`` and updates it."""
        c = self.config
        gate, mixed, dt = self.in_proj(x).split([c.inner, c.conv_dim, c.heads], dim=-1)
        y = self._scan(mixed, dt, state, place)
        return self.out_proj(self.norm(y, gate).to(x.dtype))  # type: ignore[no-any-return]

    def advance(self, x: Tensor, state: RecurrentState, place: Placement) -> None:
        """Only the state: no gate, no output, no output projection."""
        c, start = self.config, self.config.inner
        bias = None if self.in_proj.bias is None else self.in_proj.bias[start:]
        projected = F.linear(x, self.in_proj.weight[start:], bias)
        mixed, dt = projected.split([c.conv_dim, c.heads], dim=-1)
        inner, b, _ = self._convolve(mixed, state, place)
        step = self._time_step(dt, place)
        a = -torch.exp(self.A_log.float())
        before = state.ssm if place.rows is None else state.ssm[place.rows]
        if place.width == 1:
            after = ssd_update(before, inner[:, 0], step[:, 0], a, b[:, 0])
        else:
            _, after = ssd_scan(inner, step, a, b, torch.zeros_like(b), c.chunk, before)
        _store(state, after, place)

    def _scan(
        self, mixed: Tensor, dt: Tensor, state: RecurrentState | None, place: Placement
    ) -> Tensor:
        inner, b, c = self._convolve(mixed, state, place)
        step = self._time_step(dt, place)
        a = -torch.exp(self.A_log.float())
        before = None
        if state is not None:
            before = state.ssm if place.rows is None else state.ssm[place.rows]
        if before is not None and place.width == 1:
            y, after = ssd_step(before, inner[:, 0], step[:, 0], a, b[:, 0], c[:, 0])
            y = y.unsqueeze(1)
        else:
            y, after = ssd_scan(inner, step, a, b, c, self.config.chunk, before)
        if state is not None:
            _store(state, after, place)
        return torch.addcmul(y, inner, self.D[:, None].to(y.dtype)).flatten(-2)

    def _convolve(
        self, mixed: Tensor, state: RecurrentState | None, place: Placement
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [B, T, H, P] and B, C [B, T, G, N] of the scan."""
        c = self.config
        weight = self.conv1d.weight.squeeze(1)
        mixed = F.silu(causal_conv(mixed, weight, self.conv1d.bias, state, place))
        wide = torch.promote_types(mixed.dtype, torch.float32)
        shared = c.groups * c.state
        inner, b, out = mixed.to(wide).split([c.inner, shared, shared], dim=-1)
        heads = inner.unflatten(-1, (c.heads, c.head_dim))
        return heads, b.unflatten(-1, (c.groups, c.state)), out.unflatten(-1, (c.groups, c.state))

    def _time_step(self, dt: Tensor, place: Placement) -> Tensor:
        wide = torch.promote_types(dt.dtype, torch.float32)
        step = F.softplus(dt.to(wide) + self.dt_bias.to(wide))
        if self.config.dt_min > 0.0 or self.config.dt_max != float("inf"):
            step = step.clamp(self.config.dt_min, self.config.dt_max)
        return step * place.valid[..., None] if place.padded else step


def _initial_dt_bias(heads: int) -> Tensor:
    """Inverse softplus of time steps spread evenly in log space over [0.001, 0.1]."""
    dt = torch.exp(torch.linspace(-6.9, -2.3, heads))
    return dt + torch.log(-torch.expm1(-dt))


def _store(state: RecurrentState, after: Tensor, place: Placement) -> None:
    if place.rows is None:
        state.ssm.copy_(after)
    else:
        state.ssm[place.rows] = after
