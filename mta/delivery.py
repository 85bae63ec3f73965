"""Hands mail over: claims what is due, has it composed and signed, talks, records.

The stages work beside each other. A look at the table finds destinations with due mail; a claim
takes a few hundred of them at a time, no more for one site than it will soon have room for; the
press makes them in threads; each site's connections take what lies ready; results are written in
batches. Mail that was just taken in is claimed by the transaction that writes it down and comes
straight here.

No transaction is open while we talk to strangers. An error that nobody expected sets one delivery
aside with its cause; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from mail.errors import TemporaryError
from mail.ids import uuid7
from mta import claims, metrics
from mta.carrier import Carrier
from mta.claims import LEASE, Claim
from mta.manner import Manner
from mta.outcome import Outcome, Trial
from mta.press import TOGETHER, Job, Made, Press
from mta.retry import RetrySchedule, State
from mta.shaping.shaper import Shaper
from mta.sitemap import Sitemap
from mta.sites import Site, Sites
from mta.submission import Claiming, Order
from mta.suspensions import NOTHING, suspended
from mta.taken import Taken
from mta.traces import Traces
from storage.aside import Aside
from storage.sessions import EVERY_COMPANY, Sessions

log = structlog.get_logger()

ATTEMPT_SECONDS = 900.0
"""The longest that one attempt may take, whatever the other server does."""

GRACE_SECONDS = 20.0
"""What deliveries in progress get when the process is asked to end."""

BULK_SHARE = 0.8
"""Of the window, for bulk; the rest is kept free for mail that somebody waits for."""

RESULTS = 500
"""Results in one transaction; and so many may wait before nothing more is begun."""

MOST_PATIENCE = 5.0
"""Seconds that mail waits for room at the most before it goes into the queue."""

GATHER = 8
GATHER_SECONDS = 0.04
"""After so many results in one transaction, more are let gather."""

MARGIN = timedelta(seconds=10)
"""How much later than their due time rows may appear, because a transaction took long."""

SWEEP_SECONDS = 300.0
"""How often all that is due is looked at, whatever was seen before."""

LONG_SECONDS = 15.0
"""If a site takes nothing for longer, its mail waits in the table instead of in memory."""

FINDING = 100
"""Domains whose mail servers are looked up at the same time."""

LAPSE_SECONDS = 10.0


class LeaseLostError(Exception):
    """The lease ran out before the message went out; somebody else may have it."""


class Deliverer:
    """Runs deliveries side by side, few to one site, until it is told to stop."""

    def __init__(
        self,
        sessions: Sessions,
        press: Press,
        carrier: Carrier,
        manner: Manner,
        schedule: RetrySchedule,
        clock: Callable[[], datetime],
        *,
        sitemap: Sitemap,
        shaper: Shaper,
        aside: Aside,
        role: str,
        provider_of: Callable[[str, str], str] = lambda domain, host: "",
        tick: float = 1.0,
    ) -> None:
        """`role` is stable over restarts: its own old claims are taken back at once."""
        self._sessions = sessions
        self._aside = aside
        self._provider_of = provider_of
        self._shaper = shaper
        self._press = press
        self._carrier = carrier
        self._manner = manner
        self._schedule = schedule
        self._clock = clock
        self._sitemap = sitemap
        self._site_of = sitemap.site
        self._finding: set[str] = set()
        self._role = role
        self._run = str(uuid7())
        self._rounds = itertools.count(1)
        self._tick = tick
        self._sites = Sites()
        self._traces = Traces(sessions, clock)
        self._wake = asyncio.Event()
        self._stopping = False
        self._in_hand = 0
        self._leases: dict[UUID, tuple[str, float, str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._active: dict[str, int] = {}
        self._under_way = 0
        self._starved: dict[str, None] = {}
        self._results: list[tuple[Claim, Outcome]] = []
        self._recording: asyncio.Task[None] | None = None
        self._recorded = asyncio.Event()
        self._recorded.set()
        self._suspended = NOTHING
        self._seen: datetime | None = None
        self._swept = self._lapsed = 0.0
        self._bulk_window = int(manner.window * BULK_SHARE)
        self._room = asyncio.Event()
        self._last_result = 0.0

    # For those who have mail.

    def wake(self) -> None:
        """Looks for due mail now."""
        self._wake.set()

    def claiming(self, barred: Collection[str]) -> Claiming | None:
        """How mail that is being written down is claimed at once, if there is room (`Relay`)."""
        room = self._bulk_window - self._in_hand
        if self._stopping or room <= 0 or self._suspended.rows:
            return None  # What may be suspended is looked at in the table.
        taken: dict[str, int] = {}
        now = self._clock()

        def wants(order: Order, destination: str) -> bool:
            nonlocal room
            site = self._sites[self._site_of(destination)]
            ahead = site.in_hand + taken.get(site.name, 0)
            if (
                room <= 0
                or order.kind != "mail"
                or order.recipient.lower() in barred
                or site.due
                or not self._sitemap.knows(destination)
                or ahead >= self._ahead
                or self._rests(site)
            ):
                return False
            room -= 1
            taken[site.name] = taken.get(site.name, 0) + 1
            return True

        return Claiming(
            wants,
            fence=self._fence(),
            until=now + LEASE,
            again=now + self._schedule.wait(1),
        )

    async def has_room(self, seconds: float) -> None:
        """Waits until more may be claimed; for so long after the last result (`Relay`)."""
        start = time.monotonic()
        while self._in_hand >= self._bulk_window and not self._stopping:
            now = time.monotonic()
            if now - max(start, self._last_result) >= seconds or now - start >= MOST_PATIENCE:
                return  # What is in hand does not move: others may be better off in the queue.
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), seconds)

    def take(self, taken: Sequence[Taken]) -> None:
        """Takes over what was claimed so (`Relay`)."""
        jobs = [Job(_claim_of(one), one.raw) for one in taken]
        if jobs:
            self._begin(jobs)

    @property
    def _ahead(self) -> int:
        """How many deliveries of one site are claimed ahead of their turn: its share of all."""
        busy = sum(1 for site in self._sites if site.in_hand or site.due)
        return max(self._manner.ahead, self._bulk_window // max(busy, 1))

    def ready(self) -> dict[str, int]:
        """How many lie ready for which site."""
        return {site.name: site.waiting for site in self._sites if site.waiting}

    @property
    def in_hand(self) -> int:
        """How many are claimed and not recorded."""
        return self._in_hand

    # Its life.

    def stop(self) -> None:
        """Claims nothing more; `run` ends after the deliveries in hand."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Takes back the claims of an earlier run, then delivers until stopped."""
        async with self._sessions.begin(EVERY_COMPANY) as session:
            back = await claims.take_back(session, self._role, now=self._clock())
        if back:
            log.warning("queue.taken_back", role=self._role, deliveries=back)
        keeper = asyncio.create_task(self._keep())
        try:
            while not self._stopping:
                self._wake.clear()
                started = 0
                try:
                    await self._look()
                    started = await self.start_due()
                except (OSError, OperationalError, InterfaceError) as error:
                    log.error("queue.store_lost", cause=str(error)[:200])
                except Exception:  # Whatever it is, mail goes on when it is over.
                    log.exception("queue.failed")
                if not started and not self._stopping:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), self._tick)
            await self.settle()
        finally:
            keeper.cancel()

    async def close(self, *, grace: float = GRACE_SECONDS) -> None:
        """Ends what is in progress, after `grace` seconds by force, and hangs up.

        What nobody began goes back to the queue. What is cut off stays claimed, and the next run of
        this role takes it back.
        """
        self.stop()
        self._carrier.closing = True
        await self._give_back()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=grace)
            for task in late:
                task.cancel()
            if late:
                log.warning("delivery.cut_off", deliveries=len(late))
                await asyncio.wait(late)
        await self._give_back()  # What was being made when we stopped.
        while self._recording is not None and not self._recording.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._recording), grace)
                continue
            break
        for site in self._sites:
            await self._carrier.tidy(site)
        self._press.close()

    async def settle(self) -> None:
        """Waits until nothing is in hand."""
        while self._tasks or self._results:
            if self._tasks:
                await asyncio.wait(set(self._tasks))
            if self._recording is not None:
                await asyncio.wait({self._recording})

    # What is due.

    async def _look(self) -> None:
        """Finds destinations with mail that came due since the last look."""
        now, wall = self._clock(), time.monotonic()
        if wall - self._lapsed >= LAPSE_SECONDS:
            self._lapsed = wall
            async with self._sessions.begin(EVERY_COMPANY) as session:
                if lapsed := await claims.lapse(session, now=now):
                    log.warning("queue.lapsed", deliveries=lapsed)
        sweep = self._seen is None or wall - self._swept >= SWEEP_SECONDS or self._seen > now
        after = None if sweep or self._seen is None else self._seen - MARGIN
        async with self._sessions.read(EVERY_COMPANY) as session:
            found = await claims.due_destinations(session, after=after, now=now)
            self._suspended = await suspended(session, now=now)
            await self._carrier.overrides.load(session)
        if sweep:
            self._swept = wall
        self._seen = now
        for destination, lane in found.items():
            if self._sitemap.knows(destination):
                self._is_due(destination, lane)
            elif destination not in self._finding and len(self._finding) < FINDING:
                self._finding.add(destination)  # Beside, so that no name server holds up others.
                self._spawn(self._find(destination, lane))
            elif len(self._finding) >= FINDING:
                self._seen = after  # Look at them again.

    async def _find(self, destination: str, lane: int) -> None:
        try:
            await self._sitemap.find(destination)
        finally:
            self._finding.discard(destination)
        self._is_due(destination, lane)
        self._wake.set()

    def _is_due(self, destination: str, lane: int) -> None:
        due = self._sites[self._site_of(destination)].due
        due[destination] = min(lane, due.get(destination, lane))

    async def start_due(self) -> int:
        """Claims as much as there is room for and starts on it; says how much that was."""
        wanted = self._wanted()
        if not wanted:
            return 0
        async with self._sessions.begin(EVERY_COMPANY) as session:
            taken, drained = await claims.claim(
                session,
                wanted,
                now=self._clock(),
                fence=self._fence(),
                schedule=self._schedule,
                suspended=self._suspended,
            )
            await self._traces.look(session)
        for site in self._sites:
            for destination in drained & site.due.keys():
                del site.due[destination]
        self._begin([Job(claim) for claim in taken])
        return len(taken)

    def _wanted(self) -> dict[str, int]:
        """How much to claim for which destination, best lanes first."""
        wanted: dict[str, int] = {}
        room = self._manner.window - self._in_hand
        bulk = self._bulk_window - self._in_hand
        for site in self._sites.with_due():
            left = min(self._ahead - site.in_hand, room if site.lane < 2 else bulk)
            if left <= 0 or self._rests(site):
                continue
            for destination in sorted(site.due, key=lambda d: site.due[d]):
                if left <= 0 or len(wanted) >= claims.DESTINATIONS:
                    break
                share = max(1, left // len(site.due))
                wanted[destination] = share
                left, room, bulk = left - share, room - share, bulk - share
            if len(wanted) >= claims.DESTINATIONS:
                break
        return wanted

    def _rests(self, site: Site) -> bool:
        """Whether nothing can be sent there for a while."""
        now = time.time()
        return (
            not self._active.get(site.name)
            and not self._shaper.room(site.name, now)
            and self._shaper.next_room(site.name, now) - now > LONG_SECONDS
        )

    def _fence(self) -> str:
        return f"{self._role}/{self._run}/{next(self._rounds)}"

    # What is in hand.

    def _begin(self, jobs: Sequence[Job]) -> None:
        end = time.monotonic() + LEASE.total_seconds()
        for job in jobs:
            site = self._sites[self._site_of(job.claim.destination)]
            self._leases[job.claim.id] = (job.claim.fence, end, site.name)
            site.in_hand += 1
        self._in_hand += len(jobs)
        for start in range(0, len(jobs), TOGETHER):
            self._spawn(self._make(jobs[start : start + TOGETHER]))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, jobs: Sequence[Job]) -> None:
        try:
            made = await self._press.make(jobs)
        except (OSError, OperationalError, InterfaceError) as error:
            log.error("delivery.store_lost", cause=str(error)[:200])
            self._let_go(job.claim for job in jobs)  # Their leases end, and they are tried again.
            return
        except Exception as error:
            log.exception("delivery.failed", deliveries=len(jobs))
            for job in jobs:
                self._note(
                    job.claim,
                    Outcome(State.HELD, text=repr(error)[:300], reason="unexpected error"),
                )
            return
        sites = set()
        for one in made:
            if one.problem is None:
                site = self._sites[self._leases[one.claim.id][2]]
                site.put(one)
                sites.add(site.name)
            elif isinstance(one.problem, TemporaryError):
                trial, now = self._trial(one.claim), self._clock()
                again = trial.after_loss(one.problem.public, after_data=False, now=now)
                self._note(one.claim, again)
            else:
                held = Outcome(State.HELD, text=one.problem.public, reason="can't be composed")
                self._note(one.claim, held)
        for name in sites:
            self._pump(self._sites[name])

    def _pump(self, site: Site) -> None:
        """Begins as many deliveries to a site as it has room for now."""
        while site.waiting and not self._stopping:
            if self._under_way >= self._manner.concurrency:
                self._starved.setdefault(site.name)
                return
            if not self._may_begin(site):
                return
            made = site.next()
            assert made is not None
            self._active[site.name] = self._active.get(site.name, 0) + 1
            self._under_way += 1
            self._shaper.started(site.name, time.time())
            self._spawn(self._work(site, made))

    def _may_begin(self, site: Site) -> bool:
        """Whether the site takes one more; if not now, it is asked again when it may."""
        active = self._active.get(site.name, 0)
        now = time.time()
        if active < self._manner.per_site and self._shaper.room(site.name, now) > 0:
            return True
        if active >= self._manner.per_site or site.name in self._timers:
            return False
        late = self._shaper.next_room(site.name, now) - now
        if not active and late > LONG_SECONDS:
            self._spawn(self._give_back([site]))  # The table is a better place to wait.
            return False
        handle = asyncio.get_running_loop().call_later(
            min(max(late, 0.01), LONG_SECONDS), self._ask_again, site
        )
        self._timers[site.name] = handle
        return False

    def _ask_again(self, site: Site) -> None:
        self._timers.pop(site.name, None)
        self._pump(site)

    async def _work(self, site: Site, made: Made) -> None:
        """One delivery after the other, as long as there is one for this site and room."""
        following: Made | None = made
        try:
            while following is not None:
                await self._deliver(site, following)
                following = None
                await self._recorded.wait()
                # Others may have no connection at all while this site goes on: let them.
                if self._stopping or self._starved or not site.waiting:
                    break
                if self._active[site.name] <= self._manner.per_site and self._shaper.room(
                    site.name, time.time()
                ):
                    following = site.next()
                    self._shaper.started(site.name, time.time())
        finally:
            self._under_way -= 1
            self._active[site.name] -= 1
            if not self._active[site.name]:
                del self._active[site.name]
            if self._starved and site.waiting:
                self._starved.setdefault(site.name)
            for name in list(self._starved):
                if self._under_way >= self._manner.concurrency:
                    break
                del self._starved[name]
                self._pump(self._sites[name])
            if site.waiting and site.name not in self._starved:
                self._pump(site)

    async def _deliver(self, site: Site, made: Made) -> None:
        claim, started = made.claim, time.monotonic()
        if started >= self._leases.get(claim.id, ("", 0.0, ""))[1]:
            log.warning("delivery.lease_lost", delivery_id=str(claim.id))
            self._shaper.abandoned(site.name)
            self._let_go([claim])
            return
        trial = self._trial(claim)
        record = await self._traces.begin(claim.id)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                outcome = await self._carrier.carry(made, site, trial, record)
        except TimeoutError:
            cause = "the attempt took too long"
            outcome = trial.after_loss(cause, after_data=True, now=self._clock())
        except TemporaryError as error:
            outcome = trial.after_loss(error.public, after_data=False, now=self._clock())
        except Exception as error:
            log.exception("delivery.failed", delivery_id=str(claim.id))
            outcome = Outcome(State.HELD, text=repr(error)[:300], reason="unexpected error")
        if record is not None:
            await record.end(outcome, now=self._clock())
        seconds = time.monotonic() - started
        self._counts(claim, outcome).seconds.observe(seconds)
        outcome = self._learn(site, claim, outcome)
        self._note(claim, replace(outcome, seconds=round(seconds, 3)))

    def _learn(self, site: Site, claim: Claim, outcome: Outcome) -> Outcome:
        """Tells the shaper what became of it, and waits as long as such a reply asks for."""
        elsewhere = self._carrier.overrides.of(claim.destination, claim.company_id) is not None
        nobody = not outcome.host and outcome.code is not None
        if outcome.state is State.HELD or nobody or elsewhere:
            self._shaper.abandoned(site.name)  # It says nothing about the site.
            return outcome
        meaning = self._shaper.finished(site.name, outcome.verdict, time.time())
        if outcome.due_at is None:
            return outcome
        again = self._schedule.next_attempt(
            attempts=claim.attempts,
            expires=claim.expires_at,
            now=self._clock(),
            reply_class=meaning,
            key=str(claim.id),
        )
        return outcome if again is None else replace(outcome, due_at=again)

    def _trial(self, claim: Claim) -> Trial:
        return Trial(claim.attempts, claim.expires_at, self._schedule)

    # What came of it.

    def _counts(self, claim: Claim, outcome: Outcome) -> metrics.Attempts:
        return metrics.attempts(self._provider_of(claim.destination, outcome.host))

    def _note(self, claim: Claim, outcome: Outcome) -> None:
        if outcome.state is State.DELIVERED:
            self._last_result = time.monotonic()
        self._counts(claim, outcome).ended(outcome.state)
        self._results.append((claim, outcome))
        if len(self._results) >= RESULTS:
            self._recorded.clear()
        if self._recording is None or self._recording.done():
            self._recording = asyncio.create_task(self._record())

    async def _record(self) -> None:
        """Writes results until there are none; again and again while the store is away."""
        wait = 0.1
        while self._results:
            batch = self._results[:RESULTS]
            now = self._clock()
            try:
                kept = await self._aside.run(partial(_write, batch, now))
            except (OSError, OperationalError, InterfaceError) as error:
                log.error("delivery.not_recorded", results=len(batch), cause=str(error)[:200])
                await asyncio.sleep(wait)
                wait = min(wait * 2, 30.0)
                continue
            except Exception:
                log.exception("delivery.not_recorded", results=len(batch))
                await asyncio.sleep(wait)
                wait = min(wait * 2, 30.0)
                continue
            wait = 0.1
            del self._results[: len(batch)]
            if len(self._results) < RESULTS:
                self._recorded.set()
            for claim, outcome in batch:
                log.info(
                    f"delivery.{outcome.state}",
                    delivery_id=str(claim.id),
                    code=outcome.code,
                    host=outcome.host,
                    attempt=claim.attempts,
                    recorded=claim.id in kept,
                )
            self._let_go(claim for claim, _ in batch)
            if any(site.due for site in self._sites):
                self._wake.set()
            if len(batch) >= GATHER and not self._stopping and len(self._results) < RESULTS:
                await asyncio.sleep(GATHER_SECONDS)

    def _let_go(self, done: Iterable[Claim]) -> None:
        for claim in done:
            lease = self._leases.pop(claim.id, None)
            if lease is not None:
                self._in_hand -= 1
                self._sites[lease[2]].in_hand -= 1
        if self._in_hand < self._bulk_window:
            self._room.set()

    async def _give_back(self, sites: Iterable[Site] | None = None) -> None:
        """What lies ready (for some sites, or all) and nobody began goes back to the table."""
        chosen = self._sites if sites is None else sites
        left = [made.claim for site in chosen for made in iter(site.next, None)]
        if not left:
            return
        try:
            async with self._sessions.begin(EVERY_COMPANY) as session:
                await claims.give_back(session, left, now=self._clock())
        except (OSError, OperationalError, InterfaceError) as error:
            log.error("delivery.not_given_back", deliveries=len(left), cause=str(error)[:200])
        self._let_go(left)

    async def _keep(self) -> None:
        """Renews the leases of what is in hand; closes connections that nobody needs."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for site in self._sites:
                await self._carrier.tidy(site)
            self._sites.tidy()
            if now - last < LEASE.total_seconds() / 3 or not self._leases:
                continue
            last = now
            held = {key: fence for key, (fence, _, _) in self._leases.items()}
            try:
                async with self._sessions.begin(EVERY_COMPANY) as session:
                    await claims.renew(session, held, until=self._clock() + LEASE)
            except (OSError, OperationalError, InterfaceError) as error:
                log.error("queue.leases_not_renewed", cause=str(error)[:200])
                continue
            for key, fence in held.items():
                if key in self._leases:
                    name = self._leases[key][2]
                    self._leases[key] = (fence, now + LEASE.total_seconds(), name)


async def _write(
    batch: Sequence[tuple[Claim, Outcome]], now: datetime, sessions: Sessions
) -> set[UUID]:
    async with sessions.begin(EVERY_COMPANY) as session:
        return await claims.record(session, batch, now=now)


def _claim_of(taken: Taken) -> Claim:
    submitted = taken.submitted
    assert submitted.delivery_id is not None
    assert submitted.expires_at is not None
    return Claim(
        submitted.delivery_id,
        submitted.message.company_id,
        submitted.message.recipient,
        submitted.destination,
        1,
        1,
        submitted.expires_at,
        taken.claiming.fence,
        submitted.message,
    )
