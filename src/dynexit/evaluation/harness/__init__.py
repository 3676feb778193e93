"""dynexit's models in lm-evaluation-harness (EleutherAI, 0.4.13).

The harness has no door for models of other packages: it knows those of its own list and those
that were registered in its process. Importing this package registers ``dynexit``;
``python -m dynexit.evaluation.harness`` does so and goes on as the harness's own command.
"""

from dynexit.evaluation.harness.model import DynexitLM

__all__ = ["DynexitLM"]
