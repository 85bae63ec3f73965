"""Who lives in the demo's world, and what each of them does when mail comes.

Each script is a small play against the appliance's real doors. The outcome that it should lead to
stands in `waypost.demo.outcome`.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from urllib.parse import quote

from waypost.demo import letters
from waypost.demo.letters import Letter
from waypost.demo.post import Login, fetch
from waypost.demo.world import Person, Script, World

COMPANY = "Northwind Heat"
DOMAIN = "northwind.example"
REPLY_DOMAIN = f"reply.{DOMAIN}"
HOST = "waypost.northwind.example"
POSTAL_ADDRESS = "Northwind Heat, Mill Road 4, 10115 Berlin, Germany"

REMINDER = "One workshop, one winter, one bill"
"""The subject of the letter that is sent twice."""

DOMAINS = tuple(
    f"{tree}.example" for tree in ("alder", "birch", "cedar", "elm", "hazel", "larch", "maple")
)
FIRST = """
    Ada Ben Cleo Dan Eva Finn Greta Hugo Ida Jan Kim Lea Max Nora Olga Paul Rosa Sam Tom Uma
""".split()
LAST = """
    Adler Brandt Carver Dorn Ekman Fuchs Glaser Huber Ibsen Jung Keller Lind Maurer Nagel
""".split()
TOWNS = ("Graz", "Linz", "Bergen", "Ulm", "Lyon", "Turin", "Bath", "Ghent")
TRADES = ("Joinery", "Bakery", "Print Shop", "Garage", "Dental Practice", "Brewery", "Studio")

REPLIES = {
    "interested": "Hi, this sounds very interesting. We would love to learn more, please go ahead.",
    "price": "Thanks for writing. How much does it cost for a workshop of 250 square metres?",
    "product": "Hello, how loud is the outdoor unit? We have neighbours on both sides.",
    "meeting": "Could we meet next Tuesday at 10 and talk about it? Please let us find a time.",
    "later": "Not right now, our budget is frozen. Please come back to me next year.",
    "no_need": "Thanks, but we do not need this: our building is heated by district heating.",
    "stop": "Please take me off your list and do not write to me again.",
    "angry": (
        "This is spam and I never agreed to it. I am reporting you to the authorities, "
        "and my lawyer will be in touch."
    ),
    "wrong_person": (
        "I am not the right person for this. Please talk to Maria Lopez (maria@cedar.example), "
        "she looks after the building."
    ),
    "thanks": "Thank you, got it.",
}


async def visit(
    person: Person, url: str, *, method: str = "GET", form: bytes | None = None, agent: str = ""
) -> str:
    """Opens a page as this person, whose address is the own one behind our web server."""
    home = f"203.0.113.{zlib.crc32(person.address.encode()) % 250 + 1}"  # RFC 5737.
    headers = {"X-Forwarded-For": home} | ({"User-Agent": agent} if agent else {})
    _, _, page = await fetch(url, method=method, form=form, headers=headers)
    return page


def reply_once(words: str) -> Script:
    """Answers the first letter; says thanks to the answer and leaves it at that."""

    async def script(world: World, person: Person, letter: Letter, number: int) -> None:
        if number == 1:
            await world.pause()
            raw = letters.reply(letter, person.address, person.name, words)
            await world.post(person, letter.reply_to, raw)

    return script


async def absent(world: World, person: Person, letter: Letter, number: int) -> None:
    """Is away: the mail server says so by itself, once in a while (RFC 3834 §2)."""
    if number > 1:
        return
    back = datetime.now(UTC) + timedelta(days=2)
    words = (
        f"Thank you for your message. I am out of the office and back on {back.day} {back:%B %Y}. "
        "In urgent cases please call our front desk."
    )
    raw = letters.absence(letter, person.address, person.name, words)
    await world.post(person, letter.mail_from, raw)


async def one_click(world: World, person: Person, letter: Letter, number: int) -> None:
    """The mail program's own unsubscribe button (RFC 8058)."""
    await world.pause()
    await visit(person, letter.unsubscribe_url(), method="POST", form=b"List-Unsubscribe=One-Click")


