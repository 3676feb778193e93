"""The documentation: it builds, and what it shows runs.

Blocks of ``sh`` and ``python`` of a page are run from top to bottom in an empty directory. One
whose title says what it needs, or how long it takes, is not run; its commands must parse all the
same.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import typer

from dynexit.cli import app
from dynexit.exits.exit_set import load_exit_set
from dynexit.exits.judge import Evidence
from dynexit.models import load_model
from dynexit.reference.pair import exits_directory

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^( *)```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SHELLS, ENDS = ("sh", "console"), {"|", ">", "<", "&&", ";", "2>"}
FETCHED = re.compile(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//")
PAGES = sorted(p for p in DOCS.rglob("*.md") if p.name not in ("serving.md", "lm-eval.md"))


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    code: str


def blocks(path: Path) -> list[Block]:
    """The blocks of a page in order, without their indentation."""
    found = BLOCK.findall(path.read_text(encoding="utf-8"))
    return [
        Block(language, title, re.sub(f"^{indent}", "", code, flags=re.MULTILINE))
        for indent, language, title, code in found
    ]


def commands(code: str) -> Iterator[list[str]]:
    """The words of each call of dynexit in a shell block; of a console, of lines after ``$``."""
    code = re.sub(r"<<'(\w+)'\n.*?^\1$", "", code, flags=re.MULTILINE | re.DOTALL)
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        before = [";", *words]
        for start, word in enumerate(words):
            if word != "dynexit" or before[start] not in ENDS:
                continue
            rest = words[start + 1 :]
            end = next((at for at, word in enumerate(rest) if word in ENDS), len(rest))
            yield rest[:end]


def hook(name: str) -> ModuleType:
    """A module of ``docs/hooks``."""
    pytest.importorskip("mkdocs", reason="needs dynexit[docs]")
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parser() -> Any:
    return typer.main.get_command(app)


SHOWN = [
    (path.relative_to(ROOT).as_posix(), words)
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
    for block in blocks(path)
    if block.language in SHELLS
    for words in commands(block.code)
]


def test_commands_are_found() -> None:
    assert len(SHOWN) > 40
    assert ["demo"] not in [words for _, words in SHOWN]  # of a name in prose, not of a shell


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=lambda value: " ".join(value)[:60])
def test_every_command_shown_is_understood(page: str, words: list[str]) -> None:
    group = parser()
    assert words[0] in group.commands, f"{page}: no command is called {words[0]}"
    command = group.commands[words[0]]
    context = command.make_context(words[0], list(words[1:]))
    if words[0] != "lm-eval":
        assert not context.args, f"{page}: {context.args} are too many"


def run_page(path: Path, place: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path):
        if block.title:
            continue
        if block.language == "python":
            exec(compile(block.code, str(path), "exec"), names)
        elif block.language == "sh":
            call = ["bash", "-euo", "pipefail", "-c", block.code]
            done = subprocess.run(call, cwd=place, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{block.code}\n{done.stderr}"


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_python_of_the_first_pages_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks(ROOT / page):
        if block.language == "python":
            exec(block.code, names)
    assert capsys.readouterr().out.startswith(" Paris")


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_pages_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(path, tmp_path)


def test_every_command_and_option_is_in_the_reference() -> None:
    page = hook("commands").page()
    for name, command in parser().commands.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert all(f"`{option}" in section for option in parameter.opts), (name, parameter)


def test_pages_of_the_repository_are_there() -> None:
    assert all((ROOT / source).is_file() for source in hook("repository").PAGES)


def test_an_exit_set_is_read_without_dynexit() -> None:
    block = next(b for b in blocks(DOCS / "interoperability.md") if "linear_score" in b.code)
    assert "dynexit" not in block.code
    names: dict[str, Any] = {}
    exec(block.code, names)
    backbone = load_model("reference:mistral").backbone
    directory = exits_directory("mistral", "linear")
    judge = load_exit_set(directory, backbone).judge
    hidden = 3 * torch.randn(5, backbone.config.hidden)
    with torch.inference_mode():
        state = judge.new_state(5)
        for exit in range(len(judge.layers)):
            evidence = Evidence(exit, hidden, lambda exit, hidden: hidden)
            ours = judge.score(exit, evidence, state, None).numpy()
            theirs = names["linear_score"](directory, exit, hidden.numpy())
            np.testing.assert_allclose(theirs, ours, rtol=1e-5)
            assert theirs.std() > 0


def documented_tensors(sizes: dict[str, int]) -> dict[str, dict[str, list[int]]]:
    """Name (of exit ``k``) and shape of every tensor in the page's table, by kind of judge."""
    page = (DOCS / "interoperability.md").read_text(encoding="utf-8")
    table = page.split("### exits.safetensors")[1].split("|---|---|---|")[1].split("\n\n")[0]
    found: dict[str, dict[str, list[int]]] = {}
    kind, parts = "", [""]
    for row in table.strip().splitlines():
        judge, names, shapes = (cell.strip() for cell in row.strip("|").split("|"))
        kind = re.sub(r"`(\w+)`.*", r"\1", judge) or kind
        listed = re.findall(r"`([^`]+)`", names)
        told = re.findall(r"\[([^\]]+)\]", shapes)
        for name, shape in zip(
            listed, told * len(listed) if "each" in shapes else told, strict=True
        ):
            end = name.strip(".").split(".")
            parts = parts[: -len(end)] + end if name.startswith(".") else end
            size = [eval(side, {}, sizes) for side in shape.split(",")]
            found.setdefault(kind, {})[".".join(parts)] = size
    return found


def test_tensors_of_exit_sets_are_those_documented() -> None:
    from safetensors import safe_open

    mamba = {"h": 2, "N": 16, "K": 4, "I": 64, "C": 96}
    documented = documented_tensors({"H": 224, "W": 128} | mamba)
    assert documented["any, with translators"]["translators.maps.k.bias"] == [224]
    for kind in ("linear", "ffn", "mamba"):
        with safe_open(exits_directory("mamba2", kind) / "exits.safetensors", "np") as file:
            there = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tensor.get_shape() for name, tensor in there.items()}
            assert {tensor.get_dtype() for tensor in there.values()} == {"F32"}
        for exit in range(2):
            named = {n.replace(".k.", f".{exit}."): s for n, s in documented[kind].items()}
            assert {n: s for n, s in shapes.items() if f"_heads.{exit}." in n} == named


@pytest.mark.slow
def test_the_site_builds_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs dynexit[docs]")
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        html = path.read_text(encoding="utf-8")
        fetched = re.findall(
            r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//", html
        )
        assert not fetched, path.name
    for path in tmp_path.rglob("*.svg"):
        assert 'url("http' not in path.read_text(encoding="utf-8"), path.name
