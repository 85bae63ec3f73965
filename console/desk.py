"""What every page needs: who comes in, the form they sent, and the way back as a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from litestar import MediaType, Request, Response
from litestar.datastructures import FormMultiDict

from config.settings import Settings
from console.access import Brake, Visit, visit
from mail.tokens import TokenKeys
from mta.pressure import Gauge
from mta.resolver import Resolver
from storage.sealing import Seal
from storage.sessions import Sessions

log = structlog.get_logger()

Call = Request[Any, Any, Any]
Answer = Callable[["Desk", Call], Awaitable[Response[Any]]]

FOLDER = Path(__file__).parent
MAX_FIELD = 100_000


class SignInNeededError(Exception):
    """Nobody is signed in; `back` is where they wanted to go."""

    def __init__(self, back: str) -> None:
        super().__init__(back)
        self.back = back


class PageError(Exception):
    """What can't be done, said to the person who asked."""

    def __init__(self, status: int, title: str, line: str) -> None:
        super().__init__(title)
        self.status, self.title, self.line = status, title, line


@dataclass
class Desk:
    """The console's parts, shared by all pages."""

    sessions: Sessions
    settings: Settings
    keys: TokenKeys
    seal: Seal
    clock: Callable[[], datetime]
    resolver: Resolver | None = None
    templates: Environment = field(init=False)
    brake: Brake = field(init=False)
    gauge: Gauge = field(init=False)

    def __post_init__(self) -> None:
        self.templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters["percent"] = lambda value: f"{100 * value:.0f} %"
        self.gauge = Gauge(self.settings.host.data / "spool")
        self.brake = Brake(8, timedelta(minutes=10), self.clock)

    @property
    def secure(self) -> bool:
        """Whether people come by https."""
        return self.settings.console.url.startswith("https://")

    @property
    def cookie(self) -> str:
        """The cookie's name; the prefix makes browsers refuse it from elsewhere (RFC 6265bis)."""
        return "__Host-waypost" if self.secure else "waypost"

    async def signed_in(self, call: Call) -> Visit:
        """Who is signed in. Raises `SignInNeededError` if nobody is."""
        secret = call.cookies.get(self.cookie, "")
        idle = self.settings.console.session
        found = await visit(self.sessions, secret, now=self.clock(), idle=idle)
        if found is None:
            back = call.url.path if call.method == "GET" else "/"
            raise SignInNeededError(back)
        return found

    async def manager(self, call: Call) -> Visit:
        """Who is signed in, if it is an owner or a manager. Raises `PageError` if not."""
        who = await self.signed_in(call)
        if not who.may_manage:
            raise PageError(403, "For owners and managers", "Ask one of them to look for you.")
        return who

    async def form(self, call: Call, who: Visit) -> dict[str, str]:
        """The fields of a form that came from one of our pages. Raises `PageError` if not."""
        fields = await plain_form(call)
        if fields.pop("csrf", "") != who.session.csrf:
            raise PageError(
                403,
                "This form is too old",
                "You signed in again since it was shown. Go back, reload the page, try again.",
            )
        return fields

    def page(
        self, template: str, who: Visit | None, *, status: int = 200, **values: Any
    ) -> Response[str]:
        """A page from its template."""
        now = self.clock()
        zone = ZoneInfo(who.user.zone if who else "UTC")
        html = self.templates.get_template(template).render(
            who=who,
            csrf=who.session.csrf if who else "",
            now=now,
            when=lambda instant: When.of(instant, now, zone),
            **values,
        )
        return Response(html, status_code=status, media_type=MediaType.HTML)

    def problem(self, call: Call, error: Exception) -> Response[Any]:
        """The one place where an error becomes a page."""
        if isinstance(error, SignInNeededError):
            back = f"?next={quote(error.back)}" if error.back != "/" else ""
            return go(f"/sign-in{back}")
        if isinstance(error, PageError):
            status, title, line = error.status, error.title, error.line
        else:
            status = getattr(error, "status_code", 500)
            title, line = PROBLEMS.get(status, PROBLEMS[500])
            if status >= 500:
                log.error("page.failed", path=call.url.path, cause=repr(error)[:500])
        return self.page("problem.html", None, status=status, title=title, line=line)


PROBLEMS: Mapping[int, tuple[str, str]] = {
    400: ("This could not be read", "Check what you entered and try again."),
    404: ("Nothing here", "It may have been removed, or belongs to somebody else."),
    405: ("Not in this way", "Use the buttons of the console."),
    413: ("Too long", "Shorten the text and send it again."),
    500: ("That is our fault", "Something went wrong here. Please try again in a moment."),
}


@dataclass(frozen=True, slots=True)
class When:
    """An instant for people: how long ago, with the exact time in their zone behind it."""

    ago: str
    exact: str
    iso: str

    @classmethod
    def of(cls, instant: datetime | None, now: datetime, zone: ZoneInfo) -> When:
        """Puts an instant into words."""
        if instant is None:
            return cls("–", "", "")
        local = instant.astimezone(zone)
        seconds = (now - instant).total_seconds()
        ahead, seconds = seconds < 0, abs(seconds)
        for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
            if seconds >= size or unit == "s":
                span = f"{int(seconds // size)} {unit}"
                break
        text = f"in {span}" if ahead else f"{span} ago"
        if seconds > 7 * 86400:
            text = f"{local:%d %b %Y}"
        return cls(text, f"{local:%A, %d %B %Y, %H:%M:%S %Z}", instant.isoformat())


async def plain_form(call: Call) -> dict[str, str]:
    """The text fields of a form, each once and bounded. Raises `PageError` for what is no text."""
    data: FormMultiDict = await call.form()
    fields = {
        str(name): value[:MAX_FIELD].replace("\r\n", "\n")
        for name, value in data.multi_items()
        if isinstance(value, str)
    }
    if any("\0" in value for value in fields.values()):
        raise PageError(400, *PROBLEMS[400])
    return fields


def key_in(call: Call, name: str = "id") -> UUID:
    """The id in the path. Raises `PageError` if it is none."""
    try:
        return UUID(str(call.path_params[name]))
    except ValueError:
        raise PageError(404, *PROBLEMS[404]) from None


def go(path: str) -> Response[Any]:
    """Sends the browser on with GET; only to a place of ours."""
    return Response(None, status_code=303, headers={"Location": path if _ours(path) else "/"})


def _ours(path: str) -> bool:
    """Whether a browser stays here: it drops tabs and line ends, takes \\ for / (WHATWG URL)."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return plain and path.startswith("/") and not path.startswith("//")


def missing() -> PageError:
    """Nothing that this company may see."""
    return PageError(404, *PROBLEMS[404])
