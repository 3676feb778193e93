"""From the content of ``config.json`` to the backbone's shape, one reader a family.

A new family is a new reader (and a row in ``weights.py`` if it names its tensors otherwise).
"""

from __future__ import annotations

from collections.abc import Callable

from dynexit.errors import UserError
from dynexit.models import family_hybrids, family_ssm, family_transformers
from dynexit.models.config import BackboneConfig
from dynexit.models.config_check import check_config, check_depth
from dynexit.models.family_fields import Raw

_READERS: dict[str, Callable[[Raw], BackboneConfig]] = {
    "mistral": family_transformers.mistral,
    "llama": family_transformers.llama,
    "qwen2": family_transformers.qwen2,
    "qwen3": family_transformers.qwen3,
    "mamba": family_ssm.mamba,
    "falcon_mamba": family_ssm.mamba,
    "mamba2": family_ssm.mamba2,
    "bamba": family_hybrids.bamba,
    "granitemoehybrid": family_hybrids.granite_hybrid,
    "nemotron_h": family_hybrids.nemotron_h,
    "jamba": family_hybrids.jamba,
}


def parse_config(raw: Raw) -> BackboneConfig:
    """The backbone's shape from the content of ``config.json``; ``UserError`` names the field."""
    family = raw.get("model_type")
    if not isinstance(family, str) or family not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise UserError(
            f"config.json: model_type {family!r} is not supported; dynexit reads {known}"
        )
    check_depth(raw.get("num_hidden_layers"))
    try:
        config = _READERS[family](raw)
    except KeyError as error:
        raise UserError(
            f"config.json: field {error.args[0]!r} is missing ({family}); fetch the file again"
        ) from None
    except (TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as error:
        raise UserError(
            f"config.json: a field has an unusable value ({family}: {error}); fetch the file again"
        ) from None
    check_config(config)
    return config
