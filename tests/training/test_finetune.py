"""Fine-tuning with early exit: the curriculum, the adapters, and that nothing is lost."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import make_checkpoint
from dynexit.errors import UserError
from dynexit.models import Model, load_backbone, load_model
from dynexit.models.backbone import Backbone
from dynexit.training.finetune import FinetuneRecipe, finetune
from dynexit.training.finetune import run as running
from dynexit.training.finetune.curriculum import dropout_rates, exit_weights, is_read
from dynexit.training.finetune.curve import exit_curve
from dynexit.training.finetune.lora import add_lora
from dynexit.training.finetune.objective import EarlyExitObjective
from dynexit.training.finetune.texts import Rows, load_texts
from dynexit.workers import Workers
from models import zoo
from training.tiny import EOS, Letters, backbone, tiny_model

RECIPE = FinetuneRecipe(steps=6, batch=2, length=24, rate=1e-2, held_out=3, save_every=2)
KINDS = ("mistral", "mamba", "mamba2", "bamba", "granitemoehybrid")
WORDS = ("the cat sat on the mat", "a dog ran to the park", "one two three four five six")


def texts_file(path: Path, count: int = 12) -> Path:
    lines = (f"{WORDS[n % 3]} {'x' * (n % 5)}" for n in range(count))
    path.write_text("\n".join(json.dumps({"text": line}) for line in lines) + "\n")
    return path


def some_rows(vocab: int, rows: int = 3, width: int = 10) -> Rows:
    torch.manual_seed(1)
    ids = torch.randint(vocab, (rows, width))
    learned = torch.ones(rows, width, dtype=torch.bool)
    learned[:, -1] = False
    return Rows(ids, ids.roll(-1, dims=1), learned)


def weights_of(model: Backbone) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@given(depth=st.integers(2, 80), most=st.floats(0.0, 0.9))
def test_dropout_grows_with_depth(depth: int, most: float) -> None:
    rates = dropout_rates(depth, most)
    assert rates[0] == 0.0
    assert rates[-1] == pytest.approx(most)
    assert rates == sorted(rates)
    steps = [b - a for a, b in itertools.pairwise(rates)]
    assert steps == pytest.approx(sorted(steps))  # ever faster


@given(
    depth=st.integers(2, 64),
    step=st.integers(0, 99),
    curriculum=st.sampled_from(["rotational", "gradual", "all"]),
    interval=st.one_of(st.none(), st.integers(1, 16)),
    weight=st.floats(0.0, 2.0),
)
def test_exit_weights(
    depth: int, step: int, curriculum: str, interval: int | None, weight: float
) -> None:
    recipe = FinetuneRecipe(steps=100, exit_loss=weight, curriculum=curriculum, interval=interval)
    weights = exit_weights(depth, step, recipe)
    assert sum(weights) == pytest.approx(1.0)
    assert weights[-1] == max(weights) > 0.0
    read = [w for w in weights[:-1] if w > 0]
    assert read == sorted(read)
    if weight == 0.0:
        assert read == []


def test_rotation_reads_every_layer_in_turn() -> None:
    recipe = FinetuneRecipe(interval=3)
    for layer in range(8):
        assert sum(is_read(layer, 9, step, recipe) for step in range(30)) == 10
    assert all(is_read(8, 9, step, recipe) for step in range(30))


def test_gradual_begins_at_the_end() -> None:
    recipe = FinetuneRecipe(steps=100, curriculum="gradual")
    counts = [sum(is_read(layer, 8, step, recipe) for layer in range(8)) for step in range(100)]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[50] == 8
    assert is_read(6, 8, 20, recipe)
    assert not is_read(0, 8, 20, recipe)


def test_chosen_layers_are_read_in_turn_and_no_others() -> None:
    recipe = FinetuneRecipe(steps=100, layers=(6, 2, 4, 6), interval=2)
    read = [[layer + 1 for layer in range(8) if is_read(layer, 8, s, recipe)] for s in range(2)]
    assert read == [[2, 6, 8], [4, 8]]
    gradual = replace(recipe, curriculum="gradual")
    read = [
        [layer + 1 for layer in range(8) if is_read(layer, 8, step, gradual)]
        for step in (0, 13, 26, 38, 99)
    ]
    assert read == [[8], [6, 8], [4, 6, 8], [2, 4, 6, 8], [2, 4, 6, 8]]
    everything = replace(recipe, layers=tuple(range(1, 8)), interval=3)
    for step in range(6):  # the first layer has no weight, and so all of them are as None is
        assert exit_weights(8, step, everything) == exit_weights(
            8, step, replace(everything, layers=None)
        )


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ((4,), "exit layer 4 is outside the model"),
        ((1, 2), "layers has 1"),
        ((), "exit layer list"),
    ],
)
def test_layers_that_cannot_be_read(layers: tuple[int, ...], told: str, tmp_path: Path) -> None:
    model = load_model(str(make_checkpoint(tmp_path / "model", "mamba2")))
    data = texts_file(tmp_path / "texts.jsonl")
    with pytest.raises(UserError, match=told):
        finetune(model, replace(RECIPE, layers=layers), tmp_path / "out", data)
    assert not (tmp_path / "out.work").exists()


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_without_exits_and_dropout_it_is_the_ordinary_loss(kind: str) -> None:
    model = backbone(kind)
    rows = some_rows(model.config.vocab)
    plain = EarlyExitObjective(model, replace(RECIPE, layer_dropout=0.0, exit_loss=0.0))
    logits = model(rows.ids)[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, rows.ids[:, 1:].flatten())
    torch.testing.assert_close(plain(rows, 0), expected, rtol=0.02, atol=0.02)  # bf16


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_a_dropped_layer_is_the_identity(kind: str) -> None:
    """With all later layers dropped for all rows, their weights have no gradient."""
    model = backbone(kind).requires_grad_(True)
    objective = EarlyExitObjective(model, replace(RECIPE, exit_loss=0.0))
    objective._rates = [0.0, 1.0, 1.0, 1.0]
    objective(some_rows(model.config.vocab), 0).backward()
    assert all(p.grad is None for p in model.layers[1:].parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.layers[0].parameters())


def test_rows_drop_layers_each_for_itself() -> None:
    """One row's loss does not depend on what its neighbours skip."""
    model = backbone("mistral")
    rows = some_rows(model.config.vocab, rows=40)
    objective = EarlyExitObjective(model, replace(RECIPE, layer_dropout=0.5))
    hidden = model.embed(rows.ids)
    out = objective._layer(3, hidden, random.Random("a"))
    full = objective._run(hidden, 3)
    kept = [bool((a == b).all()) for a, b in zip(out, full, strict=True)]
    skipped = [bool((a == b).all()) for a, b in zip(out, hidden, strict=True)]
    assert all(k != s for k, s in zip(kept, skipped, strict=True))
    assert 8 <= sum(skipped) <= 32


