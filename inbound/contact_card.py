"""Who signs, and how they can be reached: the fields of a signature. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

import phonenumbers

from inbound.headers import Mailbox
from inbound.languages import fold, tables

MAX_LINES = 40

_EMAIL = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,6}")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'|,;]{3,300}", re.I)
_BARE = re.compile(
    r"(?<![@\w.-])(?:[a-z0-9-]{2,63}\.){1,3}(?:com|net|org|io|de|fr|co|eu|it|es|nl|ch|at|be|pl|se|"
    r"dk|no|fi|pt|uk|us|ca|au|br|ai|dev|app|biz|info|cz|ie|tech)(?:/[^\s|,;]{0,200})?(?![\w@-])",
    re.I,
)
_PHONE = re.compile(
    r"(?<![\w@/.])(?:\+|\(|0|1|[2-9])[\d\s().\-/\u2010-\u2013]{5,22}\d(?:\s?(?:x|ext\.?)\s?\d{1,6})?"
)
_LEGAL = re.compile(
    r"(?:^|[\s,])(?:gmbh|ag|inc|llc|ltd|limited|corp|corporation|co|sarl|s\.?a\.?s?|s\.?r\.?l|"
    r"s\.?p\.?a|b\.?v|n\.?v|kg|ug|se|plc|pty|oy|ab|a/s|aps|asa|as|sp\. z o\.o|s\.l|sl|lda|ltda|kft|"
    r"s\.r\.o|a\.s|ооо|зао|company|group|holding|gruppe|groupe|gruppo|bank|university|universität|"
    r"université|institute|consulting|partners|solutions|technologies|systems|software|labs|studio|"
    r"studios|agency|services|industries|international|e\.v|ohg)\b\.?(?:\s|,|$)",
    re.I,
)
_TITLE = (
    "manager", "director", "engineer", "developer", "ceo", "cto", "cfo", "coo", "cmo", "founder",
    "co-founder", "president", "vice president", "vp", "head of", "lead", "consultant", "analyst",
    "assistant", "officer", "executive", "specialist", "coordinator", "architect", "designer",
    "sales", "marketing", "partner", "owner", "professor", "prof.", "representative", "supervisor",
    "administrator", "accountant", "attorney", "lawyer", "buyer", "chief", "associate", "advisor",
    "leiter", "leiterin", "geschäftsführer", "geschäftsführerin", "vertrieb", "einkauf", "berater",
    "referent", "sachbearbeiter", "projektleiter", "prokurist", "vorstand", "entwickler",
    "directeur", "directrice", "responsable", "chef de", "ingénieur", "gérant", "président",
    "chargé", "chargée", "commercial", "consultante", "assistante", "director", "directora",
    "gerente", "jefe", "jefa", "ingeniero", "responsabile", "direttore", "direttrice",
    "amministratore", "titolare", "ingegnere", "hoofd", "directeur", "adviseur", "verkoop",
    "inkoop", "diretor", "diretora", "coordenador", "engenheiro", "analista", "kierownik",
    "dyrektor", "specjalista", "chef", "säljare", "konsult", "директор", "менеджер", "инженер",
    "руководитель", "editor", "journalist", "researcher", "scientist", "recruiter", "secretary",
    "treasurer", "technician", "programmer", "planner", "strategist", "principal", "procurement",
)  # fmt: skip
_REGIONS = {"uk": "GB", "com": "US", "net": "US", "org": "US", "io": "US", "eu": "DE", "edu": "US"}
_LANGUAGE_REGIONS = {"en": "US", "de": "DE", "fr": "FR", "es": "ES", "it": "IT", "nl": "NL",
                     "pt": "PT", "pl": "PL", "sv": "SE", "da": "DK", "no": "NO", "fi": "FI",
                     "cs": "CZ", "ru": "RU", "tr": "TR", "ja": "JP", "zh": "CN",
                     "ko": "KR"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ContactCard:
    """What a signature tells; phones as E.164 where the country is known, else as written."""

    name: str = ""
    title: str = ""
    company: str = ""
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()


def read_contact(signature: str, sender: Mailbox | None, language: str = "") -> ContactCard:
    """The fields of a signature; the sender's header gives the name if the signature has none."""
    lines = [line.strip(" \t*_") for line in signature.split("\n")[:MAX_LINES]]
    lines = [line for line in lines if line and not set(line) <= set("-_=*—– ")]
    text = "\n".join(line[:500] for line in lines)
    emails = tuple(dict.fromkeys(match[0].lower().rstrip(".") for match in _EMAIL.finditer(text)))
    without = _EMAIL.sub(" ", text)
    urls = [match[0].rstrip(".,)") for match in _URL.finditer(without)]
    rest = _URL.sub(" ", without)
    urls += [match[0].rstrip(".") for match in _BARE.finditer(rest)]
    address = (emails[0] if emails else "") or (sender.address if sender else "")
    phones = _phones(rest, _region(address, language))
    words = _worded(lines)
    name, used = _name(words, sender)
    title, company = _position([line for line in words if line != used], address)
    return ContactCard(name, title, company, phones, emails, tuple(dict.fromkeys(urls)))


