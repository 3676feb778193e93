"""Fine-tuning a backbone so that its early layers can be read: LayerSkip's recipe."""

from dynexit.training.finetune.recipe import FinetuneRecipe
from dynexit.training.finetune.run import Finetuned, finetune

__all__ = ["FinetuneRecipe", "Finetuned", "finetune"]
