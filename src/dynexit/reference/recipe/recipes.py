"""How each model of the reference pair is trained, on a GPU in minutes or on a CPU in hours.

The weights that ship come from the recipes for a GPU, both trained at once on one H100 in under
nine minutes. Those for a CPU read 14 and 23 times less text; they gave 51% (mistral) and 15%
(mamba2) of answers about stories exactly, where those that ship give 66% and 78%.
"""

from __future__ import annotations

from dynexit.reference.recipe.train import Recipe

_ON_A_GPU = {
    "mistral": Recipe(
        "mistral",
        steps=6000,
        rows=128,
        cooldown=0.3,
        mixes=((0, "facts"), (600, "retelling"), (3000, "stories")),
        drills=((0, 16), (3000, 4)),
        compiled=True,
        save_every=500,
        report_every=1000,
    ),
    "mamba2": Recipe(
        "mamba2",
        steps=3606,
        rows=128,
        cooldown=0.3,
        mixes=((0, "facts"), (322, "retelling"), (1807, "stories")),
        drills=((0, 16), (1807, 4)),
        compiled=True,
        save_every=500,
        report_every=1000,
    ),
}
_ON_A_CPU = {
    "mistral": Recipe(
        "mistral",
        steps=3500,
        cooldown=0.12,
        mixes=((0, "facts"), (700, "retelling"), (2800, "stories")),
        drills=((0, 0), (1700, 2), (2800, 0)),
        look_back_at=2400,
    ),
    "mamba2": Recipe(
        "mamba2",
        steps=2500,
        cooldown=0.25,
        mixes=((0, "facts"), (1000, "retelling"), (1800, "facts")),
        drills=((0, 0), (1400, 1), (1800, 0)),
        rows=8,
        compiled=True,
    ),
}
RECIPES = {"cuda": _ON_A_GPU, "cpu": _ON_A_CPU}
