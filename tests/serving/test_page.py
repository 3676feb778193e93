"""The page's files: nothing from elsewhere, nothing inline, all of it served."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
import pytest
from tests.serving.running import Running

from dynexit.serving.app import PAGE

FILES = sorted(path for path in PAGE.iterdir())
TYPES = {".html": "text/html", ".css": "text/css", ".js": "javascript", ".svg": "image/svg+xml"}


class Elements(HTMLParser):
    """The elements of a page, as (name, attributes)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def elements() -> list[tuple[str, dict[str, str | None]]]:
    return Elements((PAGE / "index.html").read_text(encoding="utf-8")).found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_served(server: Running, path: object) -> None:
    assert path in FILES
    answer = httpx.get(f"{server.url}/{path.name}")  # type: ignore[attr-defined]
    assert answer.status_code == 200
    assert TYPES[path.suffix] in answer.headers["content-type"]  # type: ignore[attr-defined]


def test_the_page_is_at_the_root(server: Running) -> None:
    assert httpx.get(server.url).content == (PAGE / "index.html").read_bytes()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere(path: object) -> None:
    text = path.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert set(re.findall(r"\w+://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}


def test_nothing_is_inline(elements: list[tuple[str, dict[str, str | None]]]) -> None:
    for tag, attributes in elements:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    for path in PAGE.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", path.read_text())


def test_the_policy_lets_nothing_else_run(
    elements: list[tuple[str, dict[str, str | None]]],
) -> None:
    (policy,) = [
        attributes["content"]
        for tag, attributes in elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy


def test_every_field_has_a_label() -> None:
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    labelled = set(re.findall(r'<label for="([\w-]+)"', text))
    inside = set(re.findall(r'<label[^>]*>[^<]*<(?:input|textarea) id="([\w-]+)"', text))
    fields = set(re.findall(r'<(?:input|textarea) id="([\w-]+)"', text))
    assert fields
    assert fields == labelled | inside
