"""The model that a command names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynexit.models.loading import Model
    from dynexit.workers import Workers


def load(
    name: str, dtype: str | None = None, device: str = "auto", *, layers_on_disk: bool = False
) -> Model:
    """The model of a command's MODEL argument."""
    from dynexit.models.device import find_device, find_dtype
    from dynexit.models.loading import load_model

    return load_model(name, find_dtype(dtype), find_device(device), layers_on_disk=layers_on_disk)


def own_device(device: str, workers: Workers) -> str:
    """A command's --device for this worker: of several on a machine with GPUs each has its own."""
    from dynexit.models.device import find_device

    any_gpu = device in ("auto", "cuda") and find_device(device).type == "cuda"
    return f"cuda:{workers.local}" if workers.count > 1 and any_gpu else device


def load_stage(name: str, dtype: str | None, device: str, workers: Workers) -> Model:
    """The model of a command whose layers the workers share; of one alone as ``load`` gives it."""
    from dynexit.models.stages import StagedBackbone

    place = own_device(device, workers)
    if workers.count == 1:
        return load(name, dtype, place)
    model = load(name, dtype, place, layers_on_disk=True)
    mesh = workers.mesh(model.backbone.device)
    return replace(model, backbone=StagedBackbone(model.backbone, mesh))
