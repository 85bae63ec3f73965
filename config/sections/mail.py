"""How mail comes in and goes out."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from config.values import Duration, Section, Size


def _check_network(text: str) -> None:
    try:
        ip_network(text)
    except ValueError:
        raise ValueError(f'"{text}" is no network. Write for example "192.0.2.0/24"') from None


class SmtpSettings(Section):
    """[smtp] The doors through which mail comes in. A port of 0 keeps a door shut."""

    listen: str = "0.0.0.0"
    """Address to listen on."""

    mx_port: int = Field(default=25, ge=0, le=65535)
    """Mail from the world for our reply domains."""

    submission_port: int = Field(default=587, ge=0, le=65535)
    """Mail of companies and reps, with STARTTLS and a password (RFC 6409)."""

    submissions_port: int = Field(default=465, ge=0, le=65535)
    """The same with TLS from the first byte (RFC 8314)."""

    certificate: Path | None = None
    """PEM file of the certificate and its chain; without it a self-made one is used."""

    private_key: Path | None = None
    """PEM file of its private key."""

    max_message: Size = Field(default=25 << 20, ge=64 << 10, le=1 << 30)
    """Largest message that is taken, announced as SIZE (RFC 1870)."""

    max_recipients: int = Field(default=1000, ge=100, le=100_000)
    """Recipients of one message; RFC 5321 §4.5.3.1.8 asks for 100 at least."""

    mta_sts: Literal["none", "testing", "enforce"] = "testing"
    """What our MTA-STS policy asks of servers that send us replies (RFC 8461): to tell about TLS
    that fails ("testing"), or to send nothing without it ("enforce", which needs a certificate from
    a public authority)."""

    idle: Duration = timedelta(minutes=5)
    """A client that says nothing for so long is sent away (RFC 5321 §4.5.3.2.7)."""

    session: Duration = timedelta(minutes=30)
    """The longest that one connection may last."""

    greeting: Duration = timedelta(0)
    """How long port 25 waits before it greets. Programs that send spam often don't wait for it, and
    whoever speaks first is refused; "0s" greets at once."""

    connections: int = Field(default=5000, ge=10, le=50_000)
    """Connections at the same time, per process."""

    connections_per_address: int = Field(default=200, ge=1, le=50_000)
    """The same from one address (IPv6: one /64). Trusted hosts may have any number."""

    proxies: tuple[str, ...] = ()
    """Networks of load balancers, which have to say who is behind them (PROXY protocol)."""

    trusted: tuple[str, ...] = ()
    """Networks whose hosts submit without a password, each with the login that they count as:
    "10.0.0.0/8 shop@example.com"."""

    hourly: int = Field(default=0, ge=0)
    """Recipients that one login may submit in an hour, per process; 0 for no limit."""

    daily: int = Field(default=0, ge=0)
    """The same in a day."""

    backlog: int = Field(default=1_000_000, ge=100)
    """Messages of one company that may wait to be sent; beyond it its mail is refused for now."""

    @field_validator("proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            _check_network(network)
        return value

    @field_validator("trusted")
    @classmethod
    def _have_logins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            network, _, login = line.partition(" ")
            _check_network(network)
            if not login.strip():
                raise ValueError(f'"{line}" names no login. Write for example "10.0.0.0/8 shop"')
        return value


class RelaySettings(Section):
    """[relay] How mail is handed to other people's servers."""

    smart_host: str = ""
    """One server that takes all mail, as "host:port"; empty to go to each recipient's MX."""

    port: int = Field(default=25, ge=1, le=65535)
    """Port of recipients' servers. Anything but 25 is for tests."""

    loopback: bool = False
    """Whether mail may go to loopback or private addresses; for tests and closed networks."""

    connections_per_site: int = Field(default=20, ge=1, le=200)
    """Connections to one destination at the most, whatever the rules of [shaping] allow."""

    concurrency: int = Field(default=200, ge=1, le=5000)
    """Deliveries in progress at the same time in one process."""

    window: int = Field(default=1000, ge=10, le=20_000)
    """Deliveries that one process takes from the queue ahead of sending them."""

    tls: Literal["opportunistic", "required", "never"] = "opportunistic"
    """Whether to use STARTTLS with servers that offer it (RFC 7435), insist on it, or not."""

    first_retry: Duration = timedelta(minutes=5)
    """Wait after the first failed attempt; it doubles with each one."""

    longest_retry: Duration = timedelta(hours=4)
    """The wait never gets longer than this."""

    give_up_after: Duration = timedelta(days=5)
    """Age at which a message that nobody took is given up (RFC 5321 §4.5.4.1)."""

    @field_validator("smart_host")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and (not host or not port.isdigit() or not 0 < int(port) < 65536):
            raise ValueError(f'"{value}" has no port. Write for example "smtp.example.com:587"')
        return value


class ShapingSettings(Section):
    """[shaping] How much mail a destination gets at a time."""

    rules: Path | None = None
    """TOML file with rules of your own on top of those that come with Waypost (docs/shaping.md)."""


class NoticesSettings(Section):
    """[notices] Delivery reports to those who handed us mail by SMTP (RFC 3461, RFC 3464)."""

    delayed_after: Duration = timedelta(hours=4)
    """Age at which a sender is told, once, that a message is still being tried; "0s" for never."""

    per_hour: int = Field(default=100, ge=1, le=100_000)
    """Reports to one sender within an hour; the last says that there are more failures."""

    max_returned: Size = Field(default=64 << 10, ge=0, le=25 << 20)
    """Larger messages come back as their header only, even where RET=FULL asks for all."""
