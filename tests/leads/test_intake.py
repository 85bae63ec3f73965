"""Contacts from files as spreadsheets write them; nothing is dropped without a word."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from leads.intake import Report, _rows, guess_delimiter, guess_encoding, import_csv, to_csv
from mail.ids import uuid7
from mta.recipients import suppress
from storage.sessions import EVERY_COMPANY, Sessions
from storage.tables import Company, Contact, User
from tests.conftest import MONDAY


@pytest.fixture
async def company(store: Sessions) -> UUID:
    company = uuid7()
    async with store.begin(EVERY_COMPANY) as session:
        session.add(Company(id=company, number=1, name="Ours", created_at=MONDAY))
    async with store.begin(company) as session:
        session.add(User(email="bo@ours.test", name="Bo", role="rep", created_at=MONDAY))
    return company


async def contacts(store: Sessions, company: UUID) -> dict[str, Contact]:
    async with store.read(company) as session:
        return {c.address: c for c in await session.scalars(select(Contact))}


async def test_a_file_from_a_german_spreadsheet(store: Sessions, company: UUID) -> None:
    text = "E-Mail;Vorname;Nachname;Firma;Zeitzone;Stück\r\n" + (
        "Ann@X.test;Änn;Müller;Pumpen GmbH;;7\r\ncy@x.test;Cy;;;;\r\n"
    )
    report = await import_csv(store, company, text.encode("windows-1252"), MONDAY)
    assert (report.encoding, report.delimiter) == ("windows-1252", ";")
    assert (report.added, report.rejected) == (2, 0)
    ann = (await contacts(store, company))["ann@x.test"]
    assert (ann.name, ann.organisation) == ("Änn Müller", "Pumpen GmbH")
    assert ann.fields == {"first_name": "Änn", "last_name": "Müller", "stück": "7"}


async def test_taking_it_again_changes_nothing(
    store: Sessions, company: UUID, tmp_path: Path
) -> None:
    path = tmp_path / "contacts.csv"
    path.write_bytes("\ufeffemail,name,owner\nann@x.test,Ann,bo@ours.test\nANN@x.test,,\n".encode())
    first = await import_csv(store, company, path, MONDAY)
    with path.open("rb") as stream:
        second = await import_csv(store, company, stream, MONDAY)
        assert not stream.closed
    assert (first.rows, first.added, first.merged, first.known) == (2, 1, 1, 0)
    assert (second.rows, second.added, second.merged, second.known) == (2, 0, 1, 1)
    [ann] = (await contacts(store, company)).values()
    assert ann.owner_id is not None


async def test_every_bad_row_is_told_with_its_line_and_the_others_go_in(
    store: Sessions, company: UUID
) -> None:
    async with store.begin(company) as session:
        await suppress(session, "gone@x.test", "complaint", now=MONDAY)
    text = (
        "email,name,zone,owner\n"
        "ann@x.test,Ann,Mars/Base,nobody@ours.test\n"
        "\n"
        "not an address,Bo,,\n"
        ",Cy,,\n"
        "di@x.test,Di,,,extra\n"
        "gone@x.test,Ed,,\n"
        'fi@x.test,"Fi" y,,\n'
        'gu@x.test,"Gu\nSecond",,\n'
        "hi@x.test,Hi,,\n"
    )
    report = await import_csv(store, company, text.encode(), MONDAY)
    assert sorted(await contacts(store, company)) == ["ann@x.test", "gu@x.test", "hi@x.test"]
    assert (report.rows, report.added, report.rejected, report.suppressed) == (8, 3, 4, 1)
    lines = [(p.line, p.column) for p in report.problems]
    assert sorted(set(lines)) == [
        (2, "owner"), (2, "zone"), (4, "email"), (5, "email"), (6, ""), (7, ""), (8, "")
    ]  # fmt: skip
    assert all(p.reason and p.remedy for p in report.problems)
    assert to_csv(report.problems).startswith("line,column,reason,remedy")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: The file has no heading. Name the columns in line 1."),
        (b"name,e-mial\nAnn,a@x.test\n", 'Rename "e-mial" to "email".'),
        (b"a,b\n1,2\n", 'No column holds e-mail addresses. Name one of the columns "email".'),
        (b"email" + b"," * 300, "There are 301 columns."),
    ],
)
async def test_a_file_that_is_not_one_is_told_why(
    store: Sessions, company: UUID, content: bytes, said: str
) -> None:
    report = await import_csv(store, company, content, MONDAY)
    assert said in str(report.problems[0])
    assert report.rows == 0


async def test_many_rows_go_in_by_batches(store: Sessions, company: UUID) -> None:
    text = "email\n" + "".join(f"p{i % 600}@x.test\n" for i in range(650))
    report = await import_csv(store, company, text.encode("utf-16"), MONDAY)
    assert report.encoding == "utf-16"
    assert (report.rows, report.added, report.merged) == (650, 600, 50)


def test_a_quotation_mark_left_open_is_told_with_all_it_hides() -> None:
    report = Report()
    text = b'email,name\na@x.test,"A\nb@x.test,B\nc@x.test,C\n'
    assert list(_rows(io.BytesIO(text), report)) == []
    assert "line 2: All from here to line 4 can't be read" in str(report.problems[0])


def test_encodings_and_delimiters_are_guessed() -> None:
    assert guess_encoding(io.BytesIO("é".encode())) == "utf-8-sig"
    assert guess_encoding(io.BytesIO(b"caf\xe9")) == "windows-1252"
    assert [guess_delimiter(h) for h in ("a,b", "a;b", "a\tb", "a|b", "a", '"a;b",c')] == list(
        ",;\t|,,"
    )


def test_a_cell_that_would_run_as_a_formula_is_defused() -> None:
    report = Report()
    list(_rows(io.BytesIO(b"=email\nnot an address\n"), report))
    assert [problem.column for problem in report.problems] == ["=email"]
    assert to_csv(report.problems).splitlines()[1].startswith("2,'=email,")


@given(st.binary(max_size=400))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
def test_any_bytes_are_read_or_told(data: bytes) -> None:
    for prefix in (b"", b"email,name\n", b"\xff\xfe"):
        report = Report()
        rows = list(_rows(io.BytesIO(prefix + data), report))
        assert report.rows == len(rows) + report.rejected
