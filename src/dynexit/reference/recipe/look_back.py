"""Two attention heads that look back, written into a half-trained transformer.

To find an answer in a story a transformer needs a pair of heads in different layers: one that
brings to each token the one before it, and one that looks for the place where the present token
stood before, and copies what followed (induction heads, Olsson et al. 2022). Such a pair forms
late, all at once, and needs far more text than this recipe has. As mimetic initialisation does
(Trockman and Kolter 2023), the pair is therefore written into the weights, by linear regression on
the model's own hidden states, and training goes on from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.models.attention import Attention
from dynexit.models.backbone import Backbone
from dynexit.models.block import Block
from dynexit.reference.recipe.batches import Batch

CARRY_LAYER, FIND_LAYER = 1, 3  # from 0
GROUP = 1  # the key/value head that is given up in both layers, with the query heads that share it
CODE = 28  # numbers by which a token is known to the pair: two for each slow rotary frequency
FAST, SHARPNESS = 8, 8.0  # rotary pairs that find the token before, and their size
MATCH = 2.2  # size of the codes that are compared
COPY = 40.0  # how strongly what is found is written, against the hidden states there


@dataclass(frozen=True)
class _View:
    """What the regressions look at: real tokens of a batch, and codes that tell tokens apart."""

    backbone: Backbone
    batch: Batch

    @property
    def real(self) -> Tensor:
        return self.batch.ids != 0

    def hidden(self, layers: int) -> Tensor:
        rows, width = self.batch.ids.shape
        place = self.backbone.place([0] * rows, [width] * rows)
        return self.backbone.run(self.backbone.embed(self.batch.ids), None, 0, layers, place)

    def codes(self, size: int) -> Tensor:
        """The directions in which the embeddings of the batch's tokens differ most, whitened:
        [vocab, size]."""
        embedding = self.backbone.embedding.weight
        used = embedding[torch.unique(self.batch.ids[self.real])]
        centre = used.mean(0)
        spread, axes = torch.linalg.eigh((used - centre).T @ (used - centre) / len(used))
        codes: Tensor = (embedding - centre) @ (axes[:, -size:] / spread[-size:].sqrt())
        return codes


@torch.no_grad()
def look_back_heads(backbone: Backbone, batch: Batch) -> None:
    """Write the pair of heads into ``backbone``, from its hidden states on ``batch``."""
    view = _View(backbone, batch)
    codes = view.codes(CODE)
    codes = codes / codes.norm(dim=-1, keepdim=True) * math.sqrt(CODE)
    own = codes[batch.ids]
    _carry(view, own)
    _find(view, own)


def _carry(view: _View, own: Tensor) -> None:
    """The first head: attends to the token before, and writes its code where it can be read."""
    block, real = view.backbone.blocks()[CARRY_LAYER], view.real
    attention, seen = _attention(block), _normed(block, view.hidden(CARRY_LAYER))
    # a direction that is nearly 1 for every token makes queries and keys independent of the token
    constant = _regress(seen[real], torch.ones(int(real.sum()), 1))[0]
    half = attention.config.head_dim // 2
    angles = 10000.0 ** (-torch.arange(half) / half)
    key, query = torch.zeros(2 * half), torch.zeros(2 * half)
    key[:FAST] = SHARPNESS
    query[:FAST] = SHARPNESS * torch.cos(angles[:FAST])  # turned back by one position
    query[half : half + FAST] = -SHARPNESS * torch.sin(angles[:FAST])
    value = _rows(attention, range(CODE), _regress(seen[real], own[real]))
    later = view.hidden(FIND_LAYER)[real]
    centred = later - later.mean(0)
    unused = torch.linalg.eigh(centred.T @ centred / len(centred))[1][:, :CODE]
    output = torch.zeros(len(unused), 2 * half)
    output[:, :CODE] = unused * 0.5 * later.pow(2).mean().sqrt()
    _write(attention, torch.outer(query, constant), torch.outer(key, constant), value, output)


def _find(view: _View, own: Tensor) -> None:
    """The second head: looks for places whose token before is the present one, and copies."""
    backbone, block, real = view.backbone, view.backbone.blocks()[FIND_LAYER], view.real
    attention, hidden = _attention(block), view.hidden(FIND_LAYER)
    seen = _normed(block, hidden)
    second = real.clone()
    second[:, 0] = False
    before = _regress(seen[second], own.roll(1, 1)[second])
    half = attention.config.head_dim // 2
    # slow rotary frequencies hardly turn over the length of a story
    slow = [*range(half - CODE // 2, half), *range(2 * half - CODE // 2, 2 * half)]
    key = _rows(attention, slow, before * MATCH)
    query = _rows(attention, slow, _regress(seen[real], own[real]) * MATCH)
    names = view.codes(2 * half)
    value = _regress(seen[real], names[view.batch.ids][real])
    head = backbone.embedding.weight if backbone.head is None else backbone.head.weight
    used = torch.unique(view.batch.ids[real])
    readers = head[used] * backbone.norm.weight
    readers = readers - readers.mean(0)
    readers = readers / readers.norm(dim=-1, keepdim=True)
    output = _regress(names[used], readers) * COPY * hidden[real].pow(2).mean().sqrt()
    _write(attention, query, key, value, output)


def _write(attention: Attention, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> None:
    """Give up a key/value head and its query heads, all but the last of which fall silent."""
    size, config = attention.config.head_dim, attention.config
    shared = config.heads // config.kv_heads
    kept = slice(GROUP * size, (GROUP + 1) * size)
    attention.k_proj.weight[kept], attention.v_proj.weight[kept] = key, value
    for head in range(GROUP * shared, (GROUP + 1) * shared):
        part = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[part] = query
        attention.o_proj.weight[:, part] = 0.0
    attention.o_proj.weight[:, part] = output


def _attention(block: Block) -> Attention:
    assert isinstance(block.mixer, Attention), "only attention has heads that look back"
    return block.mixer


def _normed(block: Block, hidden: Tensor) -> Tensor:
    assert block.mixer_norm is not None
    return block.mixer_norm(hidden)  # type: ignore[no-any-return]


def _rows(attention: Attention, rows: range | list[int], weights: Tensor) -> Tensor:
    """``weights`` in the given rows of a head's projection, zeros elsewhere."""
    out = torch.zeros(attention.config.head_dim, weights.shape[1])
    out[list(rows)] = weights
    return out


def _regress(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Ridge regression [outputs, inputs] from inputs [n, a] to outputs [n, b]."""
    gram = inputs.T @ inputs
    ridge = 0.01 * gram.diagonal().mean() * torch.eye(len(gram))
    weights: Tensor = torch.linalg.solve(gram + ridge, inputs.T @ outputs).T
    return weights
