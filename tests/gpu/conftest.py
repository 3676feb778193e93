"""All tests here are of a CUDA device: marked ``gpu``, and skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
            item.add_marker(absent)
