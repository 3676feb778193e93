"""The writer of random checkpoints, which lives in the package."""

from dynexit.models.random_checkpoint import write_checkpoint

__all__ = ["write_checkpoint"]
