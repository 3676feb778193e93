"""Collected states and labels against the model run by hand, and collections cut short."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from dynexit.errors import UserError
from dynexit.models import Model
from dynexit.training.collect import collect
from dynexit.training.collect_settings import CollectSettings
from dynexit.training.corpus import Sample
from dynexit.training.oracle import ranks_of
from dynexit.training.shard_work import ending
from dynexit.training.store import TRAINING, VALIDATION, Shard, Store
from training.tiny import BOS, EOS, backbone, tiny_model

LAYERS = (1, 3)
SAMPLES = [Sample("abc" * (1 + i % 5) + "xyz"[i % 3], group=i) for i in range(11)]
STOPS = ("\n", *"aeiou")
SETTINGS = CollectSettings(LAYERS, 6, STOPS, shard_tokens=70, batch_tokens=60, last=True)


def greedy_by_hand(model: Model, prompt: list[int]) -> list[int]:
    answer: list[int] = []
    while len(answer) < SETTINGS.max_new_tokens:
        answer.append(int(model.backbone(torch.tensor([prompt + answer]))[0, -1].argmax()))
        if answer[-1] == EOS or model.tokenizer.decode(answer[-1:]) in STOPS:
            break
    return answer


def check_sequence(model: Model, shard: Shard, i: int, ids: list[int], prompt: int) -> None:
    """States and ranks of sequence ``i``, which is ``ids``, against a run over the whole text."""
    at = slice(int(shard.starts[i]), int(shard.starts[i] + shard.lengths[i]))
    assert int(shard.lengths[i]) == len(ids)
    assert int(shard.prompts[i]) == prompt
    place = model.backbone.place([0], [len(ids)])
    embedded = model.backbone.embed(torch.tensor([ids]))
    oracle = model.backbone(torch.tensor([ids]))[0]
    for exit, layer in enumerate(LAYERS):
        hidden = model.backbone.run(embedded, None, 0, layer, place)
        close = {"rtol": 2e-2, "atol": 2e-2}  # of bf16
        torch.testing.assert_close(shard.hidden[exit, at].float(), hidden[0], **close)
        top = model.backbone.readout(hidden[0]).argmax(-1)
        ranks = shard.ranks[exit, at].tolist()
        assert ranks[: prompt - 1] == [255] * (prompt - 1)
        for t in range(prompt - 1, len(ids)):
            order = oracle[t].argsort(descending=True).tolist()
            assert ranks[t] == order.index(int(top[t]))


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_states_and_ranks_by_hand(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind)
    store = collect(model, SAMPLES, SETTINGS, tmp_path)
    assert store.shards > 2
    expected = {}
    for sample in SAMPLES:
        prompt = model.tokenizer.encode(sample.prompt)
        expected[sample.group] = (prompt + greedy_by_hand(model, prompt)[:-1], len(prompt))
    seen = []
    for index in range(store.shards):
        shard = store.shard(index)
        for i, group in enumerate(shard.groups.tolist()):
            check_sequence(model, shard, i, *expected[group])
            seen.append(group)
        assert shard.last is not None
        assert shard.last.shape == shard.hidden.shape[1:]
    assert sorted(seen) == list(range(11))
    assert seen != sorted(seen)
    assert len({len(ids) - prompt for ids, prompt in expected.values()}) > 1


def test_a_given_answer_is_followed(tmp_path: Path) -> None:
    model = tiny_model("mamba2")
    samples = [Sample("ab", "cde", 0), Sample("", "xyxy", 1), Sample("abc", None, 2)]
    store = collect(model, samples, SETTINGS, tmp_path)
    shard = store.shard(0)
    by_group = {g: i for i, g in enumerate(shard.groups.tolist())}
    ids = model.tokenizer.encode
    check_sequence(model, shard, by_group[0], ids("abcd"), 3)
    check_sequence(model, shard, by_group[1], ids("xyx"), 1)
    free = ids("abc") + greedy_by_hand(model, ids("abc"))[:-1]
    check_sequence(model, shard, by_group[2], free, 4)


def test_the_top_token_alone_has_rank_zero() -> None:
    model = backbone("mistral")
    assert model.head is not None
    model.head.weight[5] = model.head.weight[7] = 3.0 * model.head.weight[7]  # 5 and 7 always tie
    hidden = torch.randn(200, 32)
    best = model.readout(hidden).argmax(-1)
    tied = hidden[(best == 5) | (best == 7)]
    assert len(tied) > 0
    ranks, own = ranks_of(model, [tied], tied)
    assert (ranks == 0).all()
    assert torch.equal(own, model.readout(tied).argmax(-1))


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_collection_cut_short_goes_on_to_the_same_end(
    tmp_path: Path, fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("mamba2")
    whole = collect(model, SAMPLES, SETTINGS, tmp_path / "whole")
    written: list[Path] = []
    replace = os.replace

    def fail_later(source: Path, target: Path) -> None:
        written.append(target)
        if len(written) == 5:  # division and manifest, two shards, and not the third
            raise fault
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_later)
    expected = KeyboardInterrupt if isinstance(fault, KeyboardInterrupt) else UserError
    with pytest.raises(expected, match=None if expected is KeyboardInterrupt else "disk is full"):
        collect(model, SAMPLES, SETTINGS, tmp_path / "cut")
    monkeypatch.setattr(os, "replace", replace)
    (directory,) = (tmp_path / "cut").iterdir()
    names = {path.name for path in directory.iterdir()}
    shards = {"shard-00000.safetensors", "shard-00001.safetensors"}
    assert names == {"manifest.json", "division.safetensors"} | shards
    times = {name: (directory / name).stat().st_mtime_ns for name in names}
    again = collect(model, SAMPLES, SETTINGS, tmp_path / "cut")
    assert times == {name: (directory / name).stat().st_mtime_ns for name in times}
    assert again.directory.name == whole.directory.name
    for index in range(whole.shards):
        assert again.path(index).read_bytes() == whole.path(index).read_bytes()


def test_another_model_text_or_setting_is_another_store(tmp_path: Path) -> None:
    first = collect(tiny_model("mamba2"), SAMPLES, SETTINGS, tmp_path)
    others = [
        collect(tiny_model("mamba2", seed=1), SAMPLES, SETTINGS, tmp_path),
        collect(tiny_model("mamba2"), SAMPLES[:-1], SETTINGS, tmp_path),
        collect(tiny_model("mamba2"), SAMPLES, CollectSettings(LAYERS, 6), tmp_path),
    ]
    assert len({store.directory for store in [first, *others]}) == 4
    manifest = json.loads((first.directory / "manifest.json").read_text())
    assert manifest["shards"] == first.shards
    assert manifest["settings"]["layers"] == [1, 3]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return collect(tiny_model("mistral"), SAMPLES, SETTINGS, tmp_path_factory.mktemp("batches"))


@pytest.mark.parametrize("prompts", [True, False])
def test_batches_hold_every_token_once(store: Store, prompts: bool) -> None:
    states = set()
    for part in (TRAINING, VALIDATION):
        for batch in store.batches(part, 3, 40, prompts=prompts, seed=4):
            assert batch.hidden.shape[:3] == (2, *batch.valid.shape)
            assert len(batch.valid) <= 3
            assert batch.valid.numel() <= 40 or len(batch.valid) == 1
            assert (batch.judged <= batch.valid).all()
            assert prompts or torch.equal(batch.judged, batch.valid)
            for exit in range(2):
                for state, rank in zip(
                    batch.hidden[exit][batch.valid], batch.ranks[exit][batch.valid], strict=True
                ):
                    states.add((part, exit, tuple(state.tolist()), int(rank)))
    wanted = set()
    for index in range(store.shards):
        shard = store.shard(index)
        for exit in range(2):
            for t in range(shard.hidden.shape[1]):
                part = VALIDATION if shard.held_out[t] else TRAINING
                if prompts or shard.judged[t]:
                    key = tuple(shard.hidden[exit, t].tolist()), int(shard.ranks[exit, t])
                    wanted.add((part, exit, *key))
    assert states == wanted


def test_a_seed_is_an_order(store: Store) -> None:
    def order(seed: int) -> list[list[int]]:
        found = store.batches(TRAINING, 2, 99, prompts=True, seed=seed)
        return [batch.valid.sum(1).tolist() for batch in found]

    assert order(1) == order(1)
    assert any(order(1) != order(seed) for seed in range(2, 6))


def test_damaged_and_missing_shards(store: Store, tmp_path: Path) -> None:
    broken = Store(tmp_path, LAYERS, 2)
    with pytest.raises(UserError, match=r"shard-00000\.safetensors is gone"):
        broken.shard(0)
    broken.path(0).write_bytes(store.path(0).read_bytes()[:100])
    with pytest.raises(UserError, match=r"shard-00000\.safetensors is damaged"):
        broken.shard(0)


def test_stop_texts_and_end_tokens() -> None:
    model = tiny_model("mistral")
    finished = ending(model, ["\n", "ab"])
    ids = model.tokenizer.encode
    assert finished([EOS])
    assert finished(ids("\n")[1:])
    assert finished(ids("cab")[1:])
    assert not finished([BOS])
    assert not finished(ids("cb")[1:])