def _region(address: str, language: str) -> str:
    top = address.rpartition(".")[2].lower()
    if language in _LANGUAGE_REGIONS and top in _REGIONS and top != "uk":
        return _LANGUAGE_REGIONS[language]
    if len(top) == 2:
        return _REGIONS.get(top, top.upper())
    return _LANGUAGE_REGIONS.get(language, "US")


def _phones(text: str, region: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for line in text.split("\n"):
        if re.search(r"\b(?:hrb|ust|vat|iban|siret|tax|p\.?\s?iva|reg\.? ?n)", line, re.I):
            continue
        for match in _PHONE.finditer(line[:300]):
            written = match[0].replace("(0)", "").strip()
            try:
                number = phonenumbers.parse(written, region)
            except phonenumbers.NumberParseException:
                continue
            if phonenumbers.is_possible_number(number) and sum(c.isdigit() for c in written) >= 7:
                valid = phonenumbers.is_valid_number(number)
                if not valid and not re.match(r"\s*\+", written) and not _labelled(line):
                    continue
                shape = phonenumbers.PhoneNumberFormat.E164
                found.setdefault(phonenumbers.format_number(number, shape))
    return tuple(found)


def _labelled(line: str) -> bool:
    return bool(re.search(r"\b(?:t|m|p|f|tel|phone|mobil\w*|cell|fax|office|direct)\b", line, re.I))


def _worded(lines: list[str]) -> list[str]:
    """The lines that may hold a name, a position or a firm."""
    closing = tables().closing
    words: list[str] = []
    for line in lines:
        if fold(line).strip(" ,.!") in closing or _EMAIL.search(line) or _URL.search(line):
            head = re.split(r"\s[|•·]\s|\s{3,}", line)[0].strip()
            if head == line or _EMAIL.search(head) or _URL.search(head):
                continue
            line = head
        if sum(character.isdigit() for character in line) > 4 or len(line) > 120:
            head = re.split(r"\s[|•·]\s", line)[0].strip()
            if head == line or sum(character.isdigit() for character in head) > 4:
                continue
            line = head
        head, comma, after = line.partition(",")
        if comma and fold(head).strip() in closing and after.strip():
            line = after.strip()
        words.append(line)
    return words


def _name(lines: list[str], sender: Mailbox | None) -> tuple[str, str]:
    known = (
        {word for word in re.split(r"[\s,.]+", fold(sender.name)) if len(word) > 1}
        if sender
        else set()
    )
    local = re.split(r"[._\-\d]+", fold(sender.address.partition("@")[0])) if sender else []
    known |= {word for word in local if len(word) > 2}
    for line in lines[:6]:
        candidate = re.split(r"\s?[|•·]\s?|\s[–—-]\s", line)[0]
        candidate = candidate.partition(",")[0].strip().lstrip("-–— ")
        here = set(re.split(r"[\s,.]+", fold(candidate)))
        if known & here and len(candidate.split()) <= 5 and not _titled(candidate):
            return candidate, line if candidate == line else ""
    for line in lines[:3]:
        candidate = re.split(r"\s?[|•·]\s?|\s[–—]\s", line)[0].partition(",")[0].strip()
        parts = candidate.split()
        if (
            2 <= len(parts) <= 4
            and all(part[:1].isupper() for part in parts)
            and not _titled(candidate)
            and not _LEGAL.search(candidate)
        ):
            return candidate, line if candidate == line else ""
    if sender is not None and sender.name and "@" not in sender.name:
        last, comma, first = sender.name.partition(",")
        return (f"{first.strip()} {last.strip()}" if comma else sender.name), ""
    return "", ""


def _titled(text: str) -> bool:
    folded = f" {fold(text)} "
    return any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", folded) for word in _TITLE if word in folded
    )


def _position(lines: list[str], address: str) -> tuple[str, str]:
    """Title and company from the lines below the name."""
    title = company = ""
    domain = address.rpartition("@")[2].partition(".")[0].lower().replace("-", "")
    for line in lines:
        for piece in re.split(r"\s?[|•·]\s?|\s[–—-]\s|,\s(?=[A-ZÄÖÜ])", line):
            at = re.match(r"^(.{3,60}?)\s(?:at|@|bei|chez|presso|bij|en)\s(.{2,60})$", piece)
            if at and _titled(at[1]) and not title:
                title, company = at[1].strip(), company or at[2].strip()
                continue
            plain = fold(piece).replace(" ", "").replace("-", "")
            of_domain = len(domain) > 2 and domain not in _FREE and domain in plain
            firm = (of_domain or _LEGAL.search(piece)) and len(piece) < 80
            if firm and not company and (title or of_domain or not _titled(piece)):
                company = piece.strip(" ,")
                continue
            if not title and _titled(piece) and len(piece) < 80:
                title = piece.strip(" ,")
    if title and not company:
        # The line below the position is most often the firm.
        following = [line for line in lines if title not in line]
        company = next((line for line in following if 1 <= len(line.split()) <= 5), "")
    return title, company


_FREE = ("gmail", "yahoo", "hotmail", "outlook", "gmx", "web", "icloud", "aol", "example", "mail")
