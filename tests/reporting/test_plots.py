"""The plot is a whole PNG, for any rows."""

from __future__ import annotations

from pathlib import Path

from matplotlib.image import imread

from dynexit.evaluation.row import Row
from dynexit.reporting.plots import accuracy_vs_flops


def row(model: str, judge: str, state: str, saving: float) -> Row:
    return Row(model, judge, state, 0.9, 10, 0.9 - saving / 5, 0.97, saving, saving, 1 + saving)


def test_two_models_make_two_panels(tmp_path: Path) -> None:
    models = ("reference:mistral", "reference:mamba2")
    full = [row(model, "none", "none", 0.0) for model in models]
    rows = [
        row(model, judge, state, 0.1 * number)
        for model in models
        for number, (judge, state) in enumerate(
            [("linear", "recompute"), ("mamba", "copy"), ("mamba", "freeze"), ("odd", "other")]
        )
    ]
    path = tmp_path / "new" / "plot.png"
    accuracy_vs_flops(rows, full, path)
    image = imread(path)
    assert image.shape[1] > 1.5 * image.shape[0]
    one = tmp_path / "one.png"
    accuracy_vs_flops(rows[:4], full[:1], one)
    assert imread(one).shape[1] < image.shape[1]
