"""From what a user says about exits to an exit policy, alike for commands and for the harness.

What is heavy is imported where it is used: a command's ``--help`` must not wait for PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dynexit.errors import UserError

if TYPE_CHECKING:
    from dynexit.exits.exit_set import ExitSet
    from dynexit.exits.policy import ExitPolicy
    from dynexit.models.loading import Model

REFERENCE = "reference:"
REFERENCE_JUDGE = "mamba"  # the one a reference model uses where none is named
FIRST_EXIT = 0.25  # of the depth: the reference models are trained to be read from there on
UNTRAINED_THRESHOLD = 0.9
DRAFT_THRESHOLD = 0.8  # of trained judges: a draft that falls costs less than one not made
NONE = "none"


@dataclass(frozen=True)
class Choice:
    """What was chosen, in words, and the policy (None: full depth). ``verify_below`` is there where
    a certificate says which drafts must be verified: those with scores below it."""

    policy: ExitPolicy | None
    judge: str = NONE
    state: str = NONE
    threshold: float | list[float] | None = None
    verify_below: float | None = None


@dataclass(frozen=True)
class Wish:
    """The options about exits as they were given, None where they were not. With ``lossless`` the
    exits only draft, so that nothing is skipped for good."""

    exits: Path | None = None
    judge: str | None = None
    threshold: float | None = None
    exit_layer: int | None = None
    layers: tuple[int, ...] | None = None
    state: str = "recompute"
    decide_every: int = 1
    screen: int | None = None
    lossless: bool = False


def choose(model: Model, wish: Wish) -> Choice:
    """The policy that the options ask for; a ``UserError`` where they contradict one another."""
    return _screened(model, _spaced(model, _choose(model, wish), wish), wish)


def _spaced(model: Model, choice: Choice, wish: Wish) -> Choice:
    if choice.policy is None or wish.decide_every == 1:
        return choice
    from dynexit.exits.spacing import decide_every

    policy = decide_every(choice.policy, wish.decide_every, model.backbone)
    threshold = choice.threshold
    shown = threshold[:: wish.decide_every] if isinstance(threshold, list) else threshold
    return replace(choice, policy=policy, threshold=shown)


def _screened(model: Model, choice: Choice, wish: Wish) -> Choice:
    if wish.screen is None:
        return choice
    if choice.policy is None:
        raise UserError("--screen needs a judge that reads the vocabulary; add --judge margin")
    from dynexit.exits.screen import Screen
    from dynexit.exits.screened import behind_screen

    policy, hidden = choice.policy, model.backbone.config.hidden
    screen = Screen(model.backbone, wish.screen, translators=policy.translators)
    judge = behind_screen(policy.judge, screen, hidden)
    return replace(choice, policy=replace(policy, judge=judge))


def _choose(model: Model, wish: Wish) -> Choice:
    _check(wish)
    if wish.exit_layer is not None:
        return _fixed(model, wish.exit_layer, wish.state)
    kind = _judge(model, wish)
    if kind is None or kind == NONE:
        return Choice(None)
    exits = _exit_set(model, kind, wish)
    return _untrained(model, kind, wish) if exits is None else _of_set(model, exits, wish)


def _check(wish: Wish) -> None:
    if wish.threshold is not None and not 0.0 <= wish.threshold <= 1.0:
        raise UserError(f"--threshold {wish.threshold:g} is outside 0 to 1; give a score")
    if wish.exit_layer is not None:
        for option in ("judge", "exits", "threshold", "layers"):
            if getattr(wish, option) is not None:
                raise UserError(
                    f"--exit-layer leaves no decision to --{option}; give one or the other"
                )
    if wish.decide_every < 1:
        raise UserError(f"--decide-every {wish.decide_every}: give a whole number of at least 1")
    if wish.judge == NONE and wish.exits is not None:
        raise UserError("--judge none means full depth, where --exits has no use; leave one out")
    if wish.lossless and wish.state != "recompute":
        raise UserError(
            f"--lossless leaves the full model's own state, so --state {wish.state} has no meaning "
            "with it; leave it out"
        )
    from dynexit.exits.skipped import skipped_state

    skipped_state(wish.state)


def _fixed(model: Model, layer: int, state: str) -> Choice:
    depth = model.backbone.depth
    if not 1 <= layer <= depth:
        raise UserError(f"--exit-layer {layer} is outside the model; give 1 to {depth}")
    if layer == depth:
        return Choice(None)
    return _choice(model, "fixed", (layer,), 1.0, state, shown=None)


def _judge(model: Model, wish: Wish) -> str | None:
    """The kind of judge, or None if nothing asks for one. An exit set alone names its own."""
    if wish.judge is not None:
        return wish.judge.replace("_", "-")
    if wish.exits is not None:
        return ""
    if wish.threshold is None and wish.layers is None and not wish.lossless:
        return None
    if model.name.startswith(REFERENCE) and wish.layers is None:
        return REFERENCE_JUDGE
    if wish.threshold is None and wish.layers is None:
        raise UserError(
            "--lossless drafts with exits; say which by --exit-layer N, --judge NAME or --exits DIR"
        )
    option = "--threshold" if wish.threshold is not None else "--layers"
    raise UserError(f"{option} needs a judge; add --judge NAME or --exits DIR")


def _exit_set(model: Model, kind: str, wish: Wish) -> ExitSet | None:
    """The exit set of a trained judge; None for a judge that needs no training."""
    from dynexit.exits.exit_set import load_exit_set
    from dynexit.exits.judges import DYNAMAX_JUDGES, JUDGES, TRAINED_JUDGES

    known = [name for name in JUDGES if name != "fixed"]  # which is --exit-layer's
    if kind and kind not in known:
        raise UserError(f"--judge {kind!r} is not known; choose from {', '.join(known)}, {NONE}")
    if wish.exits is not None:
        exits = load_exit_set(wish.exits, model.backbone)
        if kind and exits.judge.kind != kind:
            raise UserError(
                f"{wish.exits} holds a judge of kind {exits.judge.kind}, not {kind}; "
                "leave --judge out"
            )
        return exits
    if kind not in TRAINED_JUDGES:
        return None
    if not model.name.startswith(REFERENCE) or kind not in DYNAMAX_JUDGES:
        raise UserError(
            f"--judge {kind} must be trained; make an exit set with "
            f"'dynexit train-exits {model.name} --judge {kind} --out DIR' and give --exits DIR"
        )
    return shipped_exits(model, kind)


def shipped_exits(model: Model, kind: str) -> ExitSet:
    """The exit set of one of DYNAMAX's judges that ships with this reference model."""
    from dynexit.exits.exit_set import load_exit_set
    from dynexit.reference.pair import exits_directory

    return load_exit_set(exits_directory(model.name.removeprefix(REFERENCE), kind), model.backbone)


