"""
What data is.
"""

from __future__ import annotations

from openai_server.translate.mediatypes import (
    NotAsPromised,
    extensionOf,
    kindOf,
    mediaTypeFrom,
    mediaTypeFromExtension,
)
from tests.support import SyncCase

#: The beginnings of files, by what they are.
BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "image/bmp": b"BM\x46\0\0\0\0\0\0\0\x36",
    "image/tiff": b"MM\0*\0\0\0\x08",
    "image/avif": b"\0\0\0\x1cftypavif",
    "image/heic": b"\0\0\0\x18ftypheic",
    "application/pdf": b"%PDF-1.7",
}
SVG = b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'


class MediaTypeTests(SyncCase):
    """
    L{mediaTypeFrom}.
    """

    def test_bytesComeFirst(self) -> None:
        """
        Whatever the label, and whatever is promised.
        """
        general = ("image/*", "image/jpg", "application/octet-stream", "application/zip", "x", "")
        for mediaType, first in BEGINNINGS.items():
            for label in (*BEGINNINGS, *general):
                for promised in ("image", ""):
                    self.assertEqual(mediaTypeFrom(label, first, promised), mediaType, label)

    def test_noBytesToKnowItBy(self) -> None:
        """
        The label holds, one that says nothing by what is promised.
        """
        for label, first, promised, mediaType in (
            ("audio/mp3", b"ID3", "", "audio/mpeg"),
            ("audio/wav", b"RIFF\x10\0\0\0WAVE", "image", "audio/wav"),
            ("video/mp4", b"\0\0\0\x18ftypmp42", "", "video/mp4"),
            ("image/x-icon", b"\0\0\1\0", "image", "image/x-icon"),
            ("image/svg+xml", SVG, "", "image/svg+xml"),
            ("image/*", SVG, "", "image/svg+xml"),
            ("", SVG, "image", "image/svg+xml"),
            ("", b"words", "", "text/plain"),
            ("", b"\xff", "", "application/octet-stream"),
            ("", b"\0", "", "application/octet-stream"),
            ("*/*", b"words", "", "application/octet-stream"),
            ("audio/*", b"\0", "", "application/octet-stream"),
            ("", b"\x1aE\xdf\xa3", "video", "video/webm"),
            ("video/*", b"\0\0\0\x18ftypmp42", "", "video/mp4"),
            ("application/pdf", b"junk\n%PDF-1.4", "", "application/pdf"),
        ):
            self.assertEqual(mediaTypeFrom(label, first, promised), mediaType)

    def test_text(self) -> None:
        """
        Text that begins as something else does is text, where its label says
        so; a character may be cut at the end of what is looked at.
        """
        for first in (b"%PDF- is how it begins", b"GIF89a", "caf\u00e9".encode()[:-1]):
            self.assertEqual(mediaTypeFrom("text/csv", first), "text/csv")

    def test_notAsPromised(self) -> None:
        """
        No image, no PDF, or no label.
        """
        for label, first, promised, said in (
            ("image/png", b"words", "", "The data does not begin as image/png does."),
            ("image/jpg", b"words", "", "The data does not begin as image/jpeg does."),
            ("application/pdf", b"words", "", "The data does not begin as application/pdf does."),
            ("image/svg+xml", b"<html>", "", "The data does not begin as image/svg+xml does."),
            ("image/*", b"words", "", "The data is not an image."),
            ("", b"words", "image", "The data is not an image."),
            ("words", b"words", "", "The media type is not one."),
            ("text/\n", b"words", "", "The media type is not one."),
        ):
            error = self.assertRaises(NotAsPromised, mediaTypeFrom, label, first, promised)
            self.assertEqual(str(error), said)

    def test_extensions(self) -> None:
        """
        Of the types that are known, whatever else a client said.
        """
        for mediaType, extension in (
            ("image/png", ".png"),
            ("audio/mpeg", ".mp3"),
            ("image/*", ".bin"),
            ("../../x", ".bin"),
        ):
            self.assertEqual(extensionOf(mediaType), extension)

    def test_typesOfExtensions(self) -> None:
        """
        Within the family that is asked for.
        """
        for extension, family, mediaType in (
            (".PNG", "image", "image/png"),
            (".jpeg", "image", "image/jpeg"),
            (".mp4", "image", "image/*"),
            (".mov", "video", "video/quicktime"),
            (".", "video", "video/*"),
        ):
            self.assertEqual(mediaTypeFromExtension(extension, family), mediaType)

    def test_kinds(self) -> None:
        """
        The daemon's.
        """
        for mediaType, kind in (
            ("application/pdf", "pdf"),
            ("audio/wav", "audio"),
            ("video/webm", "video"),
            ("text/csv", "file"),
        ):
            self.assertEqual(kindOf(mediaType), kind)
