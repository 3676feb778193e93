"""Chat templates: equal to transformers' own rendering, and clear where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from checkpoints import make_checkpoint
from dynexit.errors import UserError
from dynexit.files import read_json, write_json
from dynexit.inference.chat_template import load_chat_template, questions_template
from dynexit.models import Model, load_model
from dynexit.reference.corpus.item import STORIES, TRIVIA, Item, Turn, prompt

CHATML = """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
INST = """{{ bos_token }}{% for message in messages -%}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user and assistant') }}
    {% endif %}
    {% if message['role'] == 'user' %}
        {{- '[INST] ' + message['content'] + ' [/INST]' }}
    {% else %}
        {{- ' ' + message['content'] + eos_token }}
    {% endif %}
{% endfor %}"""
HEADERS = """{%- set found = namespace(system='') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- set found.system = message.content %}{% continue %}
    {%- endif %}
    {%- generation %}{{ '<|' + message.role + '|>' + message.content | trim }}{% endgeneration %}
{%- endfor %}
{{- found.system | tojson }}{{ strftime_now('%Y') }}{{ messages | length }}"""
TEMPLATES = {"chatml": CHATML, "inst": INST, "headers": HEADERS}

TALK = [
    {"role": "user", "content": 'Who was Ada? <b>"é"</b>'},
    {"role": "assistant", "content": " A mathematician.\n"},
    {"role": "user", "content": "When?"},
]
SYSTEM = {"role": "system", "content": "Be brief & 'kind'."}


def chat_checkpoint(directory: Path) -> Path:
    """A checkpoint whose tokenizer has special tokens and puts one before every prompt."""
    make_checkpoint(directory, "mistral")
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    # two of the 256 tokens become special, so that the vocabulary stays the model's
    begin, end = tokenizer.id_to_token(1), tokenizer.id_to_token(2)
    tokenizer.add_special_tokens([begin, end])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{begin}:0 $A:0", special_tokens=[(begin, 1)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": {"content": begin, "special": True, "__type": "AddedToken"},
        "eos_token": end,
    }
    write_json(directory / "tokenizer_config.json", config)
    return directory


def set_template(directory: Path, template: object) -> None:
    path = directory / "tokenizer_config.json"
    write_json(path, {**read_json(path), "chat_template": template})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return chat_checkpoint(tmp_path / "chat")


def model_of(directory: Path) -> Model:
    return load_model(str(directory))


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja"])
@pytest.mark.parametrize(
    ("name", "system"),
    [("chatml", [SYSTEM]), ("chatml", []), ("inst", []), ("headers", [SYSTEM]), ("headers", [])],
)
def test_as_transformers_renders(
    checkpoint: Path, name: str, place: str, system: list[dict[str, str]]
) -> None:
    if place == "chat_template.jinja":
        (checkpoint / place).write_text(TEMPLATES[name], encoding="utf-8")
    else:
        set_template(checkpoint, TEMPLATES[name])
    oracle = AutoTokenizer.from_pretrained(str(checkpoint))
    talk = [*system, *TALK]
    model = model_of(checkpoint)
    template = load_chat_template(model)
    text = oracle.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert template.render(talk) == text
    ids: Any = oracle.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert template.encode(model.tokenizer, talk) == ids


def test_the_first_token_is_not_put_twice(checkpoint: Path) -> None:
    set_template(checkpoint, INST)
    model = model_of(checkpoint)
    assert model.tokenizer.encode("x")[0] == 1
    assert load_chat_template(model).encode(model.tokenizer, TALK)[:2].count(1) == 1


def test_named_templates_and_files(checkpoint: Path) -> None:
    set_template(
        checkpoint, [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]
    )
    model = model_of(checkpoint)
    assert load_chat_template(model).render(TALK) == "D"
    file = checkpoint / "own.jinja"
    file.write_text("{{ messages[0].content }}{{ eos_token }}", encoding="utf-8")
    eos = load_chat_template(model, str(file)).special_tokens["eos_token"]
    assert load_chat_template(model, str(file)).render(TALK) == TALK[0]["content"] + eos


def test_questions_and_answers() -> None:
    assert questions_template().render(TALK) == (
        'Question: Who was Ada? <b>"é"</b>\nAnswer: A mathematician.\nQuestion: When?\nAnswer:'
    )


def test_questions_are_those_of_the_reference_corpus() -> None:
    turns = (Turn("Where is Tom?", "In the garden"), Turn("And Ann?", "At home"))
    talk = [
        {"role": "user", "content": turns[0].question},
        {"role": "assistant", "content": turns[0].answer},
        {"role": "user", "content": turns[1].question},
    ]
    story = {"role": "system", "content": "Story: Tom went out. Ann did not."}
    item = Item(STORIES, "", "Tom went out. Ann did not.", turns, 1)
    assert questions_template().render([story, *talk]) == prompt(item, 1)
    assert questions_template().render(talk) == prompt(Item(TRIVIA, "", "", turns, 1), 1)


def test_questions_get_the_tokens_that_prompts_get(checkpoint: Path) -> None:
    model = model_of(checkpoint)
    template = load_chat_template(model, "questions")
    ids = template.encode(model.tokenizer, TALK)
    assert ids == model.tokenizer.encode(template.render(TALK))
    assert ids[0] == 1


def test_the_reference_pair_is_asked_questions() -> None:
    assert load_chat_template(load_model("reference:mistral")).place == "questions"


def refusal(checkpoint: Path, template: object, talk: object = TALK) -> str:
    if template is not None:
        set_template(checkpoint, template)
    with pytest.raises(UserError) as caught:
        load_chat_template(model_of(checkpoint)).render(talk)  # type: ignore[arg-type]
    return str(caught.value)


def test_mistakes_are_told(checkpoint: Path) -> None:
    assert "has no chat template" in refusal(checkpoint, None)
    assert "no valid chat template" in refusal(checkpoint, "{% for %}")
    assert "no template named 'default'" in refusal(checkpoint, [{"name": "a", "template": "b"}])
    assert "roles must alternate" in refusal(checkpoint, INST, [SYSTEM, *TALK])
    assert "messages is empty" in refusal(checkpoint, INST, [])
    assert "messages[1] has no 'content'" in refusal(checkpoint, INST, [SYSTEM, {"role": "user"}])
    assert "messages[0] has no 'role'" in refusal(checkpoint, INST, ["hello"])


def test_templates_run_in_a_sandbox(checkpoint: Path) -> None:
    for attack in (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['sys'] }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
    ):
        assert "refused" in refusal(checkpoint, attack)


def test_a_template_must_be_readable(checkpoint: Path) -> None:
    model = model_of(checkpoint)
    with pytest.raises(UserError, match="cannot be read as a chat template"):
        load_chat_template(model, "no/such/file")


def test_a_name_of_a_template_may_be_anything(checkpoint: Path) -> None:
    named = [{"name": ["x"], "template": "a"}, {"name": "b", "template": "c"}]
    assert "no template named 'default'" in refusal(checkpoint, named)


def test_half_a_surrogate_pair_is_refused(checkpoint: Path) -> None:
    talk = [{"role": "user", "content": "\ud800"}]
    assert "surrogates not allowed" in refusal(checkpoint, INST, talk)
