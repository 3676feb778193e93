"""A tiny random model of each kind."""

from __future__ import annotations

import pytest

from checkpoints import SHAPES, make_checkpoint
from dynexit.models import Model, load_model


@pytest.fixture(scope="session", params=sorted(SHAPES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("checkpoint") / request.param
    return load_model(str(make_checkpoint(directory, request.param)))
