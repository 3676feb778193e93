"""The Mamba judge: a Mamba-2 block whose output projection gives the exit's logit.

It reads the tokens of the text in order, those of the prompt too, and keeps a convolution and SSM
state of its own for every exit and row. After the prompt an exit's state sees only the tokens that
got as far as that exit. DYNAMAX names the block; its size is not given there, and is small here.
A step goes through our own kernels where they can be used; without them it is some thirty tensor
operations on a hundred numbers, and all that does not depend on the token is computed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.judges.trained import ClassifierJudge, ExitClassifier, Options
from dynexit.exits.judges.unit import EPS, for_unit, unit_product
from dynexit.models import kernels
from dynexit.models.cache import RecurrentState
from dynexit.models.config import Mamba2Config
from dynexit.models.kernels import Layer
from dynexit.models.layer_parts import prepare_alone
from dynexit.models.mamba2 import Mamba2
from dynexit.models.norm import RmsNorm
from dynexit.models.placement import Placement
from dynexit.models.projection import apply

_READ_AT_ONCE = 1024
"""Tokens of prompts that our own kernels take one by one; PyTorch's many small operations take
longer."""


class MambaClassifier(ExitClassifier):
    """Norm, then Mamba-2 with an output projection to one logit. A ``shift`` [..., hidden] is added
    to what comes out of the norm."""

    def __init__(self, hidden: int, config: Mamba2Config) -> None:
        super().__init__()
        self.norm = RmsNorm(hidden, EPS)
        self.block = Mamba2(config, hidden)

    def forward(
        self, hidden: Tensor, place: Placement | None = None, shift: Tensor | None = None
    ) -> Tensor:
        assert place is not None, "a recurrent judge must be told where its sequences end"
        return self.block(self._normed(hidden, shift), None, place).squeeze(-1)  # type: ignore[no-any-return]

    def advance(self, hidden: Tensor, state: RecurrentState, place: Placement) -> None:
        """See tokens [B, T, hidden] without an answer."""
        self.block.advance(self._normed(hidden, None), state, place)

    def step(
        self, hidden: Tensor, state: RecurrentState, place: Placement, shift: Tensor | None
    ) -> Tensor:
        """One token of each row, [B, hidden] -> log odds [B], as the layers of a backbone do it."""
        out: Tensor = self.block(self._normed(hidden.unsqueeze(1), shift), state, place)
        return out.flatten()

    def _normed(self, hidden: Tensor, shift: Tensor | None) -> Tensor:
        normed: Tensor = self.norm(hidden.float())
        return normed if shift is None else normed + shift

    def start_at(self, log_odds: float) -> None:
        nn.init.constant_(self.block.out_proj.bias, log_odds)

    def flops(self) -> int:
        c = self.block.config
        projections = self.block.in_proj.weight.numel() + self.block.out_proj.weight.numel()
        return 2 * projections + 2 * c.conv_kernel * c.conv_dim + 5 * c.inner * c.state


@dataclass(frozen=True)
class _Step:
    """The block for one token, with all that does not depend on the token computed once."""

    config: Mamba2Config
    in_weight: Tensor
    in_bias: Tensor
    taps: Tensor
    conv_bias: Tensor
    a: Tensor
    d: Tensor
    out_weight: Tensor
    out_bias: Tensor

    @classmethod
    def of(cls, head: MambaClassifier) -> _Step:
        block, c = head.block, head.block.config
        assert block.conv1d.bias is not None, "judges are built with biases"
        # the time step's bias goes with the projection's
        shift = F.pad(block.dt_bias, (c.inner + c.conv_dim, 0))
        return cls(
            config=c,
            in_weight=for_unit(block.in_proj.weight * head.norm.weight),
            in_bias=block.in_proj.bias + shift,
            taps=block.conv1d.weight.squeeze(1).t().contiguous(),
            conv_bias=block.conv1d.bias,
            a=-torch.exp(block.A_log),
            d=block.D.repeat_interleave(c.head_dim),
            out_weight=for_unit(block.out_proj.weight * block.norm.weight),
            out_bias=block.out_proj.bias,
        )

    def __call__(self, hidden: Tensor, conv: Tensor, ssm: Tensor) -> Tensor:
        """``hidden`` [B, hidden] -> log odds [B]; ``conv`` [B, K-1, channels] and ``ssm``
        [B, heads, P, N] are updated in place."""
        c, x = self.config, hidden.float()
        projected = unit_product(self.in_bias, apply(x, self.in_weight, None), x)
        gate, mixed, dt = torch.split(projected, [c.inner, c.conv_dim, c.heads], dim=-1)
        window = torch.cat((conv, mixed.unsqueeze(1)), dim=1)
        conv.copy_(window[:, 1:])
        mixed = F.silu((window * self.taps).sum(1).add_(self.conv_bias), inplace=True)
        inner, into, out = torch.split(mixed, [c.inner, c.state, c.state], dim=-1)
        dt = F.softplus(dt)
        added = inner.view(-1, c.heads, c.head_dim) * dt.unsqueeze(-1)
        ssm.mul_(torch.exp(dt * self.a)[:, :, None, None])
        ssm.addcmul_(added.unsqueeze(-1), into[:, None, None])
        y = torch.bmm(ssm.flatten(1, 2), out.unsqueeze(-1)).squeeze(-1)
        y = torch.addcmul(y, inner, self.d) * F.silu(gate)
        logits = unit_product(self.out_bias, F.linear(y, self.out_weight), y)
        return logits.squeeze(-1)


class BlockSteps:
    """Single steps of a classifier, prepared for its weights of now: as one call of our own kernels
    where they can be used."""

    def __init__(self, head: MambaClassifier) -> None:
        self._head = head
        self._step = _Step.of(head)
        self._shift: Tensor | None = None
        self._in_bias: Tensor = head.block.in_proj.bias
        self._layers: dict[torch.dtype, Layer | None] = {}
        self._whole = _one_each(1)

    def shifted(self, shift: Tensor) -> BlockSteps:
        """The same with ``shift`` [hidden] added to what comes out of the norm."""
        steps = copy(self)
        added = self._head.block.in_proj.weight @ shift
        steps._step = replace(self._step, in_bias=self._step.in_bias + added)
        steps._shift, steps._in_bias, steps._layers = shift, self._in_bias + added, {}
        return steps

    def new_state(self, rows: int) -> tuple[Tensor, Tensor]:
        """Convolution and SSM state before a first token: zeros, rows first."""
        like = self._head.block.in_proj.weight
        fresh = self._head.block.new_state(rows, 0, like.dtype, like.device)
        return fresh.conv, fresh.ssm

    def __call__(self, hidden: Tensor, conv: Tensor, ssm: Tensor, rows: Tensor | None) -> Tensor:
        """``hidden`` [B, hidden] -> log odds [B]; the states' ``rows`` (None: all) move on."""
        layer = self._layer(hidden.dtype) if kernels.usable(hidden, ssm) else None
        if layer is None and not _has_kernels(ssm):
            return self._by_pytorch(hidden, conv, ssm, rows)
        count = hidden.shape[0]
        place = self._everyone(count) if rows is None else _one_each(count, rows.tolist())
        if layer is None:
            return self._head.step(hidden, RecurrentState(conv, ssm), place, self._shift)
        logits = torch.empty(count, dtype=ssm.dtype)
        layer.run(hidden.contiguous().unsqueeze(1), logits, (conv, ssm), None, place.span)
        return logits

    def read(self, hidden: Tensor, conv: Tensor, ssm: Tensor, place: Placement) -> None:
        """See tokens of prompts [B, T, hidden] without an answer; the states of their rows move
        on."""
        few = 0 < hidden.shape[0] * hidden.shape[1] <= _READ_AT_ONCE
        usable = few and place.on_host and kernels.available(hidden, ssm)
        layer = self._layer(hidden.dtype) if usable else None
        if layer is None:
            self._head.advance(hidden, RecurrentState(conv, ssm), place)
            return
        unheard = torch.empty(*hidden.shape[:2], 1, dtype=ssm.dtype)
        layer.run(hidden.contiguous(), unheard, (conv, ssm), None, place.span)

    def _layer(self, dtype: torch.dtype) -> Layer | None:
        """Norm and block for hidden states of a type, made once."""
        if dtype not in self._layers:
            head = self._head
            self._layers[dtype] = prepare_alone(head.norm, head.block, self._in_bias, dtype)
        return self._layers[dtype]

    def _by_pytorch(self, hidden: Tensor, conv: Tensor, ssm: Tensor, rows: Tensor | None) -> Tensor:
        if rows is None:
            return self._step(hidden, conv, ssm)
        some, own = conv[rows], ssm[rows]
        logits = self._step(hidden, some, own)
        conv[rows], ssm[rows] = some, own
        return logits

    def _everyone(self, count: int) -> Placement:
        """One token of every row; made once, as it doesn't matter to a recurrence where it is."""
        if self._whole.batch != count:
            self._whole = _one_each(count)
        return self._whole


