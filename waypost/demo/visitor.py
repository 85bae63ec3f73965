"""The demo's visitor in check mode: signs in to the console and approves what waits there."""

from __future__ import annotations

import asyncio
import html
import re
from urllib.parse import quote

from waypost.demo.post import fetch
from waypost.demo.stage import Stage


async def approve_in_console(stage: Stage) -> None:
    """Approves every draft that is the owner's own by the console's own form, until cancelled."""
    visitor = Visitor(stage)
    await visitor.sign_in()
    while True:
        for path in await visitor.waiting():
            await visitor.approve(path)
        await asyncio.sleep(1)


class Visitor:
    """A browser without a screen: keeps the cookie, finds forms, fills them in."""

    def __init__(self, stage: Stage) -> None:
        self._root = stage.settings.console.url
        self._sign_in = stage.sign_in_url
        self._cookie = ""

    async def sign_in(self) -> None:
        """Follows the one-time link, and its button if it has one."""
        _, headers, page = await fetch(self._sign_in)
        if "set-cookie" not in headers:
            fields = _fields(page, "sign-in")
            action = re.search(r'<form[^>]*action="([^"]*sign-in[^"]*)"', page)
            url = self._root + html.unescape(action[1]) if action else self._sign_in
            _, headers, _ = await fetch(url, method="POST", form=_encode(fields))
        self._cookie = headers["set-cookie"].partition(";")[0]

    async def waiting(self) -> list[str]:
        """Paths of the conversations whose drafts wait for the owner, not for another rep."""
        rows = (await self._get("/inbox")).split("<tr>")
        mine = (row for row in rows if 'data-label="Rep">You<' in row)
        return sorted(set(re.findall(r'href="(/inbox/[0-9a-f-]{36})"', "".join(mine))))

    async def approve(self, path: str) -> None:
        """Presses the button that approves the draft on this page."""
        page = await self._get(path)
        action = re.search(r'<form[^>]*action="([^"]*/approve)"', page)
        if action is None:
            return
        fields = _fields(page, action[1])
        await fetch(
            self._root + html.unescape(action[1]),
            method="POST",
            form=_encode(fields),
            headers={"Cookie": self._cookie, "Origin": self._root},
        )

    async def _get(self, path: str) -> str:
        _, _, page = await fetch(self._root + path, headers={"Cookie": self._cookie})
        return page


def _fields(page: str, action: str) -> dict[str, str]:
    start = page.find(action)
    form = page[start : page.find("</form>", start)]
    found = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name:
            found[html.unescape(name[1])] = html.unescape(value[1]) if value else ""
    for name_, text in re.findall(
        r'<textarea[^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', form, re.S
    ):
        found[html.unescape(name_)] = html.unescape(text).lstrip("\n")
    return found


def _encode(fields: dict[str, str]) -> bytes:
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in fields.items()).encode()
