"""The judges, one file a kind: trained and training-free."""

from dynexit.exits.judges.registry import (
    DYNAMAX_JUDGES,
    JUDGES,
    TRAINED_JUDGES,
    build_judge,
    build_trained,
)
from dynexit.exits.judges.trained import TrainedJudge

__all__ = [
    "DYNAMAX_JUDGES",
    "JUDGES",
    "TRAINED_JUDGES",
    "TrainedJudge",
    "build_judge",
    "build_trained",
]