class MambaJudge(ClassifierJudge):
    """Trained and recurrent. The options are the shape of the block at each exit."""

    kind = "mamba"
    recurrent = True

    def __init__(
        self,
        layers: Sequence[int],
        hidden: int,
        device: torch.device | str = "cpu",
        heads: int = 2,
        head_dim: int = 32,
        state: int = 16,
        conv_kernel: int = 4,
    ) -> None:
        config, options = block_shape(heads, head_dim, state, conv_kernel)
        super().__init__(layers, options, lambda: MambaClassifier(hidden, config))
        self._blocks: tuple[BlockSteps, ...] = ()
        self.to(device)

    def prepare(self) -> None:
        self._blocks = tuple(BlockSteps(head) for head in self._classifiers())

    def fresh(self, rows: int) -> JudgeState:
        """Zeros, as before a first token."""
        tensors = {}
        for exit, block in enumerate(self._blocks):
            tensors[f"conv.{exit}"], tensors[f"ssm.{exit}"] = block.new_state(rows)
        return JudgeState(tensors)

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        conv, ssm = state.tensors[f"conv.{exit}"], state.tensors[f"ssm.{exit}"]
        self._blocks[exit].read(hidden, conv, ssm, place)

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        conv, ssm = state.tensors[f"conv.{exit}"], state.tensors[f"ssm.{exit}"]
        return torch.sigmoid(self._blocks[exit](evidence.hidden, conv, ssm, rows))

    def _classifiers(self) -> tuple[MambaClassifier, ...]:
        return self._at  # type: ignore[return-value]


def block_shape(
    heads: int, head_dim: int, state: int, conv_kernel: int
) -> tuple[Mamba2Config, Options]:
    """A judge's block of that shape, and the shape as an exit set keeps it."""
    options = {"heads": heads, "head_dim": head_dim, "state": state, "conv_kernel": conv_kernel}
    config = Mamba2Config(heads, head_dim, state, 1, conv_kernel, bias=True, norm_eps=EPS, out=1)
    return config, options


def _has_kernels(ssm: Tensor) -> bool:
    """Whether a step can go through our own kernels."""
    heads, width, size = ssm.shape[1:]
    return kernels.fits(heads * width, size) and kernels.available(ssm, ssm)


def _one_each(count: int, rows: list[int] | None = None) -> Placement:
    return Placement([0] * count, [1] * count, rows)
