"""Mail made elsewhere goes out byte for byte, with the return path that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mail.errors import PermanentError
from mail.tokens import Token, TokenKeys, TokenKind
from mta.ready_made import ReadyMade, ready_made
from mta.submission import submit
from storage.sealing import Seal
from storage.sessions import Sessions
from tests.mta.house import Tenant, order
from tests.mta.outpost import now, outpost, until

RAW = (
    b"From: =?utf-8?B?w4Q=?= <who@elsewhere.test>\r\nX-Odd:   kept   as \r\n\tit is\r\n"
    b"To: r-abc@reply.acme.test\r\nSubject: Re: Hello\r\n\r\n.dots\r\n\r\n  spaces \r\n"
)


@pytest.mark.parametrize("wanted", [ReadyMade(), ReadyMade(""), ReadyMade("a@b.test", signed=True)])
def test_what_is_kept_is_read_again(wanted: ReadyMade) -> None:
    assert ready_made(wanted.kept()) == wanted


@pytest.mark.parametrize("parsed", [None, {}, {"ready_made": "x"}, {"envelope": {}}])
def test_other_messages_are_composed(parsed: dict[str, object] | None) -> None:
    assert ready_made(parsed) is None


async def test_the_bytes_go_out_as_they_are(
    store: Sessions, acme: Tenant, keys: TokenKeys, seal: Seal, tmp_path: Path
) -> None:
    async with outpost(store, keys, seal, tmp_path, "customer.test") as post:
        place = await post.spool.append(RAW)
        sent = {}
        for path, signed in (("", False), ("x@reply.acme.test", True), (None, False)):
            ready = ReadyMade(path, signed)
            made = order(f"k{path}", kind="system", as_is=True, spool=place, parsed=ready.kept())
            async with store.begin(acme.id) as session:
                sent[path] = await submit(session, made, now=now())
            assert sent[path].template_id is None
        post.service.wake()
        await until(lambda: len(post.sink.taken) == 3)
    bounce_to = f"{keys.local_part(Token(TokenKind.BOUNCE, 1, sent[None].id))}@reply.acme.test"
    taken = {mail.mail_from.strip("<>"): mail.content for mail in post.sink.taken}
    assert taken[""] == taken[bounce_to] == RAW
    assert taken["x@reply.acme.test"].endswith(RAW)
    assert taken["x@reply.acme.test"].count(b"DKIM-Signature:") == 2


async def test_without_a_place_there_is_nothing_to_send(store: Sessions, acme: Tenant) -> None:
    async with store.begin(acme.id) as session:
        with pytest.raises(PermanentError, match="needs its place"):
            await submit(session, order(as_is=True, parsed=ReadyMade().kept()), now=now())
