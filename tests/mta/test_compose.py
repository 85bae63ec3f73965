"""Personal messages: right for any reader of MIME, and the same bytes every time."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import replace
from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st

from mail.ids import uuid7
from mail.tokens import Token, TokenKeys, TokenKind
from mta.compose import Composer, GenericMessage, Letter, PersonalMessage
from mta.mime import encode_text, take_apart, text_field
from mta.template import CompiledTemplate, TemplateKind
from tests.conftest import MONDAY

KEYS = TokenKeys({0: b"k" * 32}, current=0)
COMPOSER = Composer(KEYS, "https://links.acme.test")
LETTER = Letter(
    id=uuid7(),
    company=7,
    kind="bulk",
    sender="bo@acme.test",
    sender_name="Bö, of Acme",
    recipient="ann@customer.test",
    recipient_name='Ann "A" Smith',
    values={"name": "Ann <b>"},
    rfc_message_id="<1@acme.test>",
    references="<0@customer.test> <00@customer.test>",
    reply_domain="reply.acme.test",
    postal_address="Acme Ltd, 1 High Street",
    created_at=MONDAY,
)
BULK = TemplateKind(bulk=True, literal=False)
PLAIN = TemplateKind(bulk=False, literal=False)


def compose(
    subject: str, text: str, html: str = "", kind: TemplateKind = BULK, letter: Letter = LETTER
) -> PersonalMessage:
    template = CompiledTemplate(kind, subject, text, html)
    return COMPOSER.compose(GenericMessage("abc", template), letter)


def read(message: PersonalMessage) -> EmailMessage:
    return email.message_from_bytes(message.content, policy=email.policy.default)


def part(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    assert found is not None
    return str(found.get_content())


def test_bulk_mail_has_all_that_bulk_mail_needs() -> None:
    sent = read(
        compose(
            "Hallo {{ name }} – grüße",
            "See https://shop.test/a, or https://links.acme.test/ours.\n",
            '<html><body><a class="x" href="https://shop.test/?a=1&amp;b=2">go</a> {{ name }}'
            '<a href="mailto:x@y.test">m</a><a href="#top">t</a></body></html>',
        )
    )
    assert sent["Subject"] == "Hallo Ann <b> – grüße"
    assert sent["From"].addresses[0].display_name == "Bö, of Acme"
    assert sent["To"].addresses[0].display_name == 'Ann "A" Smith'
    assert sent["In-Reply-To"] == "<00@customer.test>"
    assert sent["References"] == "<0@customer.test> <00@customer.test>"
    assert sent["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    reply = sent["Reply-To"].addresses[0]
    assert KEYS.read_local_part(reply.username) == Token(TokenKind.REPLY, 7, LETTER.id)
    assert reply.domain == "reply.acme.test"

    links = sent["List-Unsubscribe"]
    page = re.search(r"<https://links\.acme\.test/u/([^>]+)>", links)
    mail = re.search(r"<mailto:([^@]+)@reply\.acme\.test\?subject=unsubscribe>", links)
    assert page
    assert mail
    token = Token(TokenKind.UNSUBSCRIBE, 7, LETTER.id)
    assert KEYS.read_link(page[1], TokenKind.UNSUBSCRIBE) == token
    assert KEYS.read_local_part(mail[1]) == token

    html = part(sent, "html")
    assert "Ann &lt;b&gt;" in html
    assert "shop.test" not in html
    assert 'href="mailto:x@y.test"' in html
    assert 'href="#top"' in html
    click = re.search(r'<a class="x" href="https://links\.acme\.test/c/([^"]+)">', html)
    assert click
    assert KEYS.read_link(click[1], TokenKind.CLICK) == Token(TokenKind.CLICK, 7, LETTER.id, 0)
    assert re.search(r'<img src="https://links\.acme\.test/o/[^"]+"[^>]*></body>', html)
    assert "1 High Street" in html
    assert "Unsubscribe</a>" in html

    text = part(sent, "plain")
    bare = re.search(r"See https://links\.acme\.test/c/([\w-]+), or", text)
    assert bare
    assert KEYS.read_link(bare[1], TokenKind.CLICK) == Token(TokenKind.CLICK, 7, LETTER.id, 1)
    assert "https://links.acme.test/ours." in text
    assert "1 High Street" in text
    assert "/u/" in text


def test_a_template_that_has_its_own_footer_gets_no_second_one() -> None:
    sent = read(compose("x", "a\n{{ postal_address }} {{ unsubscribe_url }}\n"))
    assert part(sent, "plain").count("High Street") == 1


def test_transactional_mail_is_left_as_it_is() -> None:
    letter = replace(LETTER, kind="mail")
    sent = read(compose("Receipt", "https://shop.test/a\n", "", PLAIN, letter))
    assert part(sent, "plain").strip() == "https://shop.test/a"
    assert sent["List-Unsubscribe"] is None


def test_the_same_order_gives_the_same_bytes_and_another_person_other_ones() -> None:
    first = compose("Hi", "a {{ name }}", "<p>b</p>")
    assert compose("Hi", "a {{ name }}", "<p>b</p>") == first
    other = replace(LETTER, id=uuid7())
    assert compose("Hi", "a {{ name }}", "<p>b</p>", BULK, other).content != first.content


def test_links_in_bounces_name_the_message() -> None:
    local, _, domain = compose("Hi", "a").return_path.partition("@")
    assert KEYS.read_local_part(local) == Token(TokenKind.BOUNCE, 7, LETTER.id)
    assert domain == "reply.acme.test"


def test_targets_with_merge_fields_stay_direct() -> None:
    html = '<a href="https://shop.test/{{ name|urlencode }}">x</a>'
    assert "https://shop.test/Ann%20" in part(read(compose("x", "y", html)), "html")


@given(st.text(max_size=400))
def test_any_text_survives_and_lines_stay_short(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    encoding, body = encode_text(text)
    assert body.isascii()
    assert all(len(line) <= 998 for line in body.split(b"\r\n"))
    assert b"\n" not in body.replace(b"\r\n", b"")
    assert b"\r" not in body.replace(b"\r\n", b"")
    head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n"
    back = email.message_from_bytes(head.encode() + b"\r\n" + body)
    got = back.get_payload(decode=True)
    assert isinstance(got, bytes)
    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    wanted += "" if wanted.endswith("\n") else "\n"
    assert got.replace(b"\r\n", b"\n").decode() == wanted


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=300))
def test_any_subject_survives(subject: str) -> None:
    raw = text_field("Subject", subject)
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    read = email.message_from_bytes(raw + b"\r\n", policy=email.policy.default)
    assert raw.isascii()
    if "=?" not in subject:
        assert read["Subject"] == subject


SUBMITTED = "\r\n".join(
    [
        "From: rep@acme.test",
        "Subject: Offer",
        "Importance: high",
        "X-Secret: no",
        "MIME-Version: 1.0",
        'Content-Type: multipart/mixed; boundary="outer"',
        "",
        "preamble",
        "--outer",
        "Content-Type: text/plain; charset=iso-8859-1",
        "Content-Transfer-Encoding: quoted-printable",
        "",
        "Gr=FC=DFe https://shop.test/",
        "--outer",
        "Content-Type: application/pdf; name=a.pdf",
        "Content-Disposition: attachment; filename=a.pdf",
        "Content-Transfer-Encoding: base64",
        "",
        "JVBERi0xLjQ=",
        "--outer--",
        "",
    ]
).encode()


def test_submitted_mail_keeps_its_attachments_and_gets_new_personal_headers() -> None:
    skeleton = take_apart(SUBMITTED)
    assert skeleton.text == "Grüße https://shop.test/"
    template = CompiledTemplate(
        TemplateKind(bulk=True, literal=True), "Offer", skeleton.text, skeleton.html
    )
    sent = read(COMPOSER.compose(GenericMessage("abc", template, skeleton), LETTER))
    assert "Grüße https://links.acme.test/c/" in part(sent, "plain")
    (attachment,) = sent.iter_attachments()
    assert attachment.get_filename() == "a.pdf"
    assert attachment.get_payload(decode=True) == b"%PDF-1.4"
    assert sent["Importance"] == "high"
    assert sent["X-Secret"] is None
    assert sent["MIME-Version"] == "1.0"


@given(st.binary(max_size=300), st.sampled_from(["b", "", "\\", "a(b"]))
def test_taking_apart_never_fails(body: bytes, boundary: str) -> None:
    head = f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n--{boundary}\r\n'
    skeleton = take_apart(head.encode() + body)
    assert skeleton.fill("text", "html").count(b"\r\n") >= 1


def test_a_deeply_nested_message_is_carried_without_being_read() -> None:
    raw = b""
    for level in range(100):
        raw += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
    assert take_apart(raw).text == ""


def footer_of(html: str) -> str:
    return part(read(compose("s", "t", html)), "html")


def test_bulk_html_gets_its_footer_where_readers_see_it() -> None:
    hidden = "<!-- {{ postal_address }} {{ unsubscribe_url }} </body> --><p>x</p></body></html>"
    for html in (
        hidden,
        "<p>{{ postal_address }} in the text, no way out</p>",
        "<table><tr><td><table><tr><td>cut off",
        "<p>never ended <!-- comment",
        "<html><p>no body end</p></html>",
        "</body><table><tr><td>x</td></tr></table></body>",
    ):
        seen = re.sub(r"(?s)<!--.*?-->", "", footer_of(html))
        assert "1 High Street" in seen
        assert "/u/" in seen
        assert seen.count("<table") == seen.count("</table")
        assert seen.rindex("/u/") > seen.rfind("</table")
        after = seen[seen.rindex("/u/") :]
        assert ("</body>" in after) == ("</body>" in html.replace("</body> -->", ""))


def test_merge_fields_never_take_the_place_of_what_the_law_asks_for() -> None:
    values = {"name": "Ann", "postal_address": "nowhere", "unsubscribe_url": "https://x.test/"}
    sent = read(compose("s", "hello", letter=replace(LETTER, values=values)))
    text = part(sent, "plain")
    assert "1 High Street" in text
    assert "nowhere" not in text
    assert "https://x.test/" not in text
