"""Every family gives the logits of transformers, however the text is cut and padded."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynexit.models import Backbone, Cache, Padding, load_backbone
from models.zoo import FAMILIES, Checkpoint, make_checkpoint, random_ids

LENGTH = 22


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0.0)


def step(backbone: Backbone, ids: Tensor, cache: Cache, starts: list[int], lengths: list[int]):
    place = backbone.place(starts, lengths)
    return backbone.readout(backbone.run(backbone.embed(ids), cache, 0, backbone.depth, place))


def in_pieces(backbone: Backbone, ids: Tensor, pieces: list[int]) -> Tensor:
    rows, width = ids.shape
    cache = backbone.new_cache(rows, width)
    bounds = itertools.pairwise(itertools.accumulate(pieces, initial=0))
    parts = [
        step(backbone, ids[:, begin:end], cache, [begin] * rows, [end - begin] * rows)
        for begin, end in bounds
    ]
    return torch.cat(parts, dim=1)


def test_at_once(checkpoint: Checkpoint, backbone: Backbone) -> None:
    ids = random_ids(2, LENGTH)
    close(backbone(ids), checkpoint.logits(ids))


def test_at_once_with_cache(checkpoint: Checkpoint, backbone: Backbone) -> None:
    ids = random_ids(2, LENGTH)
    close(in_pieces(backbone, ids, [LENGTH]), checkpoint.logits(ids))


def test_in_chunks(checkpoint: Checkpoint, backbone: Backbone) -> None:
    ids = random_ids(2, LENGTH)
    close(in_pieces(backbone, ids, [7, 1, 2, 9, 3]), checkpoint.logits(ids))


@pytest.mark.parametrize("rows", [1, 2])
def test_step_by_step(checkpoint: Checkpoint, backbone: Backbone, rows: int) -> None:
    ids = random_ids(rows, LENGTH)
    close(in_pieces(backbone, ids, [1] * LENGTH), checkpoint.logits(ids))


def test_right_padded_batch_goes_on_step_by_step(
    checkpoint: Checkpoint, backbone: Backbone
) -> None:
    ids, lengths, more = random_ids(3, LENGTH), [5, 17, 9], 4
    cache = backbone.new_cache(3, LENGTH)
    first = step(backbone, ids[:, : max(lengths)], cache, [0, 0, 0], lengths)
    expected = [checkpoint.logits(ids[b : b + 1, : n + more])[0] for b, n in enumerate(lengths)]
    for row, n in enumerate(lengths):
        close(first[row, :n], expected[row][:n])
    for k in range(more):
        starts = [n + k for n in lengths]
        column = ids[torch.arange(3), torch.tensor(starts)][:, None]
        logits = step(backbone, column, cache, starts, [1, 1, 1])
        close(logits[:, 0], torch.stack([expected[row][s] for row, s in enumerate(starts)]))


def test_ragged_chunks_go_on_from_ragged_starts(checkpoint: Checkpoint, backbone: Backbone) -> None:
    ids, first, second = random_ids(3, LENGTH), [5, 12, 9], [10, 2, 6]
    cache = backbone.new_cache(3, LENGTH)
    step(backbone, ids[:, : max(first)], cache, [0, 0, 0], first)
    piece = torch.zeros(3, max(second), dtype=torch.long)
    for row, (begin, n) in enumerate(zip(first, second, strict=True)):
        piece[row, :n] = ids[row, begin : begin + n]
    logits = step(backbone, piece, cache, first, second)
    for row, (begin, n) in enumerate(zip(first, second, strict=True)):
        expected = checkpoint.logits(ids[row : row + 1, : begin + n])[0, begin:]
        close(logits[row, :n], expected)


def test_left_padded_batch(checkpoint: Checkpoint, backbone: Backbone) -> None:
    ids, lengths, width = random_ids(3, LENGTH), [5, LENGTH, 9], LENGTH
    mask = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    logits = backbone(ids.where(mask, 0), mask=mask)
    for row, n in enumerate(lengths):
        close(logits[row, width - n :], checkpoint.logits(ids[row : row + 1, width - n :])[0])


def test_left_padded_prompt_leaves_the_state_of_each_row_alone(
    checkpoint: Checkpoint, backbone: Backbone
) -> None:
    ids, lengths = random_ids(2, 12), [5, 11]
    mask = torch.arange(11) >= 11 - torch.tensor(lengths)[:, None]
    padding = Padding(mask)
    cache = backbone.new_cache(2, 12)
    step(backbone, padding.pack(ids[:, :11]), cache, [0, 0], list(padding.lengths))
    logits = step(backbone, ids[:, 11:], cache, lengths, [1, 1])
    for row, n in enumerate(lengths):
        alone = ids[row : row + 1, 11 - n :]
        close(logits[row, 0], checkpoint.logits(alone)[0, -1])


@pytest.mark.parametrize("rows", [1, 2])
def test_greedy_generation(checkpoint: Checkpoint, backbone: Backbone, rows: int) -> None:
    prompt, new = random_ids(rows, 9, seed=3), 64
    # with its cache, transformers' own step of Mamba-2 forgets time_step_limit
    caching = checkpoint.name != "mamba2-limits"
    theirs = checkpoint.oracle.generate(
        prompt, max_new_tokens=new, do_sample=False, eos_token_id=None, use_cache=caching
    )
    cache = backbone.new_cache(rows, 9 + new)
    logits, ids = step(backbone, prompt, cache, [0] * rows, [9] * rows), prompt
    for position in range(9, 9 + new):
        following = logits[:, -1:].argmax(-1)
        ids = torch.cat((ids, following), dim=1)
        logits = step(backbone, following, cache, [position] * rows, [1] * rows)
    assert ids.tolist() == theirs.tolist()


def test_dynamic_rope_beyond_the_trained_context(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("llama-dynamic", tmp_path)
    ids = random_ids(1, 70)
    close(load_backbone(tmp_path)(ids), checkpoint.logits(ids))


@pytest.mark.parametrize("name", FAMILIES)
def test_sharded(name: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(name, tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ids = random_ids(1, 8)
    close(load_backbone(tmp_path)(ids), checkpoint.logits(ids))
