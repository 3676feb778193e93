"""The judges that a sweep compares, and where they come from: fitted before, fitted now on one
collection, or without any fitting."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dynexit.errors import UserError
from dynexit.evaluation.certify import judge_digest
from dynexit.evaluation.points import Setting
from dynexit.exits.choice import FIRST_EXIT, REFERENCE, shipped_exits
from dynexit.exits.exit_set import ExitSet, load_exit_set
from dynexit.exits.judge import Judge, check_layers, default_layers
from dynexit.exits.judges import DYNAMAX_JUDGES, JUDGES, TRAINED_JUDGES, build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.exits.translator import Translators
from dynexit.models.loading import Model
from dynexit.training import ExitRecipe, collect_store, fit_exits
from dynexit.training.store import Store

KNOWN = tuple(kind for kind in JUDGES if kind != "fixed")


@dataclass(frozen=True)
class Candidate:
    """A judge with what it was trained on: labels of the ``top_k``, weights of a ``seed``."""

    judge: Judge
    top_k: int | None = None
    seed: int | None = None
    translators: Translators | None = None

    def setting(self, state: str, threshold: float) -> Setting:
        judge = self.judge
        return Setting(judge.kind, self.top_k, self.seed, judge.layers, state, threshold)

    def policy(self, state: str, threshold: float) -> ExitPolicy:
        """One threshold for all exits."""
        thresholds = (threshold,) * len(self.judge.layers)
        return ExitPolicy(
            self.judge, thresholds, skipped_state(state), translators=self.translators
        )

    @property
    def name(self) -> str:
        """Which judge of a sweep this is."""
        return self.setting("", 0.0).judge_id

    @property
    def digest(self) -> str:
        """Of its weights; empty where it has none."""
        return judge_digest(self.policy("recompute", 0.0))


@dataclass(frozen=True)
class Wanted:
    """Which judges. Empty ``judges`` are all that can be had, empty ``layers`` those of the exit
    sets, or default ones where judges are fitted. Trained kinds come from the exit sets ``exits``,
    else with ``train`` are fitted for every ``top_k`` and seed by ``recipe`` (on the prompts in
    ``data``; None: the reference corpus), else they are those shipped with a reference model."""

    judges: tuple[str, ...] = ()
    layers: tuple[tuple[int, ...], ...] = ()
    top_k: tuple[int, ...] = (1,)
    seeds: tuple[int, ...] = (0,)
    train: bool = False
    exits: tuple[Path, ...] = ()
    data: Path | None = None
    recipe: ExitRecipe = field(default_factory=lambda: ExitRecipe(prompts=600, epochs=8))


def gather(model: Model, wanted: Wanted, out: Path) -> list[Candidate]:
    """The candidates; those fitted now are kept in ``out/exits`` and not fitted again."""
    sets = [load_exit_set(path, model.backbone) for path in wanted.exits]
    kinds = _kinds(model, wanted, sets)
    depth = model.backbone.depth
    lists = list(dict.fromkeys(check_layers(layers, depth) for layers in wanted.layers))
    found = [_of_set(exits) for exits in sets if exits.judge.kind in kinds]
    given = {candidate.judge.kind for candidate in found}
    for layers in lists or [_layers_untold(model, wanted, sets)]:
        hidden, device = model.backbone.config.hidden, model.backbone.device
        untrained = [kind for kind in kinds if kind not in TRAINED_JUDGES]
        found += [Candidate(build_judge(kind, layers, hidden, device)) for kind in untrained]
        trained = [kind for kind in kinds if kind in TRAINED_JUDGES and kind not in given]
        if wanted.train:
            found += _fitted(model, wanted, trained, layers, out)
        else:
            found += [_shipped(model, kind, layers) for kind in trained]
    names = [candidate.name for candidate in found]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"--exits: two exit sets are both {doubled}; give one of them")
    return sorted(found, key=lambda candidate: JUDGES.index(candidate.judge.kind))


def _kinds(model: Model, wanted: Wanted, sets: Sequence[ExitSet]) -> list[str]:
    for kind in wanted.judges:
        if kind not in KNOWN:
            raise UserError(f"--judges: {kind!r} is not known; choose from {', '.join(KNOWN)}")
    given = {exits.judge.kind for exits in sets}
    given |= set(DYNAMAX_JUDGES if model.name.startswith(REFERENCE) else ())
    there = [k for k in KNOWN if wanted.train or k in given or k not in TRAINED_JUDGES]
    kinds = list(wanted.judges or there)
    if absent := next((kind for kind in kinds if kind not in there), None):
        raise UserError(
            f"--judges: {absent} must be trained; add --train --data FILE, or --exits DIR "
            f"with a set that 'dynexit train-exits {model.name} --judge {absent}' made"
        )
    return kinds


def _layers_untold(model: Model, wanted: Wanted, sets: Sequence[ExitSet]) -> tuple[int, ...]:
    """Those of the exit sets there are, so that all judges stand at the same exits."""
    if sets:
        return sets[0].layers
    if model.name.startswith(REFERENCE) and not wanted.train:
        return shipped_exits(model, DYNAMAX_JUDGES[0]).layers
    return _default_layers(model)


def _default_layers(model: Model) -> tuple[int, ...]:
    first = FIRST_EXIT if model.name.startswith(REFERENCE) else 0.5
    return default_layers(model.backbone.depth, first=first)


def _of_set(exits: ExitSet) -> Candidate:
    top_k, seed = (_whole(exits.recipe.get(name)) for name in ("top_k", "seed"))
    return Candidate(exits.judge, top_k, seed, exits.translators)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _shipped(model: Model, kind: str, layers: tuple[int, ...]) -> Candidate:
    exits = shipped_exits(model, kind)
    if exits.layers != layers:
        known = ",".join(map(str, exits.layers))
        raise UserError(
            f"--layers: the {kind} exits shipped with {model.name} are after layers {known}; "
            "add --train to fit others"
        )
    return _of_set(exits)


def _fitted(
    model: Model, wanted: Wanted, kinds: Sequence[str], layers: tuple[int, ...], out: Path
) -> Iterator[Candidate]:
    """Every kind for every top-k and seed. One collection serves all, made when the first exit set
    is missing; a seed is that of weights and of the order of texts, not of the collection."""
    work = out / "exits.work"
    recipe = replace(wanted.recipe, layers=layers)
    store: Store | None = None
    for kind in kinds:
        for top_k in wanted.top_k:
            for seed in wanted.seeds:
                own = replace(recipe, judge=kind, top_k=top_k, seed=seed)
                place = out / "exits" / _folder(model, own, layers)
                if not (place / "exits.json").exists():
                    store = store or collect_store(model, recipe, work, wanted.data)
                    fit_exits(model, store, own, place, work)
                yield _checked(place, load_exit_set(place, model.backbone), own)
    shutil.rmtree(work, ignore_errors=True)


def _folder(model: Model, recipe: ExitRecipe, layers: tuple[int, ...]) -> str:
    name = f"{recipe.judge}-k{recipe.top_k}-s{recipe.seed}"
    usual = layers == _default_layers(model)
    return name if usual else f"{name}-l{'-'.join(map(str, layers))}"


def _checked(place: Path, exits: ExitSet, recipe: ExitRecipe) -> Candidate:
    """The set of an earlier run must be of the same recipe."""
    told = {**recipe.as_json(), "layers": list(recipe.layers or ()), "stop": list(recipe.stop)}
    differing = [name for name, value in told.items() if exits.recipe.get(name) != value]
    if differing:
        raise UserError(
            f"{place} was trained with another {differing[0]}; choose another --out or remove it"
        )
    return _of_set(exits)
