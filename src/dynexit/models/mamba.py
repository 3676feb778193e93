"""The Mamba mixer (Gu and Dao 2023), with the extra norms of Falcon-Mamba and Jamba."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models import kernels
from dynexit.models.cache import RecurrentState
from dynexit.models.config import MambaConfig
from dynexit.models.conv import ConvWeights, causal_conv
from dynexit.models.norm import RmsNorm, rms
from dynexit.models.placement import Placement
from dynexit.models.projection import Projection
from dynexit.models.selective import (
    selective_scan,
    selective_state,
    selective_step,
    selective_update,
)


class Mamba(nn.Module):
    """Selective state space model: ``h = exp(dt A) h + dt B x``, ``y = C h + D x``."""

    def __init__(self, config: MambaConfig, hidden: int) -> None:
        super().__init__()
        self.config = config
        c = config
        self.in_proj = Projection(hidden, 2 * c.inner, bias=c.bias)
        self.conv1d = ConvWeights(c.inner, c.conv_kernel, c.conv_bias)
        self.x_proj = Projection(c.inner, c.dt_rank + 2 * c.state, bias=False)
        self.dt_proj = Projection(c.dt_rank, c.inner, bias=True)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, c.state + 1)).repeat(c.inner, 1))
        self.D = nn.Parameter(torch.ones(c.inner))
        self.out_proj = Projection(c.inner, hidden, bias=c.bias)
        learned = c.bcdt_norm == "learned"
        self.dt_layernorm = RmsNorm(c.dt_rank, c.bcdt_norm_eps) if learned else None
        self.b_layernorm = RmsNorm(c.state, c.bcdt_norm_eps) if learned else None
        self.c_layernorm = RmsNorm(c.state, c.bcdt_norm_eps) if learned else None

    def new_state(
        self, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> RecurrentState:
        c = self.config
        conv = torch.zeros(rows, c.conv_kernel - 1, c.inner, dtype=dtype, device=device)
        wide = torch.promote_types(dtype, torch.float32)
        ssm = torch.zeros(rows, c.inner, c.state, dtype=wide, device=device)
        return RecurrentState(conv, ssm)

    def forward(self, x: Tensor, state: RecurrentState | None, place: Placement) -> Tensor:
        """``x`` [B, T, hidden] -> [B, T, hidden]; goes on from ``state`` and updates it."""
        mixed, gate = self.in_proj(x).chunk(2, dim=-1)
        if state is not None and state.trail is not None:
            state.trail.write(mixed, place)
        if state is not None and self._has_kernel(x, place):
            y = self._step(mixed, gate, state, place)
            return self.out_proj(y)  # type: ignore[no-any-return]
        inner = self._convolve(mixed, state, place)
        y = self._scan(inner, state, place)
        y = torch.addcmul(y, inner.to(y.dtype), self.D.to(y.dtype)) * F.silu(gate.to(y.dtype))
        return self.out_proj(y.to(x.dtype))  # type: ignore[no-any-return]

    def advance(self, x: Tensor, state: RecurrentState, place: Placement) -> None:
        """Only the state: no gate, no output projection."""
        inputs = self.in_proj.rows(x, 0, self.config.inner)
        if state.trail is not None:
            state.trail.write(inputs, place)
        self.replay(inputs, state, place)

    @property
    def trail_width(self) -> int:
        """Channels of ``replay``'s inputs."""
        return self.config.inner

    def replay(self, inputs: Tensor, state: RecurrentState, place: Placement) -> None:
        """Update the state by inputs [B, T, inner] of the convolution."""
        if self._has_kernel(inputs, place):
            self._step(inputs, None, state, place)
            return
        inner = self._convolve(inputs, state, place)
        dt, b, _ = self._select(inner, place)
        source, a, ssm = inner.to(dt.dtype), self._rate(), state.of_rows(place.rows)
        if place.width == 1:
            selective_update(ssm, source[:, 0], dt[:, 0], a, b[:, 0])
        else:
            ssm = selective_state(source, dt, a, b, ssm)
        state.store(ssm, place.rows)

    def _has_kernel(self, x: Tensor, place: Placement) -> bool:
        """Whether these tokens, if they are few, can go through our own kernels."""
        return (
            place.on_host
            and place.width <= kernels.most_tokens(x.dtype)
            and kernels.fits(self.config.inner, self.config.state)
            and x.dtype == self.A_log.dtype
            and kernels.available(x, self.A_log)
        )

    def _step(
        self, mixed: Tensor, gate: Tensor | None, state: RecurrentState, place: Placement
    ) -> Tensor | None:
        """Both [B, T, inner] -> the output [B, T, inner], none without a gate."""
        conv, span = self.conv1d, place.span
        inner = kernels.conv_step(mixed, state.conv, conv.weight, conv.bias, span)
        dt, b, c = self._selection(inner)
        b, c = b.float().contiguous(), c.float().contiguous()
        return kernels.selective_step(inner, dt, b, c, self.A_log, self.D, gate, state.ssm, span)

    def _convolve(self, mixed: Tensor, state: RecurrentState | None, place: Placement) -> Tensor:
        return F.silu(causal_conv(mixed, self.conv1d.weight, self.conv1d.bias, state, place))

    def _scan(self, inner: Tensor, state: RecurrentState | None, place: Placement) -> Tensor:
        """Outputs [B, T, inner], in at least fp32."""
        dt, b, c = self._select(inner, place)
        source, a = inner.to(dt.dtype), self._rate()
        if state is None:
            start = source.new_zeros(inner.shape[0], self.config.inner, self.config.state)
            return selective_scan(source, dt, a, b, c, start)[0]
        ssm = state.of_rows(place.rows)
        if place.width == 1:
            y = selective_step(ssm, source[:, 0], dt[:, 0], a, b[:, 0], c[:, 0]).unsqueeze(1)
        else:
            y, ssm = selective_scan(source, dt, a, b, c, ssm)
        state.store(ssm, place.rows)
        return y

    def _rate(self) -> Tensor:
        """A [inner, state], all negative."""
        return -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))

    def _select(self, inner: Tensor, place: Placement) -> tuple[Tensor, Tensor, Tensor]:
        """Time step [B, T, inner] and B, C [B, T, state], all at least fp32."""
        wide = torch.promote_types(inner.dtype, torch.float32)
        dt, b, c = self._selection(inner)
        dt = F.softplus(dt.to(wide))
        if place.padded:
            dt = dt * place.valid[..., None]
        return dt, b.to(wide), c.to(wide)

    def _selection(self, inner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The time step before its softplus [..., inner] and B, C [..., state]."""
        n = self.config
        dt, b, c = self.x_proj(inner).split([n.dt_rank, n.state, n.state], dim=-1)
        if n.bcdt_norm == "weightless":
            dt, b, c = (rms(t, None, n.bcdt_norm_eps) for t in (dt, b, c))
        elif self.dt_layernorm is not None:
            assert self.b_layernorm is not None
            assert self.c_layernorm is not None
            dt, b, c = self.dt_layernorm(dt), self.b_layernorm(b), self.c_layernorm(c)
        return self.dt_proj(dt), b, c