def test_many_positions_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynexit.training.finetune import objective as module

    model = backbone("mistral").requires_grad_(True)
    rows = some_rows(model.config.vocab, rows=4)
    whole = EarlyExitObjective(model, RECIPE)(rows, 1)
    whole.backward()
    gradient = model.embedding.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr(module, "READ_AT_ONCE", 7)
    pieces = EarlyExitObjective(model, replace(RECIPE, recompute=True))(rows, 1)
    pieces.backward()
    torch.testing.assert_close(pieces, whole, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.embedding.weight.grad, gradient, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_adapters_begin_as_nothing_and_merge_into_the_matrix(kind: str) -> None:
    model = backbone(kind)
    ids = some_rows(model.config.vocab).ids
    before = model(ids)
    trained = add_lora(model, 2, seed=0)
    assert torch.equal(model(ids), before)
    assert not any(p.requires_grad for n, p in model.named_parameters() if "lora" not in n)
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(std=0.05)
    adapted = model(ids)
    assert (adapted - before).abs().max() > 1e-3
    plain = backbone(kind)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            owner = model.get_submodule(name.rpartition(".")[0])
            if hasattr(owner, "merged") and name.endswith("weight"):
                parameter.copy_(owner.merged())
    torch.testing.assert_close(plain(ids), adapted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lora", [0, 2])
def test_the_result_is_a_checkpoint_that_has_learned(kind: str, lora: int, tmp_path: Path) -> None:
    """Of every kind of mixer, and one whose files hold two matrices in one."""
    source = zoo.make_checkpoint(kind, tmp_path / "model").directory
    data = texts_file(tmp_path / "texts.jsonl", 24)
    recipe = replace(RECIPE, lora=lora, steps=30, interval=1)
    result = finetune(model_at(source), recipe, tmp_path / "out", data)
    assert not (tmp_path / "out.work").exists()
    again = model_at(tmp_path / "out")  # is what was measured
    texts = load_texts(again, data, recipe)
    found = exit_curve(again.backbone, [texts.rows(texts.held_out)])
    for point, other in zip(found, result.after, strict=True):
        assert point.loss == pytest.approx(other.loss, rel=1e-3)
    assert result.after[-1].loss < result.before[-1].loss - 0.1
    assert result.after[0].loss < result.before[0].loss
    assert found[-1].agreement == 1.0
    names = [set(load_file(path / "model.safetensors")) for path in (source, tmp_path / "out")]
    assert names[0] == names[1]


def model_at(directory: Path) -> Model:
    """A checkpoint without a tokenizer, with letters for tokens."""
    return Model(str(directory), directory, load_backbone(directory), Letters(), (EOS,), {})


def load_file(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file as load

    return load(path)


def test_adapters_leave_the_rest_as_it_was(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "model", "mistral")
    data = texts_file(tmp_path / "texts.jsonl")
    finetune(load_model(str(source)), replace(RECIPE, lora=2), tmp_path / "out", data)
    old, new = (load_file(path / "model.safetensors") for path in (source, tmp_path / "out"))
    for name, tensor in old.items():
        changed = not torch.equal(tensor, new[name])
        assert changed == ("proj" in name), name
        assert tensor.dtype == new[name].dtype


class Stop(Exception):
    pass


@pytest.mark.parametrize("lora", [0, 2])
def test_an_interrupted_run_goes_on(
    lora: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(make_checkpoint(tmp_path / "model", "mamba2"))
    data, recipe = texts_file(tmp_path / "texts.jsonl"), replace(RECIPE, lora=lora)
    whole = finetune(load_model(source), recipe, tmp_path / "whole", data)
    step = running._step

    def stopping(*args: object) -> float:
        if args[4] == 5:
            raise Stop
        return step(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(running, "_step", stopping)
        with pytest.raises(Stop):
            finetune(load_model(source), recipe, tmp_path / "parts", data)
    assert not (tmp_path / "parts").exists()
    with pytest.raises(UserError, match=r"rate 0\.01, and this one has 0\.02"):
        finetune(load_model(source), replace(recipe, rate=0.02), tmp_path / "parts", data)
    parts = finetune(load_model(source), recipe, tmp_path / "parts", data)
    assert (parts.before, parts.after) == (whole.before, whole.after)
    old, new = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_a_finished_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given again it is not done again, and no other run takes its place."""
    source = str(make_checkpoint(tmp_path / "model", "mistral"))
    data, out = texts_file(tmp_path / "texts.jsonl"), tmp_path / "out"
    first = finetune(load_model(source), RECIPE, out, data)
    weights = (out / "model.safetensors").read_bytes()
    monkeypatch.setattr(running, "_train", None)  # would fail
    (tmp_path / "out.work").mkdir()  # killed before it could be removed
    again = finetune(load_model(source), replace(RECIPE, save_every=1), out, data)
    assert (again.before, again.after) == (first.before, first.after)
    assert again.tokens_per_second is None
    assert not (tmp_path / "out.work").exists()
    other = str(make_checkpoint(tmp_path / "other", "mistral", seed=1))
    more = texts_file(tmp_path / "more.jsonl", 13)
    for name, arguments in {
        "steps": (load_model(source), replace(RECIPE, steps=7), out, data),
        "data": (load_model(source), RECIPE, out, more),
        "weights": (load_model(other), RECIPE, out, data),
        "dtype": (load_model(source, dtype=torch.bfloat16), RECIPE, out, data),
    }.items():
        with pytest.raises(UserError, match=f"out is of a run with {name} "):
            finetune(*arguments)
    assert (out / "model.safetensors").read_bytes() == weights


def test_every_text_comes_before_any_comes_again(tmp_path: Path) -> None:
    model = load_model(str(make_checkpoint(tmp_path / "model", "mistral")))
    texts = load_texts(model, texts_file(tmp_path / "t.jsonl", 15), RECIPE)
    count = len(texts.training)
    for epoch in range(2):
        numbers = [texts._number(epoch * count + at) for at in range(count)]
        assert sorted(numbers) == list(range(count))
    shares = [texts.batch(0, 4, Workers(rank, 2)).ids for rank in range(2)]
    whole = texts.batch(0, 4).ids
    for rank, share in enumerate(shares):
        assert torch.equal(share, whole[rank::2, : share.shape[1]])


def test_of_an_answered_prompt_the_answer_is_learned() -> None:
    from dynexit.training.corpus import Sample
    from dynexit.training.finetune.texts import Texts

    model = tiny_model("mistral")
    texts = Texts(model, [], [], 32, 0)
    rows = texts.rows([Sample("abc", "de"), Sample("", "xyz"), Sample("hello")])
    learned = [
        model.tokenizer.decode(rows.following[row][rows.learned[row]].tolist()) for row in range(3)
    ]
    assert learned == ["de", "xyz", "hello"]  # and the end, which has no letter
    assert rows.learned.sum(1).tolist() == [3, 4, 6]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"layer_dropout": 1.0}, "layer_dropout is 1"),
        ({"curriculum": "linear"}, "curriculum 'linear' is not known"),
        ({"rate": 2.0}, "rate is 2"),
        ({"exit_loss": -1.0}, "exit_loss is -1"),
        ({"interval": 0}, "interval is 0"),
    ],
)
def test_mistakes_in_the_recipe(change: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        replace(RECIPE, **change)  # type: ignore[arg-type]


def test_too_few_texts(tmp_path: Path) -> None:
    model = load_model(str(make_checkpoint(tmp_path / "model", "mistral")))
    data = texts_file(tmp_path / "t.jsonl", 4)
    with pytest.raises(UserError, match="4 texts are too few for 3 held-out ones and a batch of 2"):
        finetune(model, RECIPE, tmp_path / "out", data)
    with pytest.raises(UserError, match="no texts of its own; give a file with --data"):
        finetune(model, RECIPE, tmp_path / "out")


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    model = load_model(str(make_checkpoint(tmp_path / "model", "mistral")))
    model.backbone.layers[0].mlp_norm.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="layer 1: the loss on held-out texts is nan"):
        finetune(model, RECIPE, tmp_path / "out", texts_file(tmp_path / "t.jsonl"))
    assert not (tmp_path / "out").exists()
