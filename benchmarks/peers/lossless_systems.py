"""What is compared of lossless decoding: drafts by the first half of the layers, and others.

In the case *accepted* the later half is the identity, so that every draft is right; in the case
*rejected* it is random like the rest, and nearly none is.
"""

from __future__ import annotations

from collections.abc import Iterator

from systems import System

DRAFTS = (4, 8)


def lossless_systems(family: str, depth: int) -> list[System]:
    """Plain decoding and drafts of everything that knows a family of ``depth`` layers."""
    half = depth // 2
    cases = {"accepted": f"identity-{half}", "rejected": "bf16"}
    return [one for case, weights in cases.items() for one in _case(case, weights, family, half)]


def _case(case: str, weights: str, family: str, half: int) -> Iterator[System]:
    def system(row: str, peer: str, options: dict[str, object], candidate: str = "") -> System:
        full = None if row == peer else peer
        return System(
            row, peer, weights, f"{peer}_worker.py", options, candidate, full=full, case=case
        )

    plain = {"cache": "dynamic", "compile": False}
    yield system("transformers", "transformers", plain)
    yield system("dynexit", "dynexit", {})
    for how, adapt in (("adaptive", True), ("always 7", False)):
        drafting = {"layer": half, "adapt": adapt}
        yield system(f"dynexit lossless at {half}, {how}", "dynexit", {"lossless": drafting})
    if family != "mistral":
        return  # no other system drafts by layers of a state-space model
    for count in DRAFTS:
        row = f"transformers early exit at {half}, {count} drafts"
        for threshold in (0.0, 0.4):  # 0.4 is what transformers does by itself
            drafts = {
                "assistant_early_exit": half,
                "num_assistant_tokens": count,
                "num_assistant_tokens_schedule": "constant",
                "assistant_confidence_threshold": threshold,
            }
            name = f"confidence {threshold:g}"
            yield system(row, "transformers", {**plain, "drafts": drafts}, name)
    for count in DRAFTS:
        row = f"transformers prompt lookup, {count} drafts"
        lookup = {"prompt_lookup_num_tokens": count}
        yield system(row, "transformers", {**plain, "drafts": lookup})
    yield system("economize", "economize", {"drafts_at": half, "cycle": 1})
    for count in DRAFTS:
        row = f"economize early exit at {half}, cycles of {count}"
        yield system(row, "economize", {"drafts_at": half, "cycle": count})
