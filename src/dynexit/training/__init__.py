"""Training of judges: collect the full model's labels, fit a judge at every exit, save the set."""

from dynexit.training.recipe import ExitRecipe
from dynexit.training.train import Means, collect_store, fit_exits, train_exits

__all__ = ["ExitRecipe", "Means", "collect_store", "fit_exits", "train_exits"]
