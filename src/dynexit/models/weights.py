"""From the tensor names of a family's checkpoints to the parameters of ``Backbone``.

Inside a mixer or MLP our names are the checkpoints' own; families differ in the prefixes around
them, and those are the table below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dynexit.models.config import BackboneConfig


@dataclass(frozen=True)
class Naming:
    """Where a family keeps things. ``{i}`` is the layer's number from 0.

    ``mixers`` maps the kind of mixer configuration to the module's name in a layer.
    ``fused_gate_up`` names a matrix that holds gate and up projection one above the other.
    """

    embedding: tuple[str, ...] = ("model.embed_tokens.weight",)
    norm: tuple[str, ...] = ("model.norm.weight",)
    head: tuple[str, ...] = ("lm_head.weight",)
    layer: str = "model.layers.{i}."
    mixers: tuple[tuple[str, str], ...] = (
        ("AttentionConfig", "self_attn."),
        ("MambaConfig", "mamba."),
        ("Mamba2Config", "mamba."),
    )
    mixer_norm: str = "input_layernorm."
    mlp: str = "mlp."
    mlp_norm: str = "post_attention_layernorm."
    fused_gate_up: str | None = None
    renamed: tuple[tuple[str, str], ...] = ()


_MIXER = tuple((kind, "mixer.") for kind in ("AttentionConfig", "MambaConfig", "Mamba2Config"))
_SSM = Naming(
    # "embedding" is the name in mamba-ssm's own files
    embedding=("backbone.embeddings.weight", "backbone.embedding.weight"),
    norm=("backbone.norm_f.weight",),
    layer="backbone.layers.{i}.",
    mixers=_MIXER,
    mixer_norm="norm.",
)
_NAMINGS = {
    "mamba": _SSM,
    "falcon_mamba": _SSM,
    "mamba2": _SSM,
    "bamba": Naming(
        norm=("model.final_layernorm.weight",), mlp="feed_forward.", mlp_norm="pre_ff_layernorm."
    ),
    "granitemoehybrid": Naming(
        mlp="shared_mlp.",
        fused_gate_up="input_linear.",
        renamed=(("down_proj.", "output_linear."),),
    ),
    "jamba": Naming(
        norm=("model.final_layernorm.weight",), mlp="feed_forward.", mlp_norm="pre_ff_layernorm."
    ),
    "nemotron_h": Naming(
        embedding=("model.embeddings.weight", "model.embedding.weight"),
        norm=("model.norm_f.weight",),
        layer="model.layers.{i}.",
        mixers=_MIXER,
        mixer_norm="norm.",
        mlp="mixer.",
        mlp_norm="norm.",
    ),
}


@dataclass(frozen=True)
class Source:
    """Where one parameter comes from: any of ``names``; ``part`` k of ``parts`` of its rows."""

    names: tuple[str, ...]
    part: int = 0
    parts: int = 1


def sources(config: BackboneConfig, parameters: Iterator[str]) -> dict[str, Source]:
    """The checkpoint tensor behind every parameter name of ``Backbone(config)``."""
    naming = _NAMINGS.get(config.family, Naming())
    return {name: _source(name, naming, config) for name in parameters}


def _source(name: str, naming: Naming, config: BackboneConfig) -> Source:
    module, _, what = name.rpartition(".")
    if module in ("embedding", "norm", "head"):
        # a quantised matrix is stored in several tensors, named where its weight would be
        return _any_of(*(n.removesuffix("weight") + what for n in getattr(naming, module)))
    _, number, half, rest = name.split(".", 3)
    layer = naming.layer.format(i=number)
    if half in ("mixer_norm", "mlp_norm"):
        return _any_of(layer + getattr(naming, half) + rest)
    if half == "mixer":
        kind = type(config.layers[int(number)].mixer).__name__
        return _any_of(layer + dict(naming.mixers)[kind] + rest)
    return _mlp_source(layer + naming.mlp, rest, naming)


def _mlp_source(prefix: str, rest: str, naming: Naming) -> Source:
    module, _, what = rest.rpartition(".")
    if naming.fused_gate_up is not None and module in ("gate_proj", "up_proj"):
        part = 0 if module == "gate_proj" else 1
        return Source(_any_of(prefix + naming.fused_gate_up + what).names, part, 2)
    for ours, theirs in naming.renamed:
        rest = rest.replace(ours, theirs)
    return _any_of(prefix + rest)


def _any_of(*names: str) -> Source:
    """The names and what else published files say for them.

    Nemotron-H was published with ``backbone.`` where transformers now writes ``model.``; Codestral
    Mamba's ``consolidated.safetensors`` has ``model.`` before every name of mamba-ssm.
    """
    found = list(names)
    for name in names:
        if name.startswith("model."):
            found.append("backbone." + name.removeprefix("model."))
        else:
            found.append("model." + name)
    return Source(tuple(found))
