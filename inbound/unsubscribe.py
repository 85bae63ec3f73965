"""Whether the author asks for no more mail, in words of their own.

Our footer says "unsubscribe" and comes back in every quotation, so only what the author typed is
read. Questions about unsubscribing, negations and talk about other people's wishes are none. Pure.
"""

from __future__ import annotations

import re

from inbound.languages import fold, stop_tables, tables

MAX_TEXT = 16_384

_SENTENCE = re.compile(r"[.!;\n。！]+|(?<=[?？])")
_POLITE = (
    "please", "can you", "could you", "would you", "will you", "pls", "kindly", "können sie",
    "könnten sie", "könntet ihr", "kannst du", "bitte", "pouvez-vous", "pourriez-vous", "merci de",
    "podría", "podrían", "puede", "pueden", "por favor", "può", "potete", "potreste", "per favore",
    "kunt u", "kun je", "kunnen jullie", "graag", "pode", "poderia", "podem", "proszę",
    "czy możecie",
    "можете", "пожалуйста", "kan ni", "kan du", "kan i", "voitteko",
)  # fmt: skip
_OTHERS = (
    "customers", "users", "people", "clients", "they", "subscribers", "contacts", "recipients",
    "kunden", "nutzer", "leute", "empfänger", "sie", "clientes", "usuarios", "usuários", "clienti",
    "utenti", "klanten", "ils", "elles", "utilisateurs", "someone", "somebody", "anyone", "who",
    "he", "she", "jemand", "quelqu'un", "alguien", "qualcuno", "iemand", "alguém", "contactos",
)  # fmt: skip
_CONDITIONS = ("if ", "wenn ", "falls ", "si ", "se ", "als ", "unless ", "before ", "otherwise ")


def wants_to_stop(own_words: str, subject: str = "") -> tuple[bool, str]:
    """Whether the author wants no more mail, and the words that say so."""
    text = fold(own_words[:MAX_TEXT]).replace("\u2019", "'")
    bare = _bare(text)
    words = tables().stop_words
    if bare in words and len(bare) < 40 and not text.rstrip().endswith("?"):
        return True, bare
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and len(lines) <= 4 and _bare(lines[0]) in words and "?" not in lines[0]:
        return True, _bare(lines[0])
    if not bare and _bare(fold(subject)) in words:
        return True, _bare(fold(subject))
    for sentence in _SENTENCE.split(text):
        found = _in_sentence(sentence)
        if found:
            return True, found
    return False, ""


def _bare(text: str) -> str:
    return " ".join("".join(c if c.isalnum() or c in "-'" else " " for c in text).split())


def _in_sentence(sentence: str) -> str:
    sentence = " ".join(sentence.split())
    if len(sentence) < 3:
        return ""
    asks = sentence.endswith(("?", "？"))
    politely = sentence.lstrip("¿").startswith(_POLITE) or any(
        f" {word}" in sentence for word in _POLITE
    )
    if asks and not politely:
        return ""
    for _, phrases, turned in stop_tables():
        found = next((phrase for phrase in phrases if _stands(sentence, phrase)), "")
        if not found:
            continue
        if any(_stands(sentence, phrase) for phrase in turned if phrase not in phrases):
            continue
        before = sentence[: sentence.find(found)]
        if any(word in _OTHERS for word in before.split()[-4:]) and not _about_me(before):
            continue
        if before.lstrip().startswith(_CONDITIONS) and "," not in before:
            continue
        return found
    return ""


def _about_me(before: str) -> bool:
    return any(
        word in before.split()[-3:] for word in ("i", "we", "ich", "wir", "bitten", "können")
    )


def _stands(text: str, phrase: str) -> bool:
    at = text.find(phrase)
    if at < 0:
        return False
    if ord(phrase[0]) > 0x2E00:
        return True
    while at >= 0:
        if not text[max(0, at - 1) : at].isalpha():
            end = at + len(phrase)
            # Long phrases may go on with an ending; short words must stand alone.
            if len(phrase) > 8 or not text[end : end + 1].isalpha():
                return True
        at = text.find(phrase, at + 1)
    return False
