"""Small sound files of every kind, which broken ones are made from."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from checkpoints import COMMON, SHAPES
from dynexit.calibration.certificate import Certificate, save_certificates
from dynexit.exits.fingerprint import Fingerprint
from dynexit.inference.generation import GeneratedToken, Generation
from evaluation.official import TRUTHFUL, story, trivium
from models.zoo import FAMILIES
from reporting.report.sweeps import write_sweep

BACKBONE = Fingerprint("mistral", 4, 32, 256, "ab" * 32)
JINJA = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[I] {{ m.content | trim }}"
    "{% else %}{{ m['content'] ~ eos_token }}{% endif %}{% endfor %}"
    "{{ messages | tojson(indent=1) }}{% if add_generation_prompt %}A{% endif %}"
)
PROMPTS = (
    b'{"prompt": "Where is it?", "answer": " here"}\n{"text": "a text"}\n\n'
    b'{"prompt": "Who is it?", "group": 3}\n{"prompt": "\xc3\xa9", "answer": null}\n'
)
GENERATION = [
    json.dumps(
        {"do_sample": True, "temperature": 0.7, "top_k": 5, "top_p": 0.9, "eos_token_id": [2, 3]}
    ).encode(),
    json.dumps({"eos_token_id": 2, "min_p": 0.1, "repetition_penalty": 1.2}).encode(),
]
COQA = [json.dumps({"version": "1.0", "data": [story(), story("s2", "cnn")]}).encode()]
_PAGES = [{"Filename": "a.txt", "WikiContext": "some words", "Title": "a"}]
_RESULTS = [{"Filename": "b.txt", "Description": "a text", "SearchContext": "more words"}]
TRIVIAQA = [
    json.dumps(
        {
            "Data": [
                trivium(),
                trivium("tc_2", EntityPages=_PAGES, SearchResults=_RESULTS),
                trivium("tc_3", SearchResults=_RESULTS),
            ],
            "Domain": "Web",
            "VerifiedEval": False,
        }
    ).encode()
]


def _truthful() -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(TRUTHFUL[0]))
    writer.writeheader()
    writer.writerows(TRUTHFUL)
    return text.getvalue().encode()


TRUTHFULQA = [_truthful()]


def _tokenizer(model: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": 0,
                    "content": "<s>",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
            ],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": model,
        }
        | more
    ).encode()


_LETTERS = {letter: number for number, letter in enumerate(["<s>", *"twowrdsabefé"], 0)}
TOKENIZERS = [
    _tokenizer(
        {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<s>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": _LETTERS | {"tw": 20, "two": 21},
            "merges": [["t", "w"], ["tw", "o"]],
        },
        truncation={"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    ),
    _tokenizer(
        {
            "type": "WordPiece",
            "unk_token": "<s>",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": _LETTERS | {"##s": 30},
        },
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    ),
    _tokenizer(
        {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<s>", 0.0], ["t", -1.0], ["wo", -2.0], ["é", -3.0]],
            "byte_fallback": False,
        },
        normalizer={"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"},
        pre_tokenizer={"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"},
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
    ),
]


def more_configs() -> list[dict[str, Any]]:
    """One ``config.json`` of every family and of the options of rotary positions."""
    own = [{**shape, **COMMON, "num_hidden_layers": 2} for shape in SHAPES.values()]
    return own + [{"vocab_size": 96, "eos_token_id": 2, **fields} for fields in FAMILIES.values()]


def rotary_configs(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """A transformer's ``config.json`` with each kind of rotary positions, in the words of today
    (``rope_parameters``) and of yesterday (``rope_theta``, ``rope_scaling``)."""
    kinds: list[dict[str, Any]] = [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
    ]
    for kind in kinds[3:]:
        kind["original_max_position_embeddings"] = 32
    bare = {name: value for name, value in raw.items() if name != "rope_theta"}
    today = [bare | {"rope_parameters": {"rope_theta": 5000.0, **kind}} for kind in kinds]
    return today + [raw | {"rope_scaling": kind} for kind in kinds[1:]]


def certificates(place: Path) -> list[bytes]:
    """Files of certificates, with and without the digest that would find every change."""
    one = Certificate(
        risk_kind="text",
        risk=0.05,
        confidence=0.95,
        threshold=0.97,
        thresholds=(0.97, 0.97),
        empirical_risk=0.012,
        p_value=0.003,
        n=300,
        data="cd" * 8,
        judge="mamba",
        judge_digest="ef" * 8,
        layers=(2, 3),
        state="recompute",
        backbone=BACKBONE,
        dynexit="0.1.0",
        date="2026-01-31",
    )
    content = json.loads(save_certificates(place, [one], BACKBONE).read_text())
    unsigned = {name: value for name, value in content.items() if name != "sha256"}
    return [json.dumps(unsigned).encode(), json.dumps(content).encode()]


def journal() -> bytes:
    """Two answers of a calibration, as they are kept until it is done."""
    answer = Generation(
        prompt_tokens=3,
        tokens=(GeneratedToken(5, "a", 2, 0.9), GeneratedToken(7, "b", 4, None)),
        text="ab",
        layers=4,
        seconds=0.5,
        prefill_seconds=0.1,
        finish="stop",
    )
    rows = [{"way": "full", "question": n, **asdict(answer)} for n in range(2)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def sweep_files(place: Path) -> dict[str, bytes]:
    """The files of a small sweep, written to ``place`` and by name."""
    write_sweep(place, states=("recompute",), judges=("linear",), n=4, tasks=("trivia",))
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
