"""The judges, one file a kind: trained (linear, ffn, mamba) and training-free."""

from dynexit.exits.judges.registry import JUDGES, TRAINED_JUDGES, build_judge, build_trained
from dynexit.exits.judges.trained import TrainedJudge

__all__ = ["JUDGES", "TRAINED_JUDGES", "TrainedJudge", "build_judge", "build_trained"]
