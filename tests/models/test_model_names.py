"""What a user may name as MODEL, and what is said when there is none or it lacks a part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynexit.errors import UserError
from dynexit.models import load_model
from dynexit.models.checkpoint import SINGLE
from models.zoo import make_checkpoint


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """A sound checkpoint without a tokenizer."""
    return make_checkpoint("llama", tmp_path).directory


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_model_that_is_a_file(single: Path) -> None:
    with pytest.raises(UserError, match=r"is a file; give the directory"):
        load_model(str(single / SINGLE))


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/place", "~/nowhere", "nowhere", "a/b/c"])
def test_model_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match="no such directory"):
        load_model(name)


def test_unknown_reference_model() -> None:
    with pytest.raises(UserError, match="no such reference model"):
        load_model("reference:gpt")


@pytest.mark.parametrize("name", ["nobody/nothing", "no body/no thing", "nobody/"])
def test_hub_id_without_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        load_model(name)
    message = str(caught.value)
    assert message.startswith(name)
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("content", [b"{", b"[]", b"\x00\xff"])
def test_tokenizer_that_is_none(content: bytes, single: Path) -> None:
    (single / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load_model(str(single))


@pytest.mark.parametrize("other", [None, "tokenizer.model", "tokenizer_config.json"])
def test_no_tokenizer(other: str | None, single: Path) -> None:
    if other is not None:
        (single / other).write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json") as caught:
        load_model(str(single))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("eos", ["</s>", [2, "x"], 1.5, {}])
def test_unusable_eos(eos: Any, single: Path) -> None:
    edit(single / "generation_config.json", eos_token_id=eos)
    with pytest.raises(UserError, match="eos_token_id"):
        load_model(str(single))
