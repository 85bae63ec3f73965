"""The command line: what there is, and where it goes.

Only this module is imported for `waypost --help`; a command's own module, with all that it needs,
is imported when it is called.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mail.errors import ConfigError, WaypostError
from waypost import __version__

EXIT_FAILED = 1
EXIT_USAGE = 2

EPILOG = """\
first steps:
  waypost demo                                 watch the whole appliance work, on this machine alone
  waypost init DIR --domain example.com --company "Example Ltd" --admin you@example.com
  waypost check --config DIR/waypost.toml      what stands between you and a delivered message
  waypost serve --config DIR/waypost.toml      run it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    parser = make_parser()
    chosen = parser.parse_args(arguments)
    if not hasattr(chosen, "run"):
        (chosen.parser if hasattr(chosen, "parser") else parser).print_help()
        return EXIT_USAGE
    module, _, function = chosen.run.partition(":")
    try:
        command = getattr(importlib.import_module(f"waypost.commands.{module}"), function)
        return int(command(chosen) or 0)
    except ConfigError as error:
        print(f"waypost: {error}", file=sys.stderr)
        return EXIT_USAGE
    except WaypostError as error:
        print(f"waypost: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="waypost",
        description="A mail appliance: personal mail out, replies understood, follow-ups kept.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"waypost {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    _running(commands)
    _settings(commands)
    _people(commands)
    _work(commands)
    _reading(commands)
    return parser


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _add(commands: Commands, name: str, run: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("--config", metavar="FILE", help="the configuration (./waypost.toml)")
    return parser


def _forward_replies(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--forward-replies", choices=("yes", "no"), required=True, help=text)


def _group(commands: Commands, name: str, text: str) -> Commands:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(parser=parser)
    return parser.add_subparsers(metavar="ACTION", title="actions")


def _running(commands: Commands) -> None:
    init = commands.add_parser("init", help="make a new appliance in a folder")
    init.set_defaults(run="appliance:init", parser=init)
    init.add_argument("folder", metavar="DIR")
    init.add_argument("--domain", required=True, help="the domain the company sends from")
    init.add_argument("--company", required=True, metavar="NAME")
    init.add_argument("--admin", required=True, metavar="EMAIL", help="its first user")
    init.add_argument("--host", metavar="NAME", help="the appliance's host name (waypost.DOMAIN)")
    init.add_argument("--postal-address", default="", help="shown under bulk mail, as laws ask")

    check = _add(commands, "check", "appliance:check", "say what stands between you and mail")
    check.add_argument("--offline", action="store_true", help="ask no name server")

    serve = _add(commands, "serve", "appliance:serve", "run the appliance")
    serve.add_argument("--role", choices=("mail", "engine", "web"), help="only this part")
    serve.add_argument("--name", help="name of the process (the role's)")
    serve.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)

    _add(commands, "upgrade", "appliance:upgrade", "bring the database to this version")

    demo = commands.add_parser("demo", help="show everything at work in a world of its own")
    demo.set_defaults(run="demo:demo", parser=demo)
    demo.add_argument("--check", action="store_true", help="run to the end, compare, print a table")
    demo.add_argument("--speed", type=float, metavar="N", help="days pass N times faster")
    demo.add_argument("--contacts", type=int, default=200, metavar="N", help="people (200)")
    demo.add_argument("--folder", metavar="DIR", help="where to put it (a temporary folder)")
    demo.add_argument("--database", metavar="URL", help="an empty PostgreSQL database to use")
    demo.add_argument("--postgresql", action="store_true", help="start a PostgreSQL and use it")
    demo.add_argument("--kills", type=int, default=0, metavar="N", help="kill -9 N processes")
    demo.add_argument("--seed", type=int, default=1, help="of the killing")


def _settings(commands: Commands) -> None:
    config = _group(commands, "config", "show and check the settings")
    _add(config, "show", "settings:show", "print all settings as they are in force")
    _add(config, "check", "settings:check", "say whether the file is right")
    _add(config, "reference", "settings:show_reference", "print every setting with its help")


def _people(commands: Commands) -> None:
    company = _group(commands, "company", "companies on this appliance")
    bulk = _add(company, "bulk", "suppressions:bulk_policy", "what its bulk mail keeps to")
    bulk.add_argument("name")
    bulk.add_argument("--postal-address", help="shown under bulk mail, as laws ask")
    bulk.add_argument("--most", type=int, metavar="N", help="bulk mails to one person; 0: no limit")
    bulk.add_argument("--days", type=int, metavar="D", help="within so many days (7)")
    bulk.add_argument("--attach", type=int, metavar="MIB", help="larger attachments go as a link")
    bulk.add_argument("--unsubscribe", choices=("company", "topic"), help="what one click ends")
    add = _add(company, "add", "people:add_company", "add a company")
    add.add_argument("name")
    add.add_argument("--postal-address", default="")
    _add(company, "list", "people:list_companies", "list companies")

    user = _group(commands, "user", "people who sign in")
    add = _add(user, "add", "people:add_user", "add a user and print a sign-in link")
    add.add_argument("email")
    add.add_argument("--company", required=True)
    add.add_argument("--name", default="")
    add.add_argument("--role", choices=("owner", "manager", "rep"), default="rep")
    add.add_argument("--zone", default="UTC", help="time zone, such as Europe/Vienna")
    add.add_argument("--password", action="store_true", help="ask for a password too")
    listing = _add(user, "list", "people:list_users", "list users")
    listing.add_argument("--company")
    change = _add(user, "set", "forwarding:set_user", "change how a user gets mail")
    change.add_argument("email")
    _forward_replies(change, "answers to this user's mail go to EMAIL as well")
    link = _add(user, "link", "people:sign_in_link", "print a one-time sign-in link")
    link.add_argument("email")

    credential = _group(commands, "credential", "passwords for submission and the API")
    add = _add(credential, "add", "senders:add_credential", "make one; its secret is shown once")
    add.add_argument("--company", required=True)
    add.add_argument("--kind", choices=("smtp", "api"), default="smtp")
    add.add_argument("--login", help="user name for SMTP (made up if left out)")
    add.add_argument("--address", help="the only address it may send as (a rep's own)")
    add.add_argument(
        "--scope", action="append", metavar="SCOPE", help="what an API token is for (everything)"
    )
    add.add_argument(
        "--domain", action="append", metavar="NAME", help="which it may send from (all)"
    )
    listing = _add(credential, "list", "senders:list_credentials", "list them, without secrets")
    listing.add_argument("--company")
    revoke = _add(credential, "revoke", "senders:revoke_credential", "end one")
    revoke.add_argument("login")

    domain = _group(commands, "domain", "domains that companies send from")
    add = _add(domain, "add", "domains:add_domain", "add one and print its DNS records")
    add.add_argument("name")
    add.add_argument("--company", required=True)
    add.add_argument("--reply-domain", help="where replies come to (reply.NAME)")
    listing = _add(domain, "list", "domains:list_domains", "list them")
    listing.add_argument("--company")
    records = _add(domain, "records", "domains:show_records", "print the DNS records of one")
    records.add_argument("name")
    records.add_argument("--format", choices=("text", "zone", "json"), default="text")
    check = _add(domain, "check", "domains:check_domains", "look the DNS records up")
    check.add_argument("name", nargs="?", help="this one (all)")
    check.add_argument("--json", action="store_true", help="for programs")
    rotate = _add(domain, "rotate", "domains:rotate_keys", "put new DKIM keys in place of the old")
    rotate.add_argument("name")
    rotate.add_argument("--keep", type=int, default=14, metavar="DAYS", help="of the old keys (14)")
    rotate.add_argument("--cancel", action="store_true", help="drop new keys not signed with yet")
    change = _add(domain, "set", "forwarding:set_domain", "change what is done with its mail")
    change.add_argument("name")
    _forward_replies(change, "answers also go to whoever the mail was from")
    remove = _add(domain, "remove", "domains:remove_domain", "send from it no longer")
    remove.add_argument("name")
    remove.add_argument("--yes", action="store_true", help="do not ask")

    webhook = _group(commands, "webhook", "servers of companies that are told of events")
    add = _add(webhook, "add", "webhooks:add", "add one; its secret is shown once")
    add.add_argument("url")
    add.add_argument("--company", required=True)
    add.add_argument("--kind", action="append", metavar="KIND", help="of events (all)")
    add.add_argument("--description", default="")
    listing = _add(webhook, "list", "webhooks:show", "list them and their trouble")
    listing.add_argument("--company")
    for action, words in (
        ("remove", "forget one"),
        ("rotate", "make a new secret; the old one signs too for a day"),
        ("replay", "tell it again"),
        ("enable", "switch one on and try at once"),
        ("disable", "switch one off; what happens meanwhile waits"),
    ):
        one = _add(webhook, action, "webhooks:act", words)
        one.set_defaults(action=action)
        one.add_argument("id")
        if action == "replay":
            one.add_argument("--hours", type=int, default=24, help="so far back (24)")

    mailbox = _group(commands, "mailbox", "mailboxes that are fetched by IMAP")
    add = _add(mailbox, "add", "senders:add_mailbox", "add one; asks for its password")
    add.add_argument("login")
    add.add_argument("--company", required=True)
    add.add_argument("--host", required=True)
    add.add_argument("--port", type=int, default=993)
    add.add_argument("--folder", default="INBOX")
    add.add_argument("--no-tls", action="store_true", help="plain text; for tests")
    listing = _add(mailbox, "list", "senders:list_mailboxes", "list them and their state")
    listing.add_argument("--company")


def _work(commands: Commands) -> None:
    contact = _group(commands, "contact", "people the company writes to")
    add = _add(contact, "import", "work:import_contacts", "import a CSV file")
    add.add_argument("file")
    add.add_argument("--company", required=True)

    suppression = _group(commands, "suppression", "addresses that are never written to")
    for action, text in (("list", "list them"), ("export", "write them as CSV")):
        one = _add(suppression, action, "suppressions:show", text)
        one.set_defaults(action=action)
        one.add_argument("words", nargs="?", help="only addresses with this in them")
        one.add_argument("--company", required=True)
    add = _add(suppression, "add", "suppressions:add", "never write to these again")
    add.add_argument("address", nargs="+", metavar="EMAIL")
    add.add_argument("--reason", default="asked", help="asked, unsubscribed, bounced, complained")
    read = _add(suppression, "import", "suppressions:import_file", "read a CSV file of addresses")
    read.add_argument("file")
    remove = _add(suppression, "remove", "suppressions:remove", "take an address off the list")
    remove.add_argument("address", metavar="EMAIL")
    remove.add_argument("--why", required=True, help="the reason, which is kept")
    remove.add_argument(
        "--confirmed", action="store_true", help="the person asked for mail again after a complaint"
    )
    for one in (add, read, remove):
        one.add_argument("--company", required=True)
    for one in (add, remove):
        one.add_argument("--scope", default="", help="topic:KEY or campaign:NAME (all mail)")

    topic = _group(commands, "topic", "what people can choose to get")
    add = _add(topic, "set", "suppressions:add_topic", "add or change one")
    add.add_argument("key")
    add.add_argument("--name", action="append", required=True, metavar="[LANGUAGE:]NAME")
    add.add_argument("--description", action="append", metavar="[LANGUAGE:]WORDS")
    add.add_argument("--campaign", action="append", metavar="PATTERN", help="like news-*")
    add.add_argument("--opt-in", action="store_true", help="nobody gets it before choosing it")
    listing = _add(topic, "list", "suppressions:list_topics", "list them")
    remove = _add(topic, "remove", "suppressions:remove_topic", "take one away")
    remove.add_argument("key")
    for one in (add, listing, remove):
        one.add_argument("--company", required=True)

    media = _group(commands, "media", "files to attach and to show")
    add = _add(media, "add", "media:add", "add a file, or a new version of one")
    add.add_argument("file")
    add.add_argument("--key", help="what mails call it (from its name)")
    add.add_argument("--title", default="", help="shown above it")
    listing = _add(media, "list", "media:show", "list them")
    for one in (add, listing):
        one.add_argument("--company", required=True)

    presentation = _group(commands, "presentation", "pages that show files behind a link")
    make = _add(presentation, "set", "media:set_presentation", "make or change one")
    make.add_argument("key")
    make.add_argument("--title", required=True)
    make.add_argument("--text", default="", help="above the files")
    make.add_argument("--language", default="en")
    make.add_argument(
        "--item", action="append", required=True, metavar="KEY[:CAPTION]", help="a file, in order"
    )
    make.add_argument("--days", type=int, metavar="N", help="shown for so long")
    listing = _add(presentation, "list", "media:list_presentations", "list them")
    stop = _add(presentation, "withdraw", "media:withdraw", "show it no longer")
    stop.add_argument("key")
    for one in (make, listing, stop):
        one.add_argument("--company", required=True)

    content = _group(commands, "content", "what the company has to say")
    add = _add(content, "import", "work:import_content", "import a YAML file of items")
    add.add_argument("file")
    add.add_argument("--company", required=True)
    listing = _add(content, "list", "work:list_content", "list items")
    listing.add_argument("--company", required=True)

    sequence = _group(commands, "sequence", "follow-up sequences")
    check = _add(sequence, "check", "work:check_sequence", "say whether a file is right")
    check.add_argument("file")
    install = _add(sequence, "install", "work:install_sequence", "put a version in force")
    install.add_argument("file")
    install.add_argument("--company", required=True)
    start = _add(sequence, "start", "work:start_sequence", "enrol contacts")
    start.add_argument("name")
    start.add_argument("--company", required=True)
    who = start.add_mutually_exclusive_group(required=True)
    who.add_argument("--address", action="append", metavar="EMAIL", help="this contact")
    who.add_argument("--all", action="store_true", help="every contact")
    status = _add(sequence, "status", "work:sequence_status", "who is where")
    status.add_argument("name")
    status.add_argument("--company", required=True)

    bus = _group(commands, "bus", "the event stream and its stations")
    _add(bus, "status", "bus:status", "how far each station is")
    hold = _group(bus, "hold", "events set aside")
    _add(hold, "list", "bus:list_holds", "list them with their causes")
    retry = _add(bus, "retry", "bus:retry", "try held events again")
    retry.add_argument("hold", nargs="*", metavar="ID", help="these (all)")

    queue = _group(commands, "queue", "mail waiting to leave")
    listing = _add(queue, "list", "queue:show_all", "what waits, by destination")
    listing.add_argument("--messages", action="store_true", help="each message")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="lines (100)")
    _part_of_queue(listing)
    one = _add(queue, "show", "queue:show", "one delivery, its attempts, and why it waits")
    one.add_argument("delivery", metavar="ID")
    one.add_argument("--json", action="store_true")
    one = _add(queue, "trace", "tracing:trace", "try one delivery now and show what is said")
    one.add_argument("delivery", metavar="ID")
    one.add_argument("--wait", default="1m", metavar="TIME", help="to begin (1m)")
    one.add_argument("--json", action="store_true")
    for action, text in (
        ("hold", "set mail aside"),
        ("release", "let held mail go"),
        ("flush", "try now"),
        ("bounce", "give up"),
    ):
        one = _add(queue, action, "queue:act", text)
        one.set_defaults(action=action, quiet=False)
        _part_of_queue(one)
        one.add_argument("--reason", default="", help="kept with each message")
        one.add_argument("--dry-run", action="store_true", help="only say how many")
        one.add_argument("--yes", action="store_true", help="do not ask")
        if action == "bounce":
            one.add_argument("--quiet", action="store_true", help="no report to the senders")
    for action, text in (("suspend", "send nothing for a while"), ("resume", "let it go on")):
        one = _add(queue, action, f"queue:{action}", text)
        one.add_argument("what", choices=("company", "campaign", "domain", "site"))
        one.add_argument("name", nargs="?", default="", help="of the campaign, domain or site")
        one.add_argument("--company", help="whose (a domain without it: everybody's)")
        if action == "suspend":
            one.add_argument("--for", dest="span", required=True, metavar="TIME", help='as "2h"')
            one.add_argument("--reason", default="", help="shown to others")
    one = _add(queue, "suspended", "queue:show_suspended", "what is suspended, and by whom")
    one.add_argument("--json", action="store_true")

    one = _add(queue, "reroute", "rerouting:reroute", "send a domain's mail elsewhere for a while")
    one.add_argument("domain")
    one.add_argument("host", metavar="HOST:PORT")
    one.add_argument("--for", dest="span", required=True, metavar="TIME", help='such as "2h"')
    one.add_argument("--company", help="only theirs (everybody's without it)")
    one.add_argument("--reason", default="", help="shown to others")
    one = _add(queue, "unroute", "rerouting:unroute", "let a domain's mail go its own way again")
    one.add_argument("domain")
    one.add_argument("--company", help="the one of this company")
    one = _add(queue, "rerouted", "rerouting:show", "what is sent elsewhere, and by whom")
    one.add_argument("--json", action="store_true")

    shaping = _group(commands, "shaping", "how much mail a destination gets at a time")
    one = _add(shaping, "explain", "shaping:explain", "which rules hold for a domain, and why")
    one.add_argument("domain")
    _add(shaping, "list", "shaping:show", "what was learnt of sites, and what is suspended")
    stop = _add(shaping, "suspend", "shaping:suspend", "send nothing to a site for a while")
    stop.add_argument("site")
    stop.add_argument("--for", dest="span", required=True, metavar="TIME", help='such as "2h"')
    stop.add_argument("--reason", default="", help="shown to others")
    one = _add(shaping, "resume", "shaping:resume", "let mail to a site go on")
    one.add_argument("site")


def _part_of_queue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--company", metavar="NAME")
    parser.add_argument("--destination", metavar="DOMAIN")
    parser.add_argument("--site", help="a provider: all destinations with its mail servers")
    parser.add_argument("--campaign")
    parser.add_argument("--sender", metavar="ADDRESS")
    parser.add_argument("--kind", help="mail, bulk, answer ...")
    parser.add_argument("--lane", type=int, choices=(0, 1, 2))
    parser.add_argument("--state", choices=("queued", "deferred", "uncertain", "sending", "held"))
    parser.add_argument("--older-than", metavar="TIME", help='such as "2h"')
    parser.add_argument("--id", action="append", metavar="ID", help="this delivery")
    parser.add_argument("--json", action="store_true")


def _reading(commands: Commands) -> None:
    parse = commands.add_parser("parse", help="take a raw message apart and explain it")
    parse.set_defaults(run="reading:parse", parser=parse)
    what = parse.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="a raw message")
    what.add_argument("--stream", action="store_true", help="paths in, JSON lines out")

    read = commands.add_parser("read", help="read a reply: intents, facts, rules, decision")
    read.set_defaults(run="reading:read", parser=read)
    what = read.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="the text of a reply")
    what.add_argument("--stream", action="store_true", help="JSON lines in, JSON lines out")
    read.add_argument("--model", metavar="DIR", help="another language model")
