"""Translators of the tuned-lens library: the same map, taken into an exit set."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dynexit.errors import UserError
from dynexit.exits.exit_set import load_exit_set
from dynexit.training import ExitRecipe, train_exits
from dynexit.training.tuned_lens import read_tuned_lens
from training.tiny import prompts_file, tiny_model

LAYERS, HIDDEN = (1, 3), 32


def a_lens(path: Path, depth: int = 4, hidden: int = HIDDEN) -> nn.ModuleList:
    """Layer translators as the library has them, and their tensors in a file."""
    torch.manual_seed(1)
    lens = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
    save_file(lens.state_dict(), path)
    return lens


def test_the_map_is_the_lens_own(tmp_path: Path) -> None:
    lens = a_lens(tmp_path / "lens.safetensors")
    ours = read_tuned_lens(tmp_path / "lens.safetensors", LAYERS, HIDDEN)
    hidden = torch.randn(5, HIDDEN)
    for exit, layer in enumerate(LAYERS):
        theirs = hidden + lens[layer](hidden)  # transform_hidden(h, idx) of the library
        torch.testing.assert_close(ours.apply(exit, hidden), theirs)


def test_exits_are_trained_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "lens.safetensors"
    lens, model = a_lens(path), tiny_model("mistral")
    recipe = ExitRecipe(
        "linear", LAYERS, max_new_tokens=4, epochs=1, shard_tokens=60, tuned_lens=str(path)
    )
    train_exits(model, recipe, tmp_path / "exits", prompts_file(tmp_path / "p.txt"))
    exits = load_exit_set(tmp_path / "exits", model.backbone)
    assert exits.recipe["tuned_lens"] == str(path)
    assert exits.translators is not None
    assert torch.equal(exits.translators.maps[1].weight, lens[3].weight)


def test_mistakes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "lens.safetensors"
    a_lens(path, depth=2)
    with pytest.raises(UserError, match=r"no translators for these exits.*3\.weight"):
        read_tuned_lens(path, LAYERS, HIDDEN)
    a_lens(path, hidden=16)
    with pytest.raises(UserError, match=r"'1\.weight' has shape \[16, 16\]"):
        read_tuned_lens(path, LAYERS, HIDDEN)
    with pytest.raises(UserError, match="is no file"):
        read_tuned_lens(tmp_path / "none", LAYERS, HIDDEN)
    with pytest.raises(UserError, match="leave translators out"):
        ExitRecipe(translators=True, tuned_lens="lens.safetensors")
