"""The page in a real browser, asking a real server. Skipped where there is no Chromium."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.serving.running import Running

from checkpoints import make_checkpoint
from dynexit.inference.generate import generate
from dynexit.inference.settings import GenerationSettings
from dynexit.models import load_model
from dynexit.serving.depths import Depths
from dynexit.serving.server import Plan

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]

PROMPT = "Question: What is the capital of France?\nAnswer:"
STORY = "Story: Emma took the lamp to the garden. Tom went to the attic.\nQ: Where is the lamp?\nA:"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Opens pages, and sees that they ask nobody else and that nothing goes wrong in them."""
    context = browser.new_context()
    wrong: list[str] = []

    def opened(url: str) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "CSP" in said.text else None)
        page.on("request", lambda r: None if r.url.startswith(url) else wrong.append(r.url))
        page.goto(url)
        return page

    yield opened
    context.close()
    assert not wrong


@pytest.fixture
def page(server: Running, open_page: Callable[[str], Page]) -> Page:
    page = open_page(server.url)
    playwright.expect(page.get_by_text("reference:mistral, 12 layers, judge mamba")).to_be_visible()
    return page


def ask(page: Page, prompt: str, button: str = "Answer") -> None:
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name=button, exact=button == "Answer").click()
    playwright.expect(page.locator("#stop")).to_be_disabled()


def test_an_answer_and_its_depth(page: Page, server: Running) -> None:
    ask(page, STORY)
    settings = GenerationSettings(max_new_tokens=128)
    expected = generate(server.plan.model, [STORY], settings, server.plan.depths.policy)[0]
    shown = page.get_by_role("option")
    visible = [token for token in expected.tokens if token.text]
    assert shown.evaluate_all("all => all.map(one => one.textContent)") == [
        token.text for token in visible
    ]
    assert shown.evaluate_all("all => all.map(one => Number(one.dataset.layer))") == [
        token.exit_layer for token in visible
    ]
    layers = [token.exit_layer for token in expected.tokens]
    counted = ", ".join(f"layer {n}: {layers.count(n)}" for n in (2, 3, 12))
    label = page.locator(".histogram svg").get_attribute("aria-label")
    assert label == f"Tokens by exit layer. {counted}"
    figures = page.locator(".figures").inner_text()
    assert f"{expected.mean_exit_layer:.1f} of 12" in figures
    assert f"{expected.layer_saving:.0%}" in figures
    told = page.locator("#told")
    playwright.expect(told).to_contain_text(expected.text.strip().splitlines()[0])


def test_the_slider_decides(page: Page) -> None:
    slider = page.get_by_role("slider")
    assert (slider.get_attribute("aria-valuetext") or "").startswith(
        "the server's own, 0.977 to 0.9998"
    )
    slider.press("Home")
    assert slider.get_attribute("aria-valuetext") == "0"
    ask(page, PROMPT)
    assert set(page.get_by_role("option").evaluate_all("a => a.map(o => o.dataset.layer)")) == {"2"}
    slider.press("End")
    assert slider.get_attribute("aria-valuetext") == "full depth"
    ask(page, PROMPT)
    assert set(page.get_by_role("option").evaluate_all("a => a.map(o => o.dataset.layer)")) == {
        "12"
    }
    page.get_by_role("button", name="the server's own").click()
    assert (slider.get_attribute("aria-valuetext") or "").startswith("the server's own")


def test_side_by_side(page: Page) -> None:
    ask(page, PROMPT, "Side by side")
    assert page.get_by_role("heading", level=2).all_inner_texts() == ["With exits", "Full depth"]
    verdict = page.locator("#verdict").inner_text()
    assert re.fullmatch(
        r"Token for token the same answer; [\d.]+ s with exits, [\d.]+ s at full depth\.", verdict
    )
    page.get_by_role("slider").press("Home")
    ask(page, STORY, "Side by side")
    assert "The answers differ from token" in page.locator("#verdict").inner_text()
    assert page.locator(".token.other").count() >= 1


def test_by_keyboard(page: Page) -> None:
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_label("Prompt").press("Control+Enter")
    playwright.expect(page.get_by_role("option", name="Paris")).to_be_visible()
    playwright.expect(page.locator("#stop")).to_be_disabled()
    tokens = page.get_by_role("listbox")
    tokens.focus()
    tokens.press("ArrowRight")
    first = page.get_by_role("option").first
    assert first.get_attribute("aria-selected") == "true"
    assert tokens.get_attribute("aria-activedescendant") == first.get_attribute("id")
    assert re.match(
        r" Paris (left after layer \d+|all 12 layers).*, score [01]\.\d{4}; most probable:",
        page.locator(".inspector").text_content() or "",
    )


def test_hovering_tells_candidates(page: Page) -> None:
    ask(page, PROMPT)
    page.get_by_role("option", name="Paris").hover()
    inspector = page.locator(".inspector")
    assert inspector.locator("code").count() == 4  # the token and three candidates
    assert re.search(r"Paris \d+%", inspector.text_content() or "")


def test_numbers_for_who_sees_no_colours(page: Page) -> None:
    ask(page, PROMPT)
    content = "one => getComputedStyle(one, '::after').content"
    first = page.get_by_role("option").first
    assert first.evaluate(content) == "none"
    page.get_by_label("Numbers").check()
    assert first.evaluate(content) == f'"{first.get_attribute("data-layer")}"'


def test_refusals_are_told(page: Page) -> None:
    ask(page, " ".join(["word"] * 3000))
    assert page.get_by_role("alert").inner_text()
    ask(page, PROMPT)
    playwright.expect(page.get_by_role("alert")).to_be_hidden()


def test_a_locked_server_wants_its_key(
    start: Callable[[Plan], Running], plan: Plan, open_page: Callable[[str], Page]
) -> None:
    page = open_page(start(replace(plan, key="sesame")).url)
    playwright.expect(page.get_by_role("alert")).to_contain_text("API key")
    page.get_by_label("API key").fill("sesame")
    page.get_by_label("API key").blur()
    playwright.expect(page.get_by_text("reference:mistral, 12 layers")).to_be_visible()
    ask(page, PROMPT)
    playwright.expect(page.get_by_role("option", name="Paris")).to_be_visible()


def test_an_answer_can_be_stopped(
    start: Callable[[Plan], Running], tmp_path: Path, open_page: Callable[[str], Page]
) -> None:
    endless = load_model(str(make_checkpoint(tmp_path / "m", "mamba2", depth=2)))
    page = open_page(start(Plan(endless, "endless", Depths(), None)).url)
    playwright.expect(page.get_by_text("endless, 2 layers, no exits")).to_be_visible()
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Longest answer").fill("4000")
    page.get_by_label("Prompt").fill("Hello")
    page.get_by_role("button", name="Answer", exact=True).click()
    playwright.expect(page.locator(".token").nth(3)).to_be_attached()
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#stop")).to_be_disabled()
    count = page.locator(".token").count()
    page.wait_for_timeout(300)
    assert page.locator(".token").count() == count
    playwright.expect(page.get_by_role("alert")).to_be_hidden()