async def clicker(world: World, person: Person, letter: Letter, number: int) -> None:
    """A person who opens the letter and follows one link."""
    await world.pause(6, 7)
    if number == 1:
        await visit(person, next(link for link in letter.links() if "/c/" in link))


async def scanner(world: World, person: Person, letter: Letter, number: int) -> None:
    """A security gateway: follows every link at once, the unsubscribe link too."""
    for link in [*letter.links(), letter.unsubscribe_url()]:
        await visit(person, link, agent="Mozilla/5.0 (compatible; SafeLinksScanner/2.1; +security)")


async def forward_by_mail(world: World, person: Person, letter: Letter, number: int) -> None:
    """Passes the letter on to a friend, with our forward address in copy."""
    if number > 1:
        return
    await world.pause()
    friend = world.people[f"friend.of.{person.address}"]
    found = next(word for word in letter.text.split() if word.startswith("f-"))
    copy_to = found.strip(".,;<>")
    raw = letters.forward(
        letter, person.address, person.name, friend.address, copy_to, "This may be for you."
    )
    await world.post(person, copy_to, raw)
    # The friend's server gets the same message; the friend follows "was this forwarded to you?",
    # and again when nothing comes.
    join = letter.link_to("/j/")
    for _ in range(4):
        await world.pause(6, 8)
        await visit(person, join)
        await visit(person, join, method="POST", form=f"address={quote(friend.address)}".encode())


async def forward_by_form(world: World, person: Person, letter: Letter, number: int) -> None:
    """Enters a friend on the forward page, and hands the friend the invitation it shows."""
    if number > 1:
        return
    await world.pause()
    friend = world.people[f"friend.of.{person.address}"]
    form = f"address={quote(friend.address)}&name={quote(friend.name)}&note=Have+a+look"
    page = await visit(person, letter.link_to("/f/"), method="POST", form=form.encode())
    invitation = next((part for part in page.split('"') if "/k/" in part), "")
    if not invitation:
        raise ValueError(f"the forward page shows no invitation: {page[:300]}")
    await world.pause()
    await visit(person, invitation)
    await visit(person, invitation, method="POST", form=b"answer=yes")


async def shy_forward(world: World, person: Person, letter: Letter, number: int) -> None:
    """Enters a friend who never follows the invitation, and so is never written to."""
    if number > 1:
        return
    await world.pause()
    friend = world.people[f"friend.of.{person.address}"]
    form = f"address={quote(friend.address)}&name={quote(friend.name)}&note="
    await visit(person, letter.link_to("/f/"), method="POST", form=form.encode())


async def gone_later(world: World, person: Person, letter: Letter, number: int) -> None:
    """The server takes the letter and finds afterwards that the mailbox is gone."""
    await world.pause()
    server = f"mx.{person.address.partition('@')[2]}"
    await world.post(Person("", "", "server"), letter.mail_from, letters.bounce(letter, server))


async def complainer(world: World, person: Person, letter: Letter, number: int) -> None:
    """Presses "this is spam"; the mailbox provider reports it."""
    await world.pause()
    provider = person.address.partition("@")[2]
    report = letters.complaint(letter, provider, letter.mail_from)
    await world.post(Person(f"fbl@{provider}", "", "server"), letter.mail_from, report)


# How many people play each role; everybody else is silent.
ROLES: dict[str, tuple[int, Script | None]] = {
    "interested": (4, reply_once(REPLIES["interested"])),
    "price": (4, reply_once(REPLIES["price"])),
    "product": (3, reply_once(REPLIES["product"])),
    "meeting": (2, reply_once(REPLIES["meeting"])),
    "later": (3, reply_once(REPLIES["later"])),
    "no_need": (3, reply_once(REPLIES["no_need"])),
    "stop": (3, reply_once(REPLIES["stop"])),
    "angry": (1, reply_once(REPLIES["angry"])),
    "wrong_person": (2, reply_once(REPLIES["wrong_person"])),
    "absent": (3, absent),
    "one_click": (3, one_click),
    "clicker": (5, clicker),
    "scanner": (4, scanner),
    "forward_by_mail": (3, forward_by_mail),
    "forward_by_form": (3, forward_by_form),
    "shy_forward": (2, shy_forward),
    "gone": (3, None),
    "gone_later": (2, gone_later),
    "greylisted": (3, None),
    "complainer": (2, complainer),
}


