"""Layer-level decoders for every family, their caches, and checkpoint loading."""

from dynexit.models.backbone import Backbone
from dynexit.models.cache import AttentionState, Cache, LayerState, RecurrentState
from dynexit.models.config import BackboneConfig
from dynexit.models.loading import Model, load_backbone, load_model, read_config
from dynexit.models.padding import Padding
from dynexit.models.placement import Placement
from dynexit.models.tokenizer import Tokenizer

__all__ = [
    "AttentionState",
    "Backbone",
    "BackboneConfig",
    "Cache",
    "LayerState",
    "Model",
    "Padding",
    "Placement",
    "RecurrentState",
    "Tokenizer",
    "load_backbone",
    "load_model",
    "read_config",
]
