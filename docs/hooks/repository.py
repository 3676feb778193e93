"""Pages that live elsewhere in the repository, and links to its files that hold in both places."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "benchmarks/README.md": "benchmarks.md",
    "studies/pair/README.md": "studies/pair.md",
    "studies/paper/README.md": "studies/paper.md",
    "studies/modes/README.md": "studies/modes.md",
    "studies/finetune/README.md": "studies/finetune.md",
    "SECURITY.md": "security.md",
    "src/dynexit/reference/weights/README.md": "model-card.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository."""
    for source, page in PAGES.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files of the repository to their pages; what has none is named as a file."""
    here = page.file.src_uri
    folder = Path(SOURCES.get(here, f"docs/{here}")).parent
    return LINK.sub(lambda found: _link(found, folder, here), markdown)


def _link(found: re.Match[str], folder: Path, here: str) -> str:
    text, target, anchor = found[1], found[2], found[3] or ""
    path = normpath((folder / target).as_posix())
    if ":" in target or not (ROOT / path).exists():
        return found[0]
    page = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if page is None:
        return f"`{path}`" if text.strip("`") in (path, target) else f"{text} (`{path}`)"
    return f"[{text}]({relpath(page, Path(here).parent.as_posix())}{anchor})"