def recipients(count: int, seed: int) -> list[Person]:
    """The first `count` people: some of every role, the rest silent."""
    order = [role for role, (number, _) in ROLES.items() for _ in range(number)]
    order += ["silent"] * max(0, count - len(order))
    dice = random.Random(seed)
    people = []
    for number, role in enumerate(order[:count]):
        first, last = FIRST[number % len(FIRST)], LAST[number // len(FIRST) % len(LAST)]
        address = f"{first}.{last}.{number}@{DOMAINS[dice.randrange(len(DOMAINS))]}".lower()
        people.append(
            Person(
                address=address,
                name=f"{first} {last}",
                role=role,
                script=ROLES[role][1] if role in ROLES else None,
                refuses="550 5.1.1 No such user here" if role == "gone" else "",
                later=1 if role == "greylisted" else 0,
            )
        )
    return people


def friends(people: list[Person]) -> list[Person]:
    """A friend for everybody who passes letters on."""
    return [
        Person(f"friend.of.{person.address}", f"Friend of {person.name}", "friend")
        for person in people
        if "forward" in person.role
    ]


def reps(logins: Mapping[str, Login] = MappingProxyType({})) -> list[Person]:
    """The company's people; they answer notices of drafts through their own logins."""
    return [
        Person(f"ann@{DOMAIN}", "Ann Berger", "rep", rep_says_ok, logins.get(f"ann@{DOMAIN}")),
        Person(f"bo@{DOMAIN}", "Bo Lindqvist", "rep", rep_edits, logins.get(f"bo@{DOMAIN}")),
        Person(f"cleo@{DOMAIN}", "Cleo Martin", "rep", rep_rejects, logins.get(f"cleo@{DOMAIN}")),
    ]


def customers() -> list[Person]:
    """Those who get a message by the API (two) and by SMTP submission (one)."""
    return [
        Person(f"customer.{number}@maple.example", f"Pat Customer{number}", "customer")
        for number in (1, 2, 3)
    ]


EDITED = "Thank you for your question. I will call you tomorrow and tell you all about it."
REJECTED = "no, I shall phone instead"


async def rep_says_ok(world: World, person: Person, letter: Letter, number: int) -> None:
    """Approves every draft, twice, as impatient people do; a stranger tried before."""
    if not _is_notice(letter):
        return
    await world.pause()
    notices = [one for one in world.letters[person.address][:number] if _is_notice(one)]
    if len(notices) == 1:
        forged = letters.approval(letter, person.address, person.name, "ok", number=9)
        # All servers of this world share a machine, so only the return path tells them apart.
        impostor = Person("impostor@elsewhere.example", person.name, "impostor")
        await world.post(impostor, letter.reply_to, forged)
        await world.pause(1.0, 1.5)
    for copy in (1, 2):
        raw = letters.approval(letter, person.address, person.name, "ok", number=copy)
        await world.post(person, letter.reply_to, raw)


async def rep_edits(world: World, person: Person, letter: Letter, number: int) -> None:
    """Writes an answer of the own."""
    if _is_notice(letter):
        await world.pause()
        raw = letters.approval(letter, person.address, person.name, EDITED)
        await world.post(person, letter.reply_to, raw)


async def rep_rejects(world: World, person: Person, letter: Letter, number: int) -> None:
    """Sends nothing, and says why."""
    if _is_notice(letter):
        await world.pause()
        raw = letters.approval(letter, person.address, person.name, REJECTED)
        await world.post(person, letter.reply_to, raw)


def _is_notice(letter: Letter) -> bool:
    return letter.reply_to.startswith("a-")
