"""Settings: ranges, and a checkpoint's own generation_config.json."""

import math

import pytest

from dynexit.errors import UserError
from dynexit.inference.settings import GenerationSettings, from_generation_config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 2.5),
        ("max_new_tokens", True),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_p", 1.1),
        ("min_p", -0.5),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("stop", ("",)),
        ("stop", (3,)),
        ("prefill_chunk", 0),
    ],
)
def test_a_value_out_of_range_names_its_field(field: str, value: object) -> None:
    with pytest.raises(UserError, match=field) as caught:
        GenerationSettings(**{field: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_defaults_are_greedy_and_off() -> None:
    settings = GenerationSettings()
    assert settings.greedy
    assert (settings.top_k, settings.top_p, settings.repetition_penalty) == (0, 1.0, 1.0)


def test_stop_may_be_one_string_or_a_list() -> None:
    assert GenerationSettings(stop="\n\n").stop == ("\n\n",)  # type: ignore[arg-type]
    assert GenerationSettings(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_temperature_counts_only_with_do_sample() -> None:
    raw = {"temperature": 0.6, "top_p": 0.9, "eos_token_id": 2}
    assert from_generation_config(raw).greedy
    sampled = from_generation_config(raw | {"do_sample": True})
    assert (sampled.temperature, sampled.top_p) == (0.6, 0.9)
    assert from_generation_config({"do_sample": True}).temperature == 1.0
    assert from_generation_config({"do_sample": True, "temperature": None}).temperature == 1.0


def test_overrides_win_and_none_is_no_override() -> None:
    raw = {"do_sample": True, "temperature": 0.6, "top_k": 20, "max_new_tokens": 99}
    settings = from_generation_config(raw, temperature=0.0, top_k=None, seed=3, stop=["x"])
    assert settings == GenerationSettings(99, 0.0, 20, seed=3, stop=("x",))


def test_mistakes_name_file_and_field() -> None:
    with pytest.raises(UserError, match=r"generation_config\.json: top_p"):
        from_generation_config({"top_p": 7}, top_p=0.5)
    with pytest.raises(UserError, match=r"^top_p"):
        from_generation_config({"top_p": 0.5}, top_p=7)
    with pytest.raises(UserError, match="beams"):
        from_generation_config({}, beams=4)
