# -*- test-case-name: tests.translate.test_mediatypes -*-
"""
What data is: its first bytes say so, and where they say nothing its label.

Clients label images wrongly, with something general or not at all, and a model
API refuses an image whose label is not true.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

#: Bytes at the beginning that are looked at for what need not stand first.
_HEAD: Final = 1024

_ALIASES: Final = {"image/jpg": "image/jpeg", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}
#: Labels that say nothing, or no more than the family.
_GENERAL: Final = frozenset({"", "*/*", "application/octet-stream", "binary/octet-stream"})
_EXTENSIONS: Final = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "audio/flac": ".flac",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tiff",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
}
_BY_EXTENSION: Final = {
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    **{extension: each for each, extension in _EXTENSIONS.items()},
}
#: Type, and bytes with their places.
_SIGNATURES: Final[tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...]] = (
    ("image/png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("image/jpeg", ((0, b"\xff\xd8\xff"),)),
    ("image/gif", ((0, b"GIF87a"),)),
    ("image/gif", ((0, b"GIF89a"),)),
    ("image/webp", ((0, b"RIFF"), (8, b"WEBP"))),
    ("image/bmp", ((0, b"BM"), (6, b"\0\0\0\0"))),
    ("image/tiff", ((0, b"II*\0"),)),
    ("image/tiff", ((0, b"MM\0*"),)),
    ("image/avif", ((4, b"ftypavif"),)),
    ("image/heic", ((4, b"ftyphei"),)),
    ("image/heic", ((4, b"ftypmif1"),)),
    ("application/pdf", ((0, b"%PDF-"),)),
)
_SIGNED: Final = frozenset(mediaType for mediaType, _ in _SIGNATURES)
_wellFormed = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")


class NotAsPromised(Exception):
    """
    The data is not what it was said to be; the message is for the client.
    """


def mediaTypeFrom(label: str, first: bytes, promised: str = "") -> str:
    """
    Return the media type of data, in lower case and without parameters.

    @param label: what the client says it is, in lower case; may be empty.
    @param first: its first bytes, some thousands of them.
    @param promised: C{image} or C{video} where the place in the request says
        so; a label that says something in particular comes before it.
    @raise NotAsPromised: it is no image where one was promised, does not begin
        as its type does, or the label is none and the bytes say nothing.
    """
    label = _ALIASES.get(label, label)
    if label.startswith("text/") and _wellFormed.fullmatch(label) and _isText(first):
        return label
    found = _typeFromBytes(first)
    if found is not None:
        return found
    if label == "application/pdf" and b"%PDF-" in first[:_HEAD]:
        return label
    family = label.removesuffix("/*") if label.endswith("/*") else ""
    if label in _GENERAL or family:
        return _general(label, first, family.strip("*") or promised)
    if label in _SIGNED or (label == "image/svg+xml" and not _isSVG(first)):
        raise NotAsPromised(f"The data does not begin as {label} does.")
    if _wellFormed.fullmatch(label) is None:
        raise NotAsPromised("The media type is not one.")
    return label


def _general(label: str, first: bytes, promised: str) -> str:
    if promised == "image":
        if _isSVG(first):
            return "image/svg+xml"
        raise NotAsPromised("The data is not an image.")
    if promised == "video":
        return "video/webm" if first.startswith(b"\x1aE\xdf\xa3") else "video/mp4"
    return "application/octet-stream" if label or not _isText(first) else "text/plain"


def _typeFromBytes(first: bytes) -> str | None:
    for mediaType, signature in _SIGNATURES:
        if all(first.startswith(bytes, at) for at, bytes in signature):
            return mediaType
    return None


def _isText(first: bytes) -> bool:
    try:
        # The last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(first)
    except UnicodeDecodeError:
        return False
    return b"\0" not in first


def _isSVG(first: bytes) -> bool:
    return _isText(first) and first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and b"<svg" in first


def mediaTypeFromExtension(extension: str, family: str) -> str:
    """
    Return the media type that files of this ending have, of this family:
    C{image/*} where the ending tells none of C{image}.

    @param extension: with its dot, in any case.
    """
    mediaType = _BY_EXTENSION.get(extension.lower(), "")
    return mediaType if mediaType.startswith(f"{family}/") else f"{family}/*"


def extensionOf(mediaType: str) -> str:
    """
    How the name of a file of this type ends.
    """
    return _EXTENSIONS.get(mediaType, ".bin")


def kindOf(mediaType: str) -> str:
    """
    Return the daemon's word for what has this media type: image, audio, pdf,
    video or file.
    """
    if mediaType == "application/pdf":
        return "pdf"
    family = mediaType.partition("/")[0]
    return family if family in ("image", "audio", "video") else "file"
