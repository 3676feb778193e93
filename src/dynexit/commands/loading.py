"""The model that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynexit.models.loading import Model


def load(
    name: str, dtype: str | None = None, device: str = "auto", *, layers_on_disk: bool = False
) -> Model:
    """The model of a command's MODEL argument."""
    from dynexit.models.device import find_device, find_dtype
    from dynexit.models.loading import load_model

    return load_model(name, find_dtype(dtype), find_device(device), layers_on_disk=layers_on_disk)


def on_gpu(device: str) -> bool:
    """Whether a command's --device is whichever GPU there is."""
    from dynexit.models.device import find_device

    return device in ("auto", "cuda") and find_device(device).type == "cuda"
