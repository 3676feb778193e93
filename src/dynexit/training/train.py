"""From a model to an exit set: collect, fit or read translators if wished, fit the judge, save."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from dynexit.errors import UserError
from dynexit.exits.exit_set import ExitMetrics, ExitSet, save_exit_set
from dynexit.exits.judges import TrainedJudge, build_trained
from dynexit.exits.skipped import skipped_state
from dynexit.exits.translator import Translators
from dynexit.models import Model
from dynexit.training.collect import collect
from dynexit.training.collect_settings import CollectSettings
from dynexit.training.corpus import load_samples
from dynexit.training.division import TOKENS
from dynexit.training.fit import fit
from dynexit.training.measure import settle
from dynexit.training.recipe import ExitRecipe
from dynexit.training.store import Store
from dynexit.training.translate import fit_translators, relabel
from dynexit.training.tuned_lens import read_tuned_lens
from dynexit.workers import ALONE, Workers


@dataclass(frozen=True)
class Means:
    """How the same result is come to: ``collections`` is a directory where what is collected stays
    for other judges, ``memory`` the bytes that collecting may take (None: what it takes, with the
    whole model in memory), ``workers`` who does it."""

    collections: Path | None = None
    memory: int | None = None
    workers: Workers = ALONE


def train_exits(
    model: Model,
    recipe: ExitRecipe,
    out: Path,
    data: Path | None = None,
    work: Path | None = None,
    means: Means = Means(),
) -> list[ExitMetrics]:
    """Train exits for ``model`` and save them to ``out``; metrics by exit, on validation texts.

    ``data`` is a file of prompts (None: the reference corpus, for a reference model). What is done
    so far is kept in ``work`` (by default ``out`` with ``.work`` behind it) until the set is saved,
    so that the same call goes on after an interruption. None of the ``means`` changes the result.
    """
    check(model, recipe)
    place = out.with_name(out.name + ".work") if work is None else work
    with _resumable(place):
        store = collect_store(model, recipe, means.collections or place, data, means)
        metrics = fit_exits(model, store, recipe, out, place, means.workers)
    means.workers.wait()
    if means.workers.first:
        shutil.rmtree(place, ignore_errors=True)
    return metrics


def check(model: Model, recipe: ExitRecipe) -> None:
    """Raise ``UserError`` for what in the recipe does not go with the model, before any work."""
    layers = recipe.exits(model.backbone.depth)
    with torch.device("meta"):
        hidden = model.backbone.config.hidden
        judge = build_trained(recipe.judge, layers, hidden, "meta", recipe.options)
    if judge.recurrent and recipe.disk_budget is not None and recipe.subsample == TOKENS:
        raise UserError(
            f"judge {recipe.judge!r} remembers whole texts, and --subsample tokens keeps none; "
            "give --subsample texts, or a linear or ffn judge"
        )
    if recipe.tuned_lens is not None:
        read_tuned_lens(Path(recipe.tuned_lens), layers, model.backbone.config.hidden)
    skipped_state(recipe.state).check(model.backbone.config)


def collect_store(
    model: Model,
    recipe: ExitRecipe,
    work: Path,
    data: Path | None = None,
    means: Means = Means(),
) -> Store:
    """What judges are trained on, collected under ``work``: one store serves every kind of judge,
    every ``top_k`` and every setting of the fit."""
    settings = CollectSettings(
        layers=recipe.exits(model.backbone.depth),
        max_new_tokens=recipe.max_new_tokens,
        stop=recipe.stop,
        shard_tokens=recipe.shard_tokens,
        last=recipe.translated,
        stored=recipe.stored,
        disk_budget=recipe.disk_budget,
        subsample=recipe.subsample,
        seed=recipe.seed,
    )
    samples = load_samples(model, data, recipe.prompts, recipe.seed)
    return collect(model, samples, settings, work, means.workers, means.memory)


def fit_exits(
    model: Model,
    store: Store,
    recipe: ExitRecipe,
    out: Path,
    work: Path,
    workers: Workers = ALONE,
) -> list[ExitMetrics]:
    """Fit the recipe's judge to a store and save the exit set to ``out``; metrics by exit."""
    place = work / f"fit-{_digest(store, recipe)}"
    translators = _translators(model, store, recipe, place, workers)
    if translators is not None:
        store = relabel(model.backbone, store, translators, place, workers)
    judge = _new_judge(model, store, recipe)
    fit(judge, store, recipe, place / "fit.safetensors", workers)
    thresholds, metrics = settle(judge, store, recipe.top_k, recipe.precision, workers)
    judge.requires_grad_(False)
    exits = ExitSet(judge, thresholds, recipe.state, translators, recipe.as_json(), metrics)
    if workers.first:
        save_exit_set(out, exits, model.backbone)
    return list(metrics)


def _translators(
    model: Model, store: Store, recipe: ExitRecipe, place: Path, workers: Workers
) -> Translators | None:
    if recipe.tuned_lens is not None:
        backbone = model.backbone
        lens = read_tuned_lens(Path(recipe.tuned_lens), store.layers, backbone.config.hidden)
        return lens.to(backbone.device)
    if recipe.translators:
        return fit_translators(model.backbone, store, place, recipe.seed, workers)
    return None


def _new_judge(model: Model, store: Store, recipe: ExitRecipe) -> TrainedJudge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        judge = build_trained(
            recipe.judge, store.layers, model.backbone.config.hidden, options=recipe.options
        )
    return judge.to(model.backbone.device)


def _digest(store: Store, recipe: ExitRecipe) -> str:
    """Names a fit by all that decides it."""
    key = json.dumps([store.directory.name, recipe.as_json()])
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@contextmanager
def _resumable(work: Path) -> Iterator[None]:
    """Tell a user who presses Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"interrupted; run the same command again to go on from {work}"
        )
        raise
