"""The judges by name, as on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch

from dynexit.errors import UserError
from dynexit.exits.judge import Judge
from dynexit.exits.judges.confidence import Entropy, Margin, TopProbability
from dynexit.exits.judges.depth import DepthJudge
from dynexit.exits.judges.ffn import FfnJudge
from dynexit.exits.judges.fixed import Fixed
from dynexit.exits.judges.linear import LinearJudge
from dynexit.exits.judges.mamba import MambaJudge
from dynexit.exits.judges.patience import Patience
from dynexit.exits.judges.predictor import PredictorJudge
from dynexit.exits.judges.saturation import Saturation
from dynexit.exits.judges.shared import SharedJudge
from dynexit.exits.judges.trained import TrainedJudge
from dynexit.exits.judges.untrained import UntrainedJudge

_KINDS: tuple[type[TrainedJudge] | type[UntrainedJudge], ...] = (
    LinearJudge,
    FfnJudge,
    MambaJudge,
    SharedJudge,
    DepthJudge,
    PredictorJudge,
    TopProbability,
    Margin,
    Entropy,
    Saturation,
    Patience,
    Fixed,
)
JUDGES: tuple[str, ...] = tuple(judge.kind for judge in _KINDS)
TRAINED_JUDGES: tuple[str, ...] = tuple(j.kind for j in _KINDS if issubclass(j, TrainedJudge))
DYNAMAX_JUDGES: tuple[str, ...] = tuple(j.kind for j in (LinearJudge, FfnJudge, MambaJudge))
"""Those that the paper compares; the reference pair comes with exit sets of them."""


def build_judge(
    kind: str,
    layers: Sequence[int],
    hidden: int,
    device: torch.device | str = "cpu",
    options: Mapping[str, int] | None = None,
) -> Judge:
    """A judge of that kind for exits after ``layers`` (from 1, ascending) of a backbone with
    ``hidden`` channels. ``options`` are the kind's own, such as ``width`` or
    ``patience``. A trained judge comes with random weights; see ``exits.exit_set`` for fitted ones.
    """
    if kind not in JUDGES:
        raise UserError(f"no judge is called {kind!r}; there are {', '.join(JUDGES)}")
    build = cast(Callable[..., Judge], _KINDS[JUDGES.index(kind)])
    try:
        return build(layers, hidden, device, **(options or {}))
    except TypeError:
        given = ", ".join(options or {})
        raise UserError(f"judge {kind!r} does not take these options: {given}") from None


def build_trained(
    kind: str,
    layers: Sequence[int],
    hidden: int,
    device: torch.device | str = "cpu",
    options: Mapping[str, int] | None = None,
) -> TrainedJudge:
    """The same, for the kinds that can be trained only."""
    judge = build_judge(kind, layers, hidden, device, options)
    if not isinstance(judge, TrainedJudge):
        raise UserError(
            f"judge {kind!r} needs no training; those that can be trained are "
            f"{', '.join(TRAINED_JUDGES)}"
        )
    return judge
