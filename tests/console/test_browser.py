"""The console in a real browser: keys, forms, phone width, and what the browser complains of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from sqlalchemy import select

from console import access
from storage.sessions import Sessions
from storage.tables import Draft, User
from tests.console.scene import Scene, app_of, play
from waypost.web_server import WebServer

ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGES = (
    "/", "/inbox", "/inbox?all=1", "/review", "/messages", "/follow-up", "/leads", "/queue",
    "/tracker", "/content", "/domains", "/suppressions", "/people",
)  # fmt: skip


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=ARGUMENTS
        )
        yield browser
        await browser.close()


@pytest.fixture
async def served(store: Sessions, tmp_path: Path) -> AsyncIterator[tuple[Scene, str]]:
    """A company, and where its console is."""
    scene = await play(store, "ourfirm")
    server = WebServer(app_of(store, tmp_path), "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event.
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield scene, f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def signed_in(
    chromium: Browser, store: Sessions, scene: Scene, root: str, width: int
) -> tuple[Page, list[str]]:
    """A page at this width, signed in by a link, and what the browser complains of."""
    async with store.begin(scene.company) as session:
        user = (await session.scalars(select(User).where(User.email == scene.owner))).one()
        secret = await access.make_sign_in_link(
            session, user, now=datetime.now(UTC), lifetime=timedelta(minutes=5)
        )
    page = await chromium.new_page(viewport={"width": width, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{root}/sign-in/{secret}")
    await page.focus("main button")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{root}/")
    return page, complaints


async def draft_of(store: Sessions, scene: Scene) -> Draft:
    async with store.read(scene.company) as session:
        return await session.get_one(Draft, scene.draft)


@pytest.mark.parametrize("width", [360, 1440])
async def test_every_page_fits_and_nothing_is_complained_of(
    chromium: Browser, store: Sessions, served: tuple[Scene, str], width: int
) -> None:
    scene, root = served
    page, complaints = await signed_in(chromium, store, scene, root, width)
    paths = [
        *PAGES,
        f"/inbox/{scene.reply}",
        f"/messages/{scene.sent}",
        f"/follow-up/{scene.sequence}",
        f"/leads/clusters/{scene.cluster}",
        f"/domains/{scene.domain}",
    ]
    for path in paths:
        await page.goto(root + path)
        overflow = await page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
        assert overflow <= 0, path
        assert await page.locator("h1").count() == 1, path
    assert complaints == []


async def test_what_goes_into_dns_is_copied_at_a_click(
    chromium: Browser, store: Sessions, served: tuple[Scene, str]
) -> None:
    scene, root = served
    page, complaints = await signed_in(chromium, store, scene, root, 1440)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(f"{root}/domains/{scene.domain}")
    for number in (0, 1):  # The name and the value of the first record, a key of 392 characters.
        button = page.locator("button.copy").nth(number)
        wanted = await button.get_attribute("data-copy")
        await button.click()
        await expect(button).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == wanted
    await page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject('no'); }")
    await page.locator("button.copy").nth(3).click()
    await expect(page.locator("button.copy").nth(3)).to_have_text("Selected")
    assert "v=DKIM1; k=ed25519" in await page.evaluate("getSelection().toString()")
    assert complaints == []


async def test_a_approves_and_the_next_waits(
    chromium: Browser, store: Sessions, served: tuple[Scene, str]
) -> None:
    scene, root = served
    page, _ = await signed_in(chromium, store, scene, root, 1440)
    await page.goto(f"{root}/inbox")
    await page.click("td a")
    await page.wait_for_url("**/inbox/*-*")
    await page.keyboard.press("a")
    await page.wait_for_url(f"{root}/inbox")
    assert "No draft waits" in await page.inner_text("main")
    assert (await draft_of(store, scene)).state == "approved"


async def test_on_a_phone_an_edited_answer_is_sent(
    chromium: Browser, store: Sessions, served: tuple[Scene, str]
) -> None:
    scene, root = served
    page, _ = await signed_in(chromium, store, scene, root, 360)
    await page.goto(f"{root}/inbox/{scene.reply}")
    await page.fill("textarea", "Written on the train.")
    await page.click("text=Send as edited")
    await page.wait_for_url(f"{root}/inbox")
    assert (await draft_of(store, scene)).sent_text == "Written on the train."


async def test_by_keyboard_alone_a_draft_is_rejected(
    chromium: Browser, store: Sessions, served: tuple[Scene, str]
) -> None:
    scene, root = served
    page, _ = await signed_in(chromium, store, scene, root, 1440)
    await page.goto(f"{root}/inbox/{scene.reply}")
    reached = []
    for _ in range(60):
        await page.keyboard.press("Tab")
        reached.append(await page.evaluate("document.activeElement.innerText || ''"))
        if reached[-1].startswith("Reject"):
            break
    assert any(text.startswith("Approve and send") for text in reached)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{root}/inbox")
    assert (await draft_of(store, scene)).state == "rejected"


async def test_it_works_without_javascript(
    chromium: Browser, store: Sessions, served: tuple[Scene, str]
) -> None:
    scene, root = served
    page, _ = await signed_in(chromium, store, scene, root, 1440)
    plain = await chromium.new_context(
        java_script_enabled=False, storage_state=await page.context.storage_state()
    )
    page = await plain.new_page()
    await page.goto(f"{root}/inbox/{scene.reply}")
    await page.click("text=Approve and send")
    assert (await draft_of(store, scene)).state == "approved"
    await plain.close()
