"""A block's step on a few tokens as one call of our own kernels.

Between the kernels of a layer one by one lies as much time as a small layer's weights take to read.
What a call needs of the weights, their addresses and shapes, is prepared once and holds for as long
as they stay where they are. The numbers are those of the kernels one by one, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import is_
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynexit.models import kernels
from dynexit.models.cache import AttentionState, LayerState
from dynexit.models.layer_parts import LayerForm, prepare
from dynexit.models.pieces import Packed
from dynexit.models.placement import Placement

if TYPE_CHECKING:
    from dynexit.models.block import Block


class _Watch:
    """Tells whether all parts and parameters of a module, and their memory, are the same still."""

    def __init__(self, module: nn.Module) -> None:
        inner = list(module.modules())
        found = [entry for part in inner for entry in _entries(part)]
        self._holders = [holder for holder, _ in found]
        self._names = [name for _, name in found]
        self._objects = [holder[name] for holder, name in found]
        self._tensors = [x for x in self._objects if isinstance(x, Tensor)]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]

    def same(self) -> bool:
        present = map(dict.get, self._holders, self._names)
        return (
            all(map(is_, present, self._objects))
            and list(map(Tensor.data_ptr, self._tensors)) == self._addresses
        )


def _entries(module: nn.Module) -> Iterator[tuple[dict[str, object], str]]:
    """Every dictionary of a module that holds parameters or modules, with each name in it."""
    for holder in (module._modules, module._parameters):
        yield from ((holder, name) for name in holder)  # type: ignore[misc]


class Fused:
    """The prepared forms of one block: to run it, and to bring only its state up to date. They do
    not go along when the block is copied."""

    def __init__(self) -> None:
        self._watch: _Watch | None = None
        self._stream: torch.dtype | None = None
        self._forward: LayerForm | None = None
        self._advance: LayerForm | None = None

    def __deepcopy__(self, memo: object) -> Fused:
        return Fused()

    def __reduce__(self) -> tuple[type[Fused], tuple[()]]:
        return Fused, ()

    def forward(
        self, block: Block, hidden: Tensor, state: LayerState | None, place: Placement
    ) -> Tensor | None:
        """``hidden`` [B, T, hidden] after the block; None, and nothing done, where the kernels one
        by one or PyTorch must compute it."""
        if not self.can_run(block, hidden, state, place):
            return None
        assert self._forward is not None
        hidden = hidden.contiguous()
        out = torch.empty_like(hidden)
        _run(self._forward, hidden, out, state, place)
        return out

    def can_run(
        self, block: Block, hidden: Tensor, state: LayerState | None, place: Placement
    ) -> bool:
        """Whether ``forward`` would compute this."""
        if not self._prepared(block, hidden, state, place) or self._forward is None:
            return False
        if isinstance(state, AttentionState):
            fits = place.is_short
        else:  # a trail is written row by row
            fits = state is None or state.trail is None or not isinstance(place, Packed)
        return fits and _count(hidden) <= self._forward.most_tokens

    def advance(
        self, block: Block, hidden: Tensor, state: LayerState | None, place: Placement
    ) -> bool:
        """Update the state alone; False, and nothing done, where that must be done otherwise."""
        if not self._prepared(block, hidden, state, place) or self._advance is None:
            return False
        if _count(hidden) > self._advance.most_tokens:
            return False
        _run(self._advance, hidden.contiguous(), None, state, place)
        return True

    def _prepared(
        self, block: Block, hidden: Tensor, state: LayerState | None, place: Placement
    ) -> bool:
        """Whether these may be few enough tokens, on a CPU; then the forms, if there are any, are
        prepared."""
        if (state is None and block.mixer is not None) or not place.on_host:
            return False
        if not 0 < _count(hidden) <= kernels.most_tokens(torch.bfloat16):
            return False
        if not kernels.available(hidden, hidden):
            return False
        if self._watch is None or hidden.dtype != self._stream or not self._watch.same():
            self._forward = prepare(block, hidden.dtype, state_only=False)
            self._advance = prepare(block, hidden.dtype, state_only=True)
            self._watch, self._stream = _Watch(block), hidden.dtype
        return True


def _count(hidden: Tensor) -> int:
    return hidden.shape[0] * hidden.shape[1]


def _run(
    form: LayerForm,
    hidden: Tensor,
    out: Tensor | None,
    state: LayerState | None,
    place: Placement,
) -> None:
    layer, span = form.layer, place.span
    if isinstance(state, AttentionState):
        rotation = None if form.table is None else place.rotation(form.table, form.dtype)
        layer.run(hidden, out, (state.k, state.v), rotation, span)
    elif state is None:
        layer.run(hidden, out, None, None, span)
    elif state.trail is None:
        layer.run(hidden, out, (state.conv, state.ssm), None, span)
    else:
        projected = hidden.new_empty(*hidden.shape[:2], form.projected, dtype=form.dtype)
        layer.run(hidden, out, (state.conv, state.ssm), None, span, projected)
        state.trail.write(projected[..., form.first : form.last], place)
