"""One checkpoint of every family for the whole session."""

from __future__ import annotations

import pytest
import torch

from dynexit.models import Backbone, load_backbone
from models.zoo import FAMILIES, Checkpoint, make_checkpoint


@pytest.fixture(scope="session", params=FAMILIES)
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    """A checkpoint of one family, in one file."""
    return make_checkpoint(request.param, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def backbone(checkpoint: Checkpoint) -> Backbone:
    """The same checkpoint, loaded here in fp32."""
    return load_backbone(checkpoint.directory, torch.float32)
