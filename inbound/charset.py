"""Bytes to text when the label on them may be missing, wrong or invented.

Mail says `charset=` and is often mistaken: UTF-8 labelled latin-1, windows-1252 labelled ASCII,
names no codec knows. The order is: a byte order mark, UTF-8 if the bytes prove it, the declared
name, then windows-1252. Pure; never raises.
"""

from __future__ import annotations

import codecs

_ALIASES = {
    "": "utf-8",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "ansi_x3.4-1968": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "iso8859-1": "cp1252",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "iso-2022-jp": "iso2022_jp_ext",
    "windows-874": "cp874",
    "tis-620": "cp874",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
    "unicode-1-1-utf-7": "utf-7",
    "utf8mb4": "utf-8",
    "utf8": "utf-8",
    "unicode": "utf-16",
    "utf-16": "utf-16",
    "big5-hkscs": "big5hkscs",
    "koi8r": "koi8-r",
}
_NOT_TEXT = frozenset({"base64", "hex", "zlib", "bz2", "rot13", "uu", "quopri", "punycode", "idna"})


def codec_name(declared: str) -> str:
    """The Python codec for a charset name as mail spells it; empty if there is none."""
    name = declared.strip().strip("\"'").lower().split("*", 1)[0]
    name = _ALIASES.get(name, name)
    if name.startswith("cp-"):
        name = "cp" + name[3:]
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError, UnicodeError):
        return ""
    plain = info.name.replace("-", "").replace("_", "")
    if not getattr(info, "_is_text_encoding", True) or plain in _NOT_TEXT or "escape" in plain:
        return ""
    return name


def decode(raw: bytes, declared: str = "") -> tuple[str, bool]:
    """The text of `raw` and whether the declared charset had to be overruled."""
    if raw.startswith(b"\xef\xbb\xbf"):
        return raw[3:].decode("utf-8", "replace"), False
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace"), False
    name = codec_name(declared)
    multibyte = bool(name) and name not in ("cp1252", "utf-8")
    if b"\x1b$" in raw[:65536] and not multibyte:
        try:
            return raw.decode("iso2022_jp_ext"), True
        except UnicodeDecodeError:
            pass
    stateful = name.startswith(("iso2022", "utf-7", "utf-16", "utf-32", "hz"))
    if not stateful:
        try:
            text = raw.decode("utf-8")
            return text, bool(declared) and name != "utf-8" and not raw.isascii()
        except UnicodeDecodeError:
            pass
    if name and name != "utf-8":
        try:
            return raw.decode(name), False
        except (UnicodeError, ValueError):
            loose = raw.decode(name, "replace")
            if loose.count("�") * 20 <= len(loose):
                return loose, True
    lenient = raw.decode("utf-8", "replace")
    high = sum(1 for character in lenient if ord(character) > 127)
    if lenient.count("�") * 3 <= high:  # Mostly valid UTF-8 with a scratch, such as a cut end.
        return lenient, True
    return raw.decode("cp1252", "replace"), True
