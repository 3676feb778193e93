"""One decoder language model of any family, open at every layer boundary."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models import kernels
from dynexit.models.attention import Attention
from dynexit.models.block import Block
from dynexit.models.cache import AttentionState, Cache, RecurrentState
from dynexit.models.config import BackboneConfig
from dynexit.models.cost import layer_parameters
from dynexit.models.mamba import Mamba
from dynexit.models.mamba2 import Mamba2
from dynexit.models.norm import RmsNorm
from dynexit.models.padding import Padding
from dynexit.models.pieces import Pieces
from dynexit.models.placement import Placement
from dynexit.models.projection import Projection, apply
from dynexit.models.rope import RopeTable
from dynexit.models.trail import Trail

STATE_BUDGET = 2 << 30  # bytes
_PIECEWISE = 8 << 20
"""Bytes of a layer's weights that may be read, each piece of a prompt anew, before PyTorch's many
operations on the whole prompt take less time."""
_FEW_PIECES = 2
"""A matrix unit takes so many in less time in any layer, and any number in recurrent ones."""


class Backbone(nn.Module):
    """Embedding, layers, final norm and output projection.

    Layers count from 1 in every report; ``run(..., start, stop)`` runs layers start+1 to stop.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        # normal numbers without storage would import PyTorch's compiler, which takes seconds
        weight = torch.empty(config.vocab, config.hidden).uniform_(-1.0, 1.0)
        self.embedding: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
            weight, freeze=False
        )
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.depth))
        self.norm = RmsNorm(config.hidden, config.norm_eps)
        self.head = None if config.tied else Projection(config.hidden, config.vocab, bias=False)
        self._share_rope_tables()

    @property
    def depth(self) -> int:
        return self.config.depth

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """An empty cache for ``rows`` sequences of at most ``capacity`` tokens."""
        states = [b.new_state(rows, capacity, self.dtype, self.device) for b in self.blocks()]
        return Cache(states, rows, capacity)

    def leave_trails(self, cache: Cache, tokens: int) -> int:
        """Let the recurrent states of ``cache`` go back over at most ``tokens`` tokens (see
        ``replay``); gives the bytes that this takes."""
        held = 0
        for block, state in zip(self.blocks(), cache.states, strict=True):
            if isinstance(state, RecurrentState):
                assert isinstance(block.mixer, (Mamba, Mamba2))
                state.trail = Trail(state, tokens, block.mixer.trail_width)
                held += state.trail.nbytes()
        return held

    def rows_within(self, capacity: int, budget: int = STATE_BUDGET) -> int:
        """How many sequences of ``capacity`` tokens have states of at most ``budget`` bytes; at
        least 1. Where many are decoded at once, it is states and not weights that fill memory."""
        place = torch.device("meta")
        states = [b.new_state(1, capacity, self.dtype, place) for b in self.blocks()]
        return max(1, budget // max(1, Cache(states, 1, capacity).nbytes()))

    def _share_rope_tables(self) -> None:
        """Layers with the same rotary positions have one table, read once a call."""
        tables: list[RopeTable] = []
        for block in self.blocks():
            if isinstance(block.mixer, Attention) and block.mixer.rope is not None:
                own = block.mixer.rope
                shared = next((table for table in tables if table.rope == own.rope), own)
                block.mixer.rope = shared
                tables.append(shared)

    def blocks(self) -> list[Block]:
        return list(self.layers)  # type: ignore[arg-type]

    def place(
        self,
        starts: Sequence[int],
        lengths: Sequence[int],
        rows: Sequence[int] | None = None,
    ) -> Placement:
        """Where the tokens of a call sit; see ``Placement``."""
        return Placement(starts, lengths, rows, self.device)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [B, T] -> hidden states [B, T, hidden]."""
        hidden = F.embedding(ids, self.embedding.weight)
        if self.config.embedding_multiplier != 1.0:
            hidden = hidden * self.config.embedding_multiplier
        wide = torch.promote_types(hidden.dtype, torch.float32)
        return hidden.to(wide) if self.config.residual_in_fp32 else hidden

    def run(
        self, hidden: Tensor, cache: Cache | None, start: int, stop: int, place: Placement
    ) -> Tensor:
        """Run layers ``start`` < l <= ``stop`` on [B, T, hidden], updating their states."""
        pieces = None if cache is None else self._pieces(hidden, cache, start, stop, place)
        parts = [hidden] if pieces is None else pieces.split(hidden)
        places = [place] if pieces is None else pieces.places
        for index in range(start, stop):
            state, layer = None if cache is None else cache.states[index], self.layers[index]
            parts = [layer(part, state, at) for part, at in zip(parts, places, strict=True)]
        return parts[0] if pieces is None else pieces.join(parts)

    def _pieces(
        self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement
    ) -> Pieces | None:
        """The pieces in which small layers take these tokens, as calls of our own kernels, in less
        time than all of them at once; None where there is no such way."""
        if not place.on_host or hidden.device.type != "cpu" or start == stop:
            return None
        tokens = sum(place.lengths)
        for most in dict.fromkeys((kernels.most_tokens(self.dtype), kernels.MOST_TOKENS)):
            count = -(-tokens // most)
            if place.batch * place.width <= most:
                return None
            attends = any(isinstance(state, AttentionState) for state in cache.states[start:stop])
            by_tiles = most > kernels.MOST_TOKENS and (count <= _FEW_PIECES or not attends)
            if count > 1 and not by_tiles and count * self._layer_bytes > _PIECEWISE:
                continue
            pieces = Pieces.of(place, most)
            if attends and not all(place.is_short for place in pieces.places):
                continue
            if self._take(pieces, hidden, cache, range(start, stop)):
                return pieces
        return None

    def _take(self, pieces: Pieces, hidden: Tensor, cache: Cache, layers: range) -> bool:
        """Whether all of these layers take each piece in one call."""
        first = pieces.places[0]
        part = hidden.reshape(1, -1, hidden.shape[-1])[:, : first.span.tokens]
        blocks = self.blocks()
        return all(blocks[i].is_one_call(part, cache.states[i], first) for i in layers)

    @functools.cached_property
    def _layer_bytes(self) -> int:
        """Bytes of the largest layer's weights."""
        layers = range(self.depth)
        return max(layer_parameters(self.config, i) for i in layers) * self.dtype.itemsize

    def advance(
        self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement
    ) -> None:
        """Update only the states of those layers, as if each had ``hidden`` for its input."""
        for index in range(start, stop):
            self.layers[index].advance(hidden, cache.states[index], place)  # type: ignore[operator]

    def replay(
        self, row: int, length: int, cache: Cache, at_once: int = kernels.MOST_TOKENS
    ) -> None:
        """Take a row of ``cache`` back to ``length`` tokens: recurrent states by their trails,
        which end. Keys and values beyond that need nothing: no later token sees them before they
        are written anew. ``at_once`` is how many tokens go through a layer in one call."""
        rows = None if cache.rows == 1 else [row]

        @functools.cache  # for all layers whose trails begin there
        def places(begin: int) -> list[Placement]:
            return self.place([begin], [length - begin], rows).pieces(at_once)

        for block, state in zip(self.blocks(), cache.states, strict=True):
            if isinstance(state, RecurrentState) and state.trail is not None:
                inputs = state.trail.back(row, length, state)
                parts = torch.split(inputs, at_once, dim=1)
                for part, place in zip(parts, places(length - inputs.shape[1]), strict=False):
                    block.replay(part, state, place)

    def readout(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., hidden] of any layer -> logits [..., vocab]: norm and head."""
        normed = self.norm(hidden)
        head = self.head
        logits = apply(normed, self.embedding.weight, None) if head is None else head(normed)
        divisor = self.config.logits_divisor
        return logits if divisor == 1.0 else logits / divisor

    def forward(
        self, ids: Tensor, lengths: Sequence[int] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Logits [B, T, vocab] of whole sequences, without a cache.

        ``lengths`` tells how many tokens each right-padded row has; ``mask`` [B, T] says the same
        of any padding, left padding too. Logits at padding mean nothing.
        """
        rows, width = ids.shape
        if mask is not None:
            padding = Padding(mask)
            return padding.unpack(self(padding.pack(ids), padding.lengths))
        place = self.place([0] * rows, [width] * rows if lengths is None else lengths)
        hidden = self.run(self.embed(ids[:, : place.width]), None, 0, self.depth, place)
        return F.pad(self.readout(hidden), (0, 0, 0, width - place.width))
