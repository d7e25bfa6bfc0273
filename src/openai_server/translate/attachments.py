# -*- test-case-name: tests.translate.test_attachments -*-
"""
Images, sound and files of a request: what they really are, checked, and the
line that names each of them to the model.

Checking all of the base64 of megabytes takes long. A part is looked at at both
ends; whoever does something with its data decodes it slice by slice and lets
the reactor turn between them.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import msgspec

from openai_server.api.inquiry import Media
from openai_server.errors import APIError
from openai_server.wire.tones import Attachment

#: Characters of base64 that are decoded at a time: a multiple of 4.
SLICE: Final = 256 * 1024
#: Characters at either end that are looked at before.
_END: Final = 4096
MAX_URL: Final = 8192

_MAGIC: Final[dict[str, tuple[bytes, ...]]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    "application/pdf": (b"%PDF-",),
}
_ALIASES: Final = {"image/jpg": "image/jpeg", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}
_EXTENSIONS: Final = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "audio/flac": ".flac",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
_IMAGES: Final = {
    ".jpeg": "image/jpeg",
    **{extension: each for each, extension in _EXTENSIONS.items() if each.startswith("image/")},
}
_mediaType = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
_unfit = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")


class Attached(msgspec.Struct, frozen=True):
    """
    One part of a request that is not text.

    @ivar kind: image, audio, pdf, video or file.
    @ivar mediaType: a media type in lower case, without parameters.
    @ivar data: base64 without blanks and with its padding, or None; see
        L{decodedSlices}.
    @ivar url: an http or https address, which is never fetched here, or None.
    @ivar name: the file's name as the client gave it, or None.
    @ivar param: where it stands in the request.
    """

    kind: str
    mediaType: str
    data: str | None = None
    url: str | None = None
    name: str | None = None
    param: str = ""

    @property
    def size(self) -> int | None:
        """
        Bytes of the decoded data.
        """
        if self.data is None:
            return None
        return len(self.data) // 4 * 3 - self.data[-2:].count("=")

    @property
    def tone(self) -> Attachment:
        """
        The same for the daemon.
        """
        return Attachment(kind=self.kind, mediaType=self.mediaType, data=self.data, url=self.url)


def attachmentLine(attached: Attached, path: str | None = None) -> str:
    """
    The line that tells the model of an attachment, for workers that read
    nothing but text.

    @param path: the file that holds the data, if one was written.
    """
    said = [attached.mediaType]
    if attached.size is not None:
        said.append(f"{attached.size} bytes")
    if attached.name is not None:
        said.append(f"name {msgspec.json.encode(attached.name).decode()}")
    if attached.url is not None:
        said.append(f"address {attached.url}")
    if path is not None:
        said.append(f"file {path}")
    return f"[{attached.kind} attached: {', '.join(said)}]"


def attachedFromMedia(media: Media) -> Attached:
    """
    Return what a part of a message that is not text holds.

    @raise APIError: 400: an address that is neither data nor http(s), base64
        that does not begin or end as such, bytes that are not what they are
        said to be.
    """
    if media.kind == "image":
        return _fromAddress(media.source, media.param)
    if media.kind == "audio":
        mediaType = "audio/wav" if media.format == "wav" else "audio/mpeg"
        return _checked(mediaType, media.source, None, media.param)
    if media.source[:5].lower() == "data:":
        return _fromData(media.source, media.name, media.param)
    isPDF = (media.name or "").lower().endswith(".pdf")
    mediaType = "application/pdf" if isPDF else "application/octet-stream"
    return _checked(mediaType, media.source, media.name, media.param)


def _fromAddress(url: str, param: str) -> Attached:
    scheme = url[:8].partition(":")[0].lower()
    if scheme == "data":
        return _fromData(url, None, param)
    if scheme not in ("http", "https"):
        raise _wrong("Addresses are of the schemes data, http or https.", param)
    if len(url) > MAX_URL or _unfit.search(url):
        raise _wrong(f"An address has at most {MAX_URL} characters, and no blanks.", param)
    return Attached("image", _guessed(url), url=url, param=param)


def _guessed(url: str) -> str:
    try:
        extension = urlsplit(url).path.rpartition(".")[2]
    except ValueError:
        extension = ""
    return _IMAGES.get(f".{extension.lower()}", "image/*")


def _fromData(url: str, name: str | None, param: str) -> Attached:
    # What stands before the comma is short; the rest may be megabytes.
    comma = url.find(",", 0, 1024)
    said = url[5:comma].lower().split(";")
    if comma < 0 or said[-1].strip() != "base64":
        raise _wrong("A data address must hold base64.", param)
    mediaType = said[0].strip() or "text/plain"
    return _checked(mediaType, url[comma + 1 :], name, param)


def _checked(mediaType: str, data: str, name: str | None, param: str) -> Attached:
    mediaType = _ALIASES.get(mediaType, mediaType)
    if _mediaType.fullmatch(mediaType) is None:
        raise _wrong("The media type is not one.", param)
    if "\n" in data or " " in data:
        data = "".join(data.split())
    if len(data) % 4:
        data += "=" * (-len(data) % 4)
    if not data or 0 <= data.find("=") < len(data) - 2:
        raise _wrong("The base64 is empty, or ends before its end.", param)
    first = _decoded(data[:_END], param)
    _decoded(data[-_END:], param)
    _checkMagic(mediaType, first, param)
    return Attached(_kind(mediaType), mediaType, data=data, name=name, param=param)


def _decoded(data: str, param: str) -> bytes:
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        raise _wrong("The base64 does not decode.", param) from None


def decodedSlices(attached: Attached) -> Iterator[bytes]:
    """
    The data of an attachment, piece by piece.

    @raise APIError: 400, this piece does not decode.
    """
    data = attached.data or ""
    for start in range(0, len(data), SLICE):
        yield _decoded(data[start : start + SLICE], attached.param)


def extensionOf(mediaType: str) -> str:
    """
    How the name of a file of this type ends.

    @param mediaType: as L{Attached} has it.
    """
    return _EXTENSIONS.get(mediaType, ".bin")


def _checkMagic(mediaType: str, first: bytes, param: str) -> None:
    magic = _MAGIC.get(mediaType)
    if magic is None:
        return
    if not first.startswith(magic) or (mediaType == "image/webp" and first[8:12] != b"WEBP"):
        raise _wrong(f"The data does not begin as {mediaType} does.", param)


def _kind(mediaType: str) -> str:
    if mediaType == "application/pdf":
        return "pdf"
    family = mediaType.partition("/")[0]
    return family if family in ("image", "audio", "video") else "file"


def _wrong(said: str, param: str) -> APIError:
    return APIError("invalid_value", said, param=param)
