"""Early exits that save time for Mamba and transformer language models.

import dynexit

model = dynexit.load("reference:mistral", judge="mamba")
print(model.generate("Question: What is the capital of France?\\nAnswer:"))
"""

from dynexit.api import Completion, EarlyExitModel, load
from dynexit.errors import UserError

__all__ = ["Completion", "EarlyExitModel", "UserError", "__version__", "load"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("dynexit")
    raise AttributeError(f"module 'dynexit' has no attribute {name!r}")
