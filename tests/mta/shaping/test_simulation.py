"""Whole hours with servers whose limits nobody told us, in a world with a clock of its own."""

from __future__ import annotations

from mta.shaping.files import shipped
from mta.shaping.shaper import Shaper
from tests.mta.shaping.world import START, Server, World


def sent_to(server: Server, seconds: float, *, mail: int | None = None) -> World[Shaper]:
    world = World(Shaper(shipped()), {"example.net": server}, mail=mail)
    world.run(seconds)
    return world


def test_a_site_without_limits_gets_all_its_connections() -> None:
    server = Server(latency=0.5)
    world = sent_to(server, 120)
    assert server.most_open == 20
    assert world.told["example.net"].goodput(60, 120) >= 39


def test_a_hidden_rate_is_found_and_used() -> None:
    told = sent_to(Server(per_second=10, burst=20), 1200).told["example.net"]
    assert told.goodput(300, 1200) >= 0.85 * 10
    assert told.share_refused(300, 1200) <= 0.01
    assert told.share_refused(0, 300) <= 0.10


def test_a_slow_hidden_rate_is_found_and_used() -> None:
    told = sent_to(Server(per_second=1, burst=5), 2400).told["example.net"]
    assert told.goodput(600, 2400) >= 0.85
    assert told.share_refused(600, 2400) <= 0.03


def test_a_limit_by_the_minute_is_found_and_used() -> None:
    told = sent_to(Server(per_window=60), 3600).told["example.net"]
    assert told.goodput(600, 3600) >= 0.8
    assert told.share_refused(600, 3600) <= 0.05


def test_a_limit_by_the_hour_costs_few_refusals() -> None:
    told = sent_to(Server(per_window=600, window=3600), 7200).told["example.net"]
    assert told.goodput(0, 7200) >= 0.95 * 600 / 3600
    assert told.share_refused(0, 7200) <= 0.10


def test_a_limit_on_connections_is_found_and_used() -> None:
    told = sent_to(Server(connections=5, latency=1.0), 900).told["example.net"]
    assert told.goodput(60, 900) >= 0.95 * 5
    assert told.share_refused(0, 900) <= 0.01


def test_a_single_connection_is_enough_to_go_on() -> None:
    told = sent_to(Server(connections=1, latency=1.0), 900).told["example.net"]
    assert told.goodput(60, 900) >= 0.9
    assert told.share_refused(60, 900) <= 0.02


def test_a_rate_that_is_lifted_is_left_behind_within_a_quarter_of_an_hour() -> None:
    world = sent_to(Server(latency=1.0, per_second=2, limits_end=600), 1800)
    told = world.told["example.net"]
    assert told.goodput(120, 600) >= 0.8 * 2
    assert told.goodput(1500, 1800) >= 0.9 * 20


def test_more_connections_are_tried_when_the_limit_is_lifted() -> None:
    told = sent_to(Server(connections=2, latency=1.0, limits_end=600), 1800).told["example.net"]
    assert told.goodput(1500, 1800) >= 0.9 * 20


def test_an_outage_costs_few_attempts_and_ends_with_one_probe() -> None:
    server = Server(latency=1.0, down=(300, 1500))
    world = sent_to(server, 2400)
    told = world.told["example.net"]
    assert sum(told.lost.values()) <= 20 + 20 + 10
    assert sum(n for at, n in told.lost.items() if at > 400) <= 12
    first = min(at for at in told.accepted if at >= 1500)
    assert first - 1500 <= 300 + 10
    assert told.goodput(first + 60, first + 120) >= 0.9 * 20


def test_greylisting_slows_nothing_down() -> None:
    world = sent_to(Server(latency=1.0, greylists=200), 1200, mail=2000)
    told = world.told["example.net"]
    assert sum(told.accepted.values()) == 2000
    [state] = world.shaper.snapshot(START + 1200)
    assert state.pace is None
    assert state.ceiling is None


def test_a_tarpit_gets_patience_and_no_more_than_the_limit() -> None:
    server = Server(latency=20.0)
    told = sent_to(server, 1200).told["example.net"]
    assert server.most_open == 20
    assert told.goodput(600, 1200) >= 0.9


def test_a_site_in_trouble_takes_nothing_from_the_others() -> None:
    servers = {
        "google": Server(latency=0.5, per_second=2, burst=10),
        "yahoo": Server(latency=0.5),
        "example.net": Server(down=(0, 3600)),
    }
    world = World(Shaper(shipped()), servers)
    world.run(600)
    assert world.told["yahoo"].goodput(60, 600) >= 0.95 * 20
    assert world.told["google"].goodput(300, 600) >= 0.8 * 2
    assert servers["yahoo"].most_open == 10


def test_everything_is_delivered_in_the_end() -> None:
    server = Server(latency=0.5, per_second=3, burst=5, connections=4, down=(60, 200))
    told = sent_to(server, 3600, mail=3000).told["example.net"]
    assert sum(told.accepted.values()) == 3000
