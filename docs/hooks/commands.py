"""Writes the page of commands from the commands themselves, whenever the site is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from dynexit.cli import app

PAGE = "commands.md"
PLAIN = "Options"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """All commands, as ``dynexit COMMAND --help`` has them."""
    group = typer.main.get_command(app)
    commands: dict[str, Any] = group.commands  # type: ignore[attr-defined]
    head = (
        "# Commands\n\n" + _prose(group.help or "") + "\n\n"
        "Every command takes `--debug`, which shows the traceback of an error. Exit codes: 0 for "
        "success, 2 for a mistake of the user, told in one line, 130 when stopped, 1 for a defect "
        "of dynexit. With `--json` one JSON object, and nothing else, goes to standard output.\n"
    )
    return "\n".join([head, *(_command(name, command) for name, command in commands.items())])


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join(["dynexit", name, *(p.metavar or p.name.upper() for p in arguments)])
    parts = [f"## {name}", f"```text\n{usage} [OPTIONS]\n```", _prose(command.help or "")]
    if arguments:
        parts.append(_table("Argument", [(f"`{p.metavar}`", _told(p)) for p in arguments]))
    panels = dict.fromkeys(p.rich_help_panel or PLAIN for p in options)
    for panel in sorted(panels, key=lambda panel: panel == PLAIN):
        rows = [(_names(p), _told(p)) for p in options if (p.rich_help_panel or PLAIN) == panel]
        parts.append(_table(panel, rows))
    return "\n\n".join(parts) + "\n"


def _names(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    value = "" if option.is_flag else f" {option.metavar or ''}".rstrip()
    return ", ".join(f"`{name}{value}`" for name in names)


def _told(parameter: Any) -> str:
    """What help says of it, with its default where that says something."""
    told = " ".join((parameter.help or "").split())
    if parameter.required and parameter.param_type_name == "option":
        told += " Required."
    default = parameter.default
    if default not in (None, False, True, (), []) and parameter.show_default is not False:
        told += f" Default: `{default}`."
    if (variable := getattr(parameter, "envvar", None)) is not None:
        told += f" Environment: `{variable}`."
    return told.replace("|", "\\|").replace("<", "&lt;")


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head} | |", "|---|---|", *(f"| {name} | {told} |" for name, told in rows)]
    return "\n".join(lines)


def _prose(text: str) -> str:
    """Help as Markdown: its examples become blocks that can be copied."""
    return "\n\n".join(_paragraphs(text))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        line = " ".join(paragraph.split())
        example = re.fullmatch(r"(Example|Begin with): `(.*)`", line)
        yield f"{example[1]}:\n\n```sh\n{example[2]}\n```" if example else line
