"""The Mamba-2 mixer: projection, causal convolution, SSD scan, gated norm, projection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models import cuda_kernels, kernels
from dynexit.models.cache import RecurrentState
from dynexit.models.config import Mamba2Config
from dynexit.models.conv import ConvWeights, causal_conv
from dynexit.models.norm import GatedRmsNorm
from dynexit.models.placement import Placement
from dynexit.models.projection import Projection
from dynexit.models.ssd import ssd_scan, ssd_state, ssd_step, ssd_update


class Mamba2(nn.Module):
    """Mamba-2 with the parameter names of the published checkpoints."""

    def __init__(self, config: Mamba2Config, hidden: int) -> None:
        super().__init__()
        self.config = config
        out = hidden if config.out is None else config.out
        width = config.inner + config.conv_dim + config.heads
        self.in_proj = Projection(hidden, width, bias=config.bias)
        self.conv1d = ConvWeights(config.conv_dim, config.conv_kernel, config.conv_bias)
        self.dt_bias = nn.Parameter(_initial_dt_bias(config.heads))
        self.A_log = nn.Parameter(torch.log(torch.linspace(1.0, 16.0, config.heads)))
        self.D = nn.Parameter(torch.ones(config.heads))
        self.norm = GatedRmsNorm(config.inner, config.groups, config.norm_eps)
        self.out_proj = Projection(config.inner, out, bias=config.bias)

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
        projected = self.in_proj(x)
        if state is not None and state.trail is not None:
            state.trail.write(projected[..., c.inner :], place)
        gate, mixed, dt = torch.split(projected, [c.inner, c.conv_dim, c.heads], dim=-1)
        if state is not None and self._has_kernel(x, place):
            y, n = self._step(mixed, dt, gate, state, place), self.norm
            assert y is not None
            normed = kernels.group_norm(y, n.weight, n.groups, n.eps)
        else:
            normed = self.norm(self._scan(mixed, dt, state, place), gate).to(x.dtype)
        return self.out_proj(normed)  # type: ignore[no-any-return]

    def advance(self, x: Tensor, state: RecurrentState, place: Placement) -> None:
        """Only the state: no gate, no output, no output projection."""
        inputs = self.in_proj.rows(x, self.config.inner, self.in_proj.out_features)
        if state.trail is not None:
            state.trail.write(inputs, place)
        self.replay(inputs, state, place)

    @property
    def trail_width(self) -> int:
        """Channels of ``replay``'s inputs."""
        return self.config.conv_dim + self.config.heads

    def replay(self, inputs: Tensor, state: RecurrentState, place: Placement) -> None:
        """Update the state by inputs [B, T, conv_dim + heads] of convolution and time step."""
        mixed, dt = torch.split(inputs, [self.config.conv_dim, self.config.heads], dim=-1)
        if self._has_kernel(inputs, place):
            self._step(mixed, dt, None, state, place)
            return
        inner, b, _ = self._convolve(mixed, state, place)
        step, a = self._time_step(dt, place), self._rate()
        ssm = state.of_rows(place.rows)
        if place.width == 1:
            ssd_update(ssm, inner[:, 0], step[:, 0], a, b[:, 0])
        else:
            ssm = ssd_state(inner, step, a, b, ssm)
        state.store(ssm, place.rows)

    def _has_kernel(self, x: Tensor, place: Placement) -> bool:
        """Whether these tokens, if they are few, can go through our own kernels."""
        c = self.config
        return (
            place.on_host
            and place.width <= kernels.most_tokens(x.dtype)
            and kernels.fits(c.inner // c.groups, c.state)
            and x.dtype == self.A_log.dtype
            and kernels.available(x, self.A_log)
        )

    def _step(
        self,
        mixed: Tensor,
        dt: Tensor,
        gate: Tensor | None,
        state: RecurrentState,
        place: Placement,
    ) -> Tensor | None:
        """[B, T, conv_dim], [B, T, heads] and [B, T, inner] -> gated outputs [B, T, inner] in fp32,
        none without a gate."""
        c, conv = self.config, self.conv1d
        mixed = kernels.conv_step(mixed, state.conv, conv.weight, conv.bias, place.span)
        limits, small = (c.dt_min, c.dt_max), (self.dt_bias, self.A_log, self.D)
        ssm, span = state.ssm, place.span
        return kernels.ssd_step(mixed, dt, gate, *small, limits, ssm, span, c.groups)

    def _scan(
        self, mixed: Tensor, dt: Tensor, state: RecurrentState | None, place: Placement
    ) -> Tensor:
        """Outputs [B, T, inner], in at least fp32."""
        inner, b, c = self._convolve(mixed, state, place)
        step, a = self._time_step(dt, place), self._rate()
        scan = cuda_kernels.ssd_scan if cuda_kernels.scans_ssd(mixed) else ssd_scan
        if state is None:
            y, _ = scan(inner, step, a, b, c, self.config.chunk)
        else:
            ssm = state.of_rows(place.rows)
            if place.width == 1:
                y = ssd_step(ssm, inner[:, 0], step[:, 0], a, b[:, 0], c[:, 0]).unsqueeze(1)
            else:
                y, ssm = scan(inner, step, a, b, c, self.config.chunk, ssm)
            state.store(ssm, place.rows)
        return torch.addcmul(y, inner, self.D[:, None].to(y.dtype)).flatten(-2)

    def _rate(self) -> Tensor:
        """A [heads], all negative."""
        return -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))

    def _convolve(
        self, mixed: Tensor, state: RecurrentState | None, place: Placement
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [B, T, H, P] and B, C [B, T, G, N] of the scan."""
        n = self.config
        mixed = F.silu(causal_conv(mixed, self.conv1d.weight, self.conv1d.bias, state, place))
        wide = mixed.to(torch.promote_types(mixed.dtype, torch.float32))
        rows, width, _ = wide.shape
        shared = n.groups * n.state
        inner, b, c = torch.split(wide, [n.inner, shared, shared], dim=-1)
        groups = (rows, width, n.groups, n.state)
        return inner.view(rows, width, n.heads, n.head_dim), b.view(groups), c.view(groups)

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
