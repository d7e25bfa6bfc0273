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
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import msgspec

from openai_server.api.inquiry import Media
from openai_server.errors import APIError
from openai_server.translate.mediatypes import (
    NotAsPromised,
    kindOf,
    mediaTypeFrom,
    mediaTypeFromExtension,
)
from openai_server.wire.tones import Attachment

#: Characters of base64 that are decoded at a time: a multiple of 4.
SLICE: Final = 256 * 1024
#: Characters at either end that are looked at before.
_END: Final = 4096
MAX_URL: Final = 8192

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
        that does not begin or end as such, bytes that are no image where one
        was promised.
    """
    source = media.source
    if media.kind == "audio":
        return _checked("audio/wav" if media.format == "wav" else "audio/mpeg", source, media)
    if source[:5].lower() == "data:":
        return _fromData(media)
    if media.kind != "file":
        return _fromAddress(media)
    isPDF = (media.name or "").lower().endswith(".pdf")
    return _checked("application/pdf" if isPDF else "application/octet-stream", source, media)


def _fromAddress(media: Media) -> Attached:
    url, param = media.source, media.param
    if url[:8].partition(":")[0].lower() not in ("http", "https"):
        if media.kind == "image" and ":" not in url[:MAX_URL]:
            # Bare base64 is met as well, of images.
            with suppress(APIError):
                return _checked("", url, media)
        raise _wrong("Addresses are of the schemes data, http or https.", param)
    if len(url) > MAX_URL or _unfit.search(url):
        raise _wrong(f"An address has at most {MAX_URL} characters, and no blanks.", param)
    return Attached(media.kind, _guessed(url, media.kind), url=url, param=param)


def _guessed(url: str, family: str) -> str:
    try:
        extension = urlsplit(url).path.rpartition(".")[2]
    except ValueError:
        extension = ""
    return mediaTypeFromExtension(f".{extension}", family)


def _fromData(media: Media) -> Attached:
    # What stands before the comma is short; the rest may be megabytes.
    url = media.source
    comma = url.find(",", 0, 1024)
    said = url[5:comma].lower().split(";")
    if comma < 0 or said[-1].strip() != "base64":
        raise _wrong("A data address must hold base64.", media.param)
    return _checked("" if len(said) == 1 else said[0].strip(), url[comma + 1 :], media)


def _checked(label: str, data: str, media: Media) -> Attached:
    param = media.param
    if "\n" in data or " " in data:
        data = "".join(data.split())
    if len(data) % 4:
        data += "=" * (-len(data) % 4)
    if not data or 0 <= data.find("=") < len(data) - 2:
        raise _wrong("The base64 is empty, or ends before its end.", param)
    first = _decoded(data[:_END], param)
    _decoded(data[-_END:], param)
    try:
        mediaType = mediaTypeFrom(label, first, media.kind)
    except NotAsPromised as error:
        raise _wrong(str(error), param) from None
    return Attached(kindOf(mediaType), mediaType, data=data, name=media.name, param=param)


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


def _wrong(said: str, param: str) -> APIError:
    return APIError("invalid_value", said, param=param)
