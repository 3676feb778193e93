"""Answers over HTTP are the library's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import openai
import pytest
from tests.serving.running import Running

from dynexit.inference.generate import generate
from dynexit.inference.generation import Generation
from dynexit.inference.settings import GenerationSettings

QUESTION = "Question: What is the capital of France?\nAnswer:"
LONG = "Story: " + "The dog sat by the river and looked at the water. " * 12 + "\nQ: Who sat?\nA:"
PROMPTS = [
    QUESTION,
    LONG,
    "Question: Which country has the city of Lima?\nAnswer:",
    "Question: What is the chemical symbol of gold?\nAnswer:",
    "A",
    "Story: Ann has a red ball. Ben has a blue cup.\nQ: What does Ann have?\nA:",
]


def library(running: Running, prompt: str, **settings: Any) -> Generation:
    made = GenerationSettings(**{"max_new_tokens": 24} | settings)
    return generate(running.plan.model, [prompt], made, running.plan.depths.policy)[0]


def ask(running: Running, prompt: str, **settings: Any) -> Any:
    own = {"max_tokens": 24, "temperature": 0} | settings
    return running.client().completions.create(
        model="reference:mistral", prompt=prompt, extra_body=own.pop("extra_body", {}), **own
    )


def exits(answer: Generation) -> list[int]:
    return [token.exit_layer for token in answer.tokens]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_completion_is_the_librarys(server: Running, prompt: str) -> None:
    expected, got = library(server, prompt), ask(server, prompt)
    assert got.choices[0].text == expected.text
    assert got.choices[0].finish_reason == ("length" if expected.finish == "length" else "stop")
    assert got.usage.completion_tokens == len(expected.tokens)
    assert got.usage.prompt_tokens == expected.prompt_tokens
    assert got.dynexit["exit_layers"] == exits(expected)
    assert got.dynexit["mean_exit_layer"] == pytest.approx(expected.mean_exit_layer)
    assert got.dynexit["layer_saving"] == pytest.approx(expected.layer_saving)
    assert got.dynexit["layers"] == 12


def test_many_at_once_are_the_librarys(server: Running) -> None:
    jobs = [
        (prompt, {"temperature": t, "seed": seed, "top_p": 0.9})
        for seed, prompt in enumerate(PROMPTS)
        for t in (0, 0.8)
    ]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda job: ask(server, job[0], **job[1]), jobs))
    for (prompt, settings), got in zip(jobs, answers, strict=True):
        expected = library(server, prompt, **settings)
        assert got.choices[0].text == expected.text
        assert got.dynexit["exit_layers"] == exits(expected)


def test_a_stream_gives_the_same_token_by_token(server: Running) -> None:
    expected = library(server, LONG)
    chunks = list(ask(server, LONG, stream=True, stream_options={"include_usage": True}))
    tokens, last, counted = chunks[:-2], chunks[-2], chunks[-1]
    assert [c.choices[0].text for c in tokens] == [t.text for t in expected.tokens]
    assert [c.dynexit["exit_layer"] for c in tokens] == exits(expected)
    assert [c.dynexit["score"] for c in tokens] == pytest.approx(
        [t.score for t in expected.tokens], abs=1e-4
    )
    assert {c.choices[0].finish_reason for c in tokens} == {None}
    assert last.choices[0].finish_reason in ("stop", "length")
    assert last.dynexit["exit_layers"] == exits(expected)
    assert counted.choices == []
    assert counted.usage.completion_tokens == len(expected.tokens)
    assert counted.dynexit["exit_layers"] == exits(expected)


def test_chat_streams_and_answers(server: Running) -> None:
    prompt = "Be brief.\nQ: What is the capital of France?\nA:"
    stop = ("\nQ:", "\nA:")
    expected = library(server, prompt, max_new_tokens=1000, stop=stop)
    asked: dict[str, Any] = {
        "model": "reference:mistral",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is the capital of France?"}],
            },
        ],
        "temperature": 0,
    }
    got = server.client().chat.completions.create(**asked)
    assert got.choices[0].message.content == expected.text
    assert got.choices[0].message.role == "assistant"
    chunks = list(server.client().chat.completions.create(**asked, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == expected.text
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].dynexit["exit_layers"] == exits(expected)  # type: ignore[attr-defined]


def test_choices_draw_as_rows_of_the_library(server: Running) -> None:
    made = GenerationSettings(max_new_tokens=12, temperature=1.0, seed=7, repetition_penalty=1.2)
    policy = server.plan.depths.policy
    expected = generate(server.plan.model, [QUESTION] * 3, made, policy)
    got = ask(
        server,
        QUESTION,
        n=3,
        max_tokens=12,
        temperature=1.0,
        seed=7,
        extra_body={"repetition_penalty": 1.2},
    )
    assert [choice.text for choice in got.choices] == [answer.text for answer in expected]
    assert [c.dynexit["exit_layers"] for c in got.choices] == [exits(a) for a in expected]
    assert got.usage.prompt_tokens == expected[0].prompt_tokens
    assert got.usage.completion_tokens == sum(len(answer.tokens) for answer in expected)


def test_lists_of_prompts_and_token_ids(server: Running) -> None:
    texts = [QUESTION, PROMPTS[2]]
    ids = [server.plan.model.tokenizer.encode(text) for text in texts]
    expected = [library(server, text).text for text in texts]
    for prompt in (texts, ids):
        got = ask(server, prompt)  # type: ignore[arg-type]
        assert [choice.text for choice in got.choices] == expected
    assert ask(server, ids[0]).choices[0].text == expected[0]  # type: ignore[arg-type]


def test_stop_and_echo(server: Running) -> None:
    whole = library(server, LONG).text
    stop = whole.strip()[3:5]
    got = ask(server, LONG, stop=[stop, "zzz"])
    assert got.choices[0].text == whole[: whole.index(stop)]
    assert got.choices[0].finish_reason == "stop"
    assert ask(server, QUESTION, echo=True).choices[0].text.startswith("Question: What is")


def test_logprobs_of_completions_and_chat(server: Running) -> None:
    got = ask(server, QUESTION, logprobs=2).choices[0]
    likely = got.logprobs
    assert "".join(likely.tokens[:2]) == got.text[: len("".join(likely.tokens[:2]))]
    assert likely.text_offset[:2] == [0, len(likely.tokens[0])]
    for token, logprob, top in zip(
        likely.tokens, likely.token_logprobs, likely.top_logprobs, strict=True
    ):
        assert logprob <= 0
        assert top[token] == max(top.values()) == logprob  # greedy
    chat = server.client().chat.completions.create(
        model="reference:mistral",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
        logprobs=True,
        top_logprobs=3,
        max_tokens=2,
    )
    content = chat.choices[0].logprobs
    assert content is not None
    assert content.content is not None
    assert [len(one.top_logprobs) for one in content.content] == [3, 3]
    assert bytes(content.content[0].bytes or []).decode() == content.content[0].token


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_request_has_its_own_threshold(server: Running, threshold: float) -> None:
    policy = server.plan.depths.policy
    assert policy is not None
    own = replace(policy, thresholds=(threshold,) * len(policy.layers))
    settings = GenerationSettings(max_new_tokens=16)
    expected = generate(server.plan.model, [QUESTION], settings, own)[0]
    got = ask(server, QUESTION, max_tokens=16, extra_body={"threshold": threshold})
    assert got.choices[0].text == expected.text
    assert got.dynexit["exit_layers"] == exits(expected)


def test_a_threshold_above_one_is_full_depth(server: Running) -> None:
    expected = generate(server.plan.model, [LONG], GenerationSettings(max_new_tokens=16))[0]
    got = ask(server, LONG, max_tokens=16, extra_body={"threshold": 2})
    assert got.choices[0].text == expected.text
    assert set(got.dynexit["exit_layers"]) == {12}


def test_a_request_has_its_own_risk(server: Running) -> None:
    policy, ladder = server.plan.depths.policy, server.plan.depths.ladder
    assert policy is not None
    rung = next(rung for rung in ladder if rung.risk == 0.1)
    own = replace(policy, thresholds=rung.thresholds)
    expected = generate(server.plan.model, [LONG], GenerationSettings(max_new_tokens=16), own)[0]
    got = ask(server, LONG, max_tokens=16, extra_body={"risk": 0.1})
    assert got.dynexit["exit_layers"] == exits(expected)
    with pytest.raises(openai.BadRequestError, match=r"certified are: 0\.01, 0\.02, 0\.05, 0\.1"):
        ask(server, LONG, extra_body={"risk": 0.3})


def test_lossless_answers_are_the_full_models_among_others(server: Running) -> None:
    full = [
        generate(server.plan.model, [prompt], GenerationSettings(max_new_tokens=24))[0]
        for prompt in PROMPTS
    ]
    plain = [library(server, prompt) for prompt in PROMPTS]
    jobs = [(prompt, lossless) for prompt in PROMPTS for lossless in (True, False)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda job: ask(server, job[0], extra_body={"lossless": job[1]}), jobs)
        )
    assert [one.choices[0].text for one in answers[::2]] == [one.text for one in full]
    assert [one.choices[0].text for one in answers[1::2]] == [one.text for one in plain]
    drafted = [one.dynexit["drafted"] for one in answers[::2]]
    accepted = [one.dynexit["accepted"] for one in answers[::2]]
    assert all(a <= d for a, d in zip(accepted, drafted, strict=True))
    assert sum(accepted) > 0
    assert all("drafted" not in one.dynexit for one in answers[1::2])


def test_lossless_streams_draw_with_stops(server: Running) -> None:
    asked = {"temperature": 0.8, "seed": 3, "n": 2, "stop": ["the"], "stream": True}
    chunks = list(ask(server, LONG, **asked, extra_body={"lossless": True}))
    ends = [c for c in chunks if c.choices[0].finish_reason]
    assert sorted(c.choices[0].index for c in ends) == [0, 1]
    for end in ends:
        mine = [c for c in chunks if c.choices[0].index == end.choices[0].index and c is not end]
        assert [c.dynexit["exit_layer"] for c in mine] == end.dynexit["exit_layers"]
        assert "the" not in "".join(c.choices[0].text for c in mine)
        assert end.dynexit["drafted"] >= end.dynexit["accepted"]


def test_unknown_fields_are_left_alone(server: Running) -> None:
    assert ask(server, QUESTION, extra_body={"nobody_knows": [1, {"a": None}]}).choices[0].text


def test_models(server: Running) -> None:
    assert [model.id for model in server.client().models.list()] == ["reference:mistral"]
    assert server.client().models.retrieve("reference:mistral").id == "reference:mistral"
    told = server.client().models.retrieve("reference:mistral").dynexit  # type: ignore[attr-defined]
    policy = server.plan.depths.policy
    assert policy is not None
    assert told["layers"] == 12
    assert told["judge"] == "mamba"
    assert tuple(told["exits"]) == policy.layers
    assert tuple(told["threshold"]) == policy.thresholds
    with pytest.raises(openai.NotFoundError):
        server.client().models.retrieve("gpt-4")
