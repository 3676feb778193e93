"""``--risk``: the threshold that a certificate of ``dynexit calibrate`` gives, and with
``--lossless`` which drafts it lets stand unverified."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dynexit.errors import UserError
from dynexit.exits.choice import NONE, REFERENCE, REFERENCE_JUDGE, Choice, Wish, choose

if TYPE_CHECKING:
    from dynexit.inference.speculative.settings import Lossless
    from dynexit.models.loading import Model


def choose_certified(model: Model, wish: Wish, risk: float | None) -> Choice:
    """What the options ask for; with a ``risk``, at the threshold certified for it.

    Where exits only draft, that is the ``verify_below`` of the choice, for ``certified_drafting``.
    """
    if risk is None:
        return choose(model, wish)
    for option in ("threshold", "exit_layer", "layers"):
        if getattr(wish, option) is not None:
            name = option.replace("_", "-")
            raise UserError(f"--risk chooses the threshold; leave --{name} out")
    if wish.screen is not None:
        raise UserError("a certificate is for all exits; leave --screen or --risk out")
    if wish.decide_every > 1:
        raise UserError("a certificate is for all exits; leave --decide-every or --risk out")
    if wish.judge == NONE:
        raise UserError("--judge none means full depth, which risks nothing; leave --risk out")
    shipped = wish.exits is None and model.name.startswith(REFERENCE)
    return _certified(
        model, replace(wish, judge=wish.judge or REFERENCE_JUDGE) if shipped else wish, risk
    )


def certified_drafting(choice: Choice, asked: Lossless | None) -> Lossless | None:
    """How to draft: as ``asked`` for, or where ``choice`` is certified, as its certificate was
    made, which leaves nothing but ``strict`` to ask for."""
    if asked is None or choice.verify_below is None:
        return asked
    from dynexit.evaluation.bounded import DRAFTS
    from dynexit.inference.speculative.settings import Lossless

    usual = Lossless()
    for name in ("max_draft", "verify_every", "verify_below"):
        if getattr(asked, name) != getattr(usual, name):
            option = name.replace("_", "-")
            raise UserError(f"--risk chooses what is drafted and verified; leave --{option} out")
    return replace(DRAFTS, strict=asked.strict, verify_below=choice.verify_below)


def _certified(model: Model, wish: Wish, risk: float) -> Choice:
    from dynexit.calibration import VERIFIED, load_certificate
    from dynexit.evaluation.certify import judge_digest
    from dynexit.exits.fingerprint import fingerprint
    from dynexit.reference.pair import exits_directory

    if wish.exits is None and not model.name.startswith(REFERENCE):
        raise UserError(
            f"--risk {risk:g} needs an exit set with certificates; make them with "
            f"'dynexit calibrate {model.name} --exits DIR' and give --exits DIR"
        )
    choice = choose(model, wish)
    assert choice.policy is not None, "a judge was named"
    place = wish.exits or exits_directory(model.name.removeprefix(REFERENCE), choice.judge)
    state = VERIFIED if wish.lossless else choice.state
    certificate = load_certificate(
        place, risk, judge=choice.judge, state=state, backbone=fingerprint(model.backbone)
    )
    if certificate.judge_digest != judge_digest(choice.policy):
        raise UserError(
            f"{place}/calibration.json certifies other weights of the judge; calibrate again"
        )
    policy = replace(choice.policy, thresholds=certificate.thresholds)
    if wish.lossless:
        return replace(choice, policy=policy, verify_below=certificate.threshold)
    return replace(choice, policy=policy, threshold=certificate.threshold)
