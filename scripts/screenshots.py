"""Draws the console's pages into docs/pictures, from the demo after its first minute.

make screenshots
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PICTURES = Path("docs/pictures")
UNFOLDING_SECONDS = 50
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP, PHONE = (1440, 900), (360, 740)

PAGES = {
    "today": "/", "inbox": "/inbox?all=1", "messages": "/messages", "follow-up": "/follow-up",
    "sequence": "/follow-up/heat-pump-intro", "leads": "/leads", "queue": "/queue",
    "tracker": "/tracker", "content": "/content", "domains": "/domains", "people": "/people",
    "suppressions": "/suppressions",
}  # fmt: skip
ON_A_PHONE = ("today", "inbox", "conversation", "sequence", "leads", "tracker", "domain")
IN_THE_DARK = ("conversation", "sequence")


def main() -> None:
    """Starts the demo, lets it unfold, draws, and ends it."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        demo = subprocess.Popen(
            [sys.executable, "-m", "waypost", "demo", "--folder", f"{folder}/demo"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            link = _link(demo)
            print(f"waiting {UNFOLDING_SECONDS} seconds for the story to unfold …")
            time.sleep(UNFOLDING_SECONDS)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path="/usr/bin/chromium", args=ARGUMENTS
                )
                _draw(browser, link)
                browser.close()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(30)


def _link(demo: subprocess.Popen[str]) -> str:
    assert demo.stdout is not None
    for line in demo.stdout:
        found = re.search(r"http://\S+/sign-in/\S+", line)
        if found:
            return found[0]
    raise SystemExit("the demo printed no sign-in link")


def _draw(browser: Browser, link: str) -> None:
    root = link.partition("/sign-in/")[0]
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    page = context.new_page()
    page.goto(f"{root}/sign-in")
    _shoot(page, "sign-in-desktop")
    page.goto(link)
    page.click("main button")
    pages = dict(PAGES)
    for name, where, which in (
        ("conversation", "/inbox", "td a"),
        ("cluster", "/leads", 'a[href^="/leads/clusters/"]'),
        ("message", "/messages?direction=out&state=delivered", "td a"),
        ("domain", "/domains", "td a"),
    ):
        page.goto(root + where)
        pages[name] = page.locator(which).first.get_attribute("href") or where
    for name, path in pages.items():
        page.goto(root + path)
        _shoot(page, f"{name}-desktop", whole=name == "conversation")
    for names, kind, size, scheme in (
        (ON_A_PHONE, "phone", PHONE, "light"),
        (IN_THE_DARK, "dark", DESKTOP, "dark"),
    ):
        other = _context(browser, context, size, scheme)
        page = other.new_page()
        for name in names:
            page.goto(root + pages[name])
            _shoot(page, f"{name}-{kind}")
        other.close()


def _context(
    browser: Browser, signed_in: BrowserContext, size: tuple[int, int], scheme: str
) -> BrowserContext:
    return browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        storage_state=signed_in.storage_state(),
    )


def _shoot(page: Page, name: str, *, whole: bool = False) -> None:
    page.screenshot(path=PICTURES / f"{name}.png", full_page=whole)
    print(f"docs/pictures/{name}.png")


if __name__ == "__main__":
    main()
