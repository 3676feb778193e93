"""Makes docs/page.png: the page of a running `dynexit serve reference:mistral`, side by side.

python docs/page.py http://127.0.0.1:8000 docs/page.png
"""

from __future__ import annotations

import os
import shutil
import sys

from playwright.sync_api import sync_playwright

PROMPT = "Question: Is Sydney the capital of Australia?\nAnswer:"


def main(url: str, out: str) -> None:
    """Ask, wait for both answers, inspect a token, and take the picture."""
    chromium = shutil.which("chromium") or shutil.which("chrome")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1100, "height": 800}, device_scale_factor=1.5)
        page.goto(url)
        page.get_by_text("12 layers").wait_for()
        page.get_by_label("Prompt").fill(PROMPT)
        for _ in range(2):  # the first answers of a server are slow
            page.get_by_role("button", name="Side by side").click()
            page.locator("#verdict").wait_for()
        page.get_by_role("option").nth(1).hover()
        page.screenshot(path=out, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
