"""What kind of file some bytes are. The name and the sender's word count only where bytes agree.

HTML, SVG, XML and scripts never get a type that a browser would run: they are downloads. Pure.
"""

from __future__ import annotations

PLAIN = "application/octet-stream"

_OFFICE = {
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "odt": "application/vnd.oasis.opendocument.text",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "zip": "application/zip",
}
_STARTS = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
)
_TEXTS = {"txt": "text/plain", "csv": "text/csv", "ics": "text/calendar", "vcf": "text/vcard"}


def media_type_of(head: bytes, name: str) -> str:
    """The type of a file by its first bytes (64 are enough) and the end of its name."""
    ending = name.rpartition(".")[2].lower()
    for start, kind in _STARTS:
        if head.startswith(start):
            return "video/ogg" if kind == "audio/ogg" and ending == "ogv" else kind
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12], PLAIN)
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "image/avif"
        if brand in (b"M4A ", b"M4B "):
            return "audio/mp4"
        return "video/mp4"
    if head[:4] == b"PK\x03\x04":
        return _OFFICE.get(ending, "application/zip")
    if ending in _TEXTS and b"\0" not in head and b"<" not in head:
        return _TEXTS[ending]
    return PLAIN