def _of_set(model: Model, exits: ExitSet, wish: Wish) -> Choice:
    from dynexit.exits.policy import ExitPolicy
    from dynexit.exits.skipped import skipped_state

    if wish.layers is not None and wish.layers != exits.layers:
        known = ",".join(map(str, exits.layers))
        raise UserError(f"--layers: this exit set has the exit layers {known}; leave --layers out")
    given = DRAFT_THRESHOLD if wish.lossless and wish.threshold is None else wish.threshold
    thresholds = exits.thresholds if given is None else (given,) * len(exits.layers)
    state = skipped_state(wish.state)
    state.check(model.backbone.config)
    policy = ExitPolicy(exits.judge, thresholds, state, translators=exits.translators)
    shown = thresholds[0] if len(set(thresholds)) == 1 else list(thresholds)
    return Choice(policy, exits.judge.kind, wish.state, shown)


def _untrained(model: Model, kind: str, wish: Wish) -> Choice:
    from dynexit.exits.judge import check_layers, default_layers

    depth = model.backbone.depth
    first = FIRST_EXIT if model.name.startswith(REFERENCE) else 0.5
    layers = check_layers(wish.layers or default_layers(depth, first=first), depth)
    threshold = UNTRAINED_THRESHOLD if wish.threshold is None else wish.threshold
    return _choice(model, kind, layers, threshold, wish.state, shown=threshold)


def _choice(
    model: Model,
    kind: str,
    layers: tuple[int, ...],
    threshold: float,
    state: str,
    shown: float | None,
) -> Choice:
    """A policy without an exit set, one threshold for every exit."""
    from dynexit.exits.judges import build_judge
    from dynexit.exits.policy import ExitPolicy
    from dynexit.exits.skipped import skipped_state

    judge = build_judge(kind, layers, model.backbone.config.hidden, model.backbone.device)
    skipped = skipped_state(state)
    skipped.check(model.backbone.config)
    return Choice(ExitPolicy(judge, (threshold,) * len(layers), skipped), kind, state, shown)
