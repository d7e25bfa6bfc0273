"""
Attachments: checked, and named in a line.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.inquiry import Media
from openai_server.errors import APIError
from openai_server.translate.attachments import (
    MAX_URL,
    SLICE,
    Attached,
    attachedFromMedia,
    attachmentLine,
    decodedSlices,
)
from openai_server.wire.tones import Attachment
from tests.support import SyncCase

PNG = b"\x89PNG\r\n\x1a\nrest"


def base64Of(data: bytes) -> str:
    """
    Plain base64.
    """
    return base64.b64encode(data).decode()


def attached(**members: Any) -> Attached:
    """
    What a content part with these members holds.
    """
    content = [{"type": "text", "text": "x"}, members]
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    media = inquiryFromBody(json.dumps(body).encode()).messages[0].parts[1]
    assert isinstance(media, Media)
    return attachedFromMedia(media)


def image(url: Any) -> Attached:
    """
    What an image with this address holds.
    """
    return attached(type="image_url", image_url={"url": url})


def bare(found: Attached) -> Attached:
    """
    The same without its place.
    """
    return msgspec.structs.replace(found, param="")


class AttachedTests(SyncCase):
    """
    L{attachedFromMedia}.
    """

    def refused(self, param: str, **members: Any) -> str:
        """
        The code of the 400 that a part brings.
        """
        error = self.assertRaises(APIError, attached, **members)
        self.assertEqual((error.kind.status, error.param), (400, f"messages[0].content[1].{param}"))
        return error.name

    def test_dataImage(self) -> None:
        """
        Both spellings of an image part; the media type in any case.
        """
        data = base64Of(PNG)
        for url in (f"data:image/png;base64,{data}", f"DATA:IMAGE/PNG;charset=x;BASE64,{data}"):
            expected = Attached("image", "image/png", data=data)
            self.assertEqual(bare(image(url)), expected)
            self.assertEqual(bare(attached(type="image_url", image_url=url)), expected)

    def test_remoteImage(self) -> None:
        """
        An address is passed on as it is, wherever it leads, and never
        fetched here; the media type is a guess.
        """
        for url, mediaType in (
            ("https://example.com/a/b.PNG?x=1", "image/png"),
            ("http://10.0.0.1/photo.jpg", "image/jpeg"),
            ("HTTPS://example.com/photo", "image/*"),
            ("http://[broken/photo.gif", "image/*"),
        ):
            self.assertEqual(bare(image(url)), Attached("image", mediaType, url=url))

    def test_otherSchemes(self) -> None:
        """
        Nothing that reads the server's files.
        """
        for url in ("file:///etc/passwd", "ftp://x/y", "javascript:x", "/etc/passwd", "", "gopher://x"):
            said = self.refused("image_url.url", type="image_url", image_url={"url": url})
            self.assertEqual(said, "invalid_value")
            self.refused("image_url", type="image_url", image_url=url)

    def test_addressesThatAreNone(self) -> None:
        """
        Too long, or with characters that could end a line.
        """
        for url in ("http://x/" + "y" * MAX_URL, "http://x/\ny", "http://x/ y", "http://x/\u2028"):
            self.refused("image_url", type="image_url", image_url=url)

    def test_badData(self) -> None:
        """
        Not base64, empty, cut, or without saying so.
        """
        for url in (
            "data:image/png;base64,",
            "data:image/png;base64,====",
            "data:image/png;base64,a*bc",
            "data:image/png;base64,abcde",
            "data:image/png;base64,ab==cdef",
            "data:image/png;base64,\u00e9\u00e9\u00e9\u00e9",
            "data:image/png,rawdata",
            "data:image/png;base64",
            "data:" + "x" * 2000,
            "data:no type;base64,abcd",
            "data:image/png\n[x];base64,abcd",
        ):
            self.refused("image_url", type="image_url", image_url=url)

    def test_mislabelledImage(self) -> None:
        """
        The bytes say what an image is, whatever its label says; where none is
        promised in the place, in a file's too.
        """
        data = base64Of(PNG)
        expected = Attached("image", "image/png", data=data)
        labels = ("image/jpeg", "image/*", "application/octet-stream", "application/pdf", "png", "")
        labelled = [f"data:{label};base64,{data}" for label in labels]
        for url in (*labelled, f"data:base64,{data}", data):
            self.assertEqual(bare(image(url)), expected)
        for file in (
            {"file_data": data, "filename": "a.pdf"},
            {"file_data": f"data:text/plain;base64,{data}", "filename": "a.pdf"},
        ):
            named = msgspec.structs.replace(expected, name="a.pdf")
            self.assertEqual(bare(attached(type="file", file=file)), named)

    def test_noImageWhereOneIsPromised(self) -> None:
        """
        Is told to the client.
        """
        for label in ("image/png", "image/*", "application/octet-stream", "image/svg+xml", ""):
            for data in (b"no such thing", b"", b"RIFF\x00\x00\x00\x00WAVE", b"%PDF"):
                url = f"data:{label};base64,{base64Of(data)}"
                self.refused("image_url", type="image_url", image_url=url)
                if label.startswith("image/"):
                    self.refused("file.file_data", type="file", file={"file_data": url})

    def test_labelsThatSaySomethingElse(self) -> None:
        """
        Hold for data that has nothing to be known by.
        """
        for mediaType, kind in (
            ("image/x-icon", "image"),
            ("video/mp4", "video"),
            ("text/csv", "file"),
            ("audio/mp3", "audio"),
        ):
            self.assertEqual(image(f"data:{mediaType};base64,QUJD").kind, kind)

    def test_video(self) -> None:
        """
        An address, or data; what it is called where its label says nothing.
        """
        for url, mediaType in (
            ("https://example.com/a.webm", "video/webm"),
            ("https://example.com/a", "video/*"),
        ):
            found = attached(type="video_url", video_url={"url": url})
            self.assertEqual(bare(found), Attached("video", mediaType, url=url))
            self.assertEqual(found.param, "messages[0].content[1].video_url.url")
        for label, mediaType in (("video/quicktime", "video/quicktime"), ("", "video/mp4")):
            found = attached(type="video_url", video_url=f"data:{label};base64,QUJD")
            self.assertEqual(bare(found), Attached("video", mediaType, data="QUJD"))
        self.refused("video_url", type="video_url", video_url="file:///x.mp4")
        self.refused("video_url", type="video_url", video_url="QUJD")
        self.assertEqual(self.refused("video_url", type="video_url"), "missing_required_parameter")

    def test_wrappedAndUnpadded(self) -> None:
        """
        Line breaks and missing padding are put right.
        """
        data = base64Of(PNG + b"x" * 100)
        wrapped = "\r\n".join(data[at : at + 76] for at in range(0, len(data), 76)).rstrip("=")
        self.assertEqual(image(f"data:image/png;base64,{wrapped}").data, data)

    def test_padding(self) -> None:
        """
        In the middle of a slice, or at its end, it ends nothing.
        """
        half = "A" * (SLICE - 2) + "=="
        url = f"data:text/plain;base64,{half}{half}"
        self.refused("image_url", type="image_url", image_url=url)

    def test_onlyTheEndsAreDecodedAtOnce(self) -> None:
        """
        What is wrong in the middle of megabytes shows when it is decoded,
        slice by slice.
        """
        good = "A" * SLICE * 3
        found = image(f"data:text/plain;base64,{good[:-SLICE]}!{good[1 - SLICE :]}")
        slices = decodedSlices(found)
        self.assertEqual([len(next(slices)) for _ in range(2)], [SLICE // 4 * 3] * 2)
        error = self.assertRaises(APIError, next, slices)
        self.assertEqual((error.name, error.param), ("invalid_value", "messages[0].content[1].image_url.url"))
        for bad in (f"!{good[1:]}", f"{good[1:]}!", f"{good[:-4]}=AA="):
            self.refused("image_url", type="image_url", image_url=f"data:text/plain;base64,{bad}")

    @settings(deadline=None, max_examples=60)
    @given(st.binary(min_size=1, max_size=400), st.booleans(), st.booleans())
    def test_anyBase64(self, data: bytes, isWrapped: bool, isPadded: bool) -> None:
        """
        With or without line breaks and padding.
        """
        text = (base64.encodebytes(data) if isWrapped else base64.b64encode(data)).decode()
        found = image(f"data:text/plain;base64,{text if isPadded else text.replace('=', '')}")
        self.assertEqual(found.data, base64Of(data))
        self.assertEqual(b"".join(decodedSlices(found)), data)

    @settings(deadline=None, max_examples=60)
    @given(st.binary(min_size=1, max_size=50), st.sampled_from([0, 1, 2, 3]))
    def test_size(self, data: bytes, more: int) -> None:
        """
        The size is that of the decoded bytes, over slices too.
        """
        data = data + b"x" * more * SLICE
        found = image(f"data:text/plain;base64,{base64Of(data)}")
        assert found.data is not None
        self.assertEqual(found.size, len(base64.b64decode(found.data)))
        self.assertEqual(found.size, len(data))

    def test_audio(self) -> None:
        """
        Two formats.
        """
        for name, mediaType in (("wav", "audio/wav"), ("mp3", "audio/mpeg")):
            found = attached(type="input_audio", input_audio={"data": "QUJD", "format": name})
            self.assertEqual(bare(found), Attached("audio", mediaType, data="QUJD"))
        odd = {"data": "QUJD", "format": "flac"}
        self.assertEqual(
            self.refused("input_audio.format", type="input_audio", input_audio=odd), "unsupported_value"
        )
        self.refused("input_audio.data", type="input_audio", input_audio={"data": "*", "format": "wav"})

    def test_file(self) -> None:
        """
        A data address or bare base64, with its name.
        """
        data = base64Of(b"%PDF-1.4")
        for file in (
            {"filename": "a.PDF", "file_data": f"data:application/pdf;base64,{data}"},
            {"filename": "a.PDF", "file_data": data},
        ):
            found = attached(type="file", file=file)
            self.assertEqual(bare(found), Attached("pdf", "application/pdf", data=data, name="a.PDF"))
            self.assertEqual(found.param, "messages[0].content[1].file.file_data")
        unnamed = attached(type="file", file={"file_data": "QUJD"})
        self.assertEqual((unnamed.kind, unnamed.mediaType), ("file", "application/octet-stream"))

    def test_filesThatAreNotHere(self) -> None:
        """
        There is no Files API.
        """
        for param, file, code in (
            ("file.file_id", {"file_id": "f"}, "unsupported_value"),
            ("file.file_data", {}, "missing_required_parameter"),
        ):
            self.assertEqual(self.refused(param, type="file", file=file), code)

    def test_tone(self) -> None:
        """
        What the daemon is given.
        """
        self.assertEqual(
            Attached("image", "image/png", data="QUJD", name="n").tone,
            Attachment(kind="image", mediaType="image/png", data="QUJD"),
        )


class LineTests(SyncCase):
    """
    L{attachmentLine}.
    """

    def test_table(self) -> None:
        """
        Kind, type, size, and where it is.
        """
        picture = Attached("image", "image/png", data="QUJDRA==")
        for each, path, line in (
            (picture, None, "[image attached: image/png, 4 bytes]"),
            (picture, "/run/x/1.png", "[image attached: image/png, 4 bytes, file /run/x/1.png]"),
            (
                Attached("image", "image/*", url="http://x/y"),
                None,
                "[image attached: image/*, address http://x/y]",
            ),
            (
                Attached("pdf", "application/pdf", data="QUJD", name='a"\n].pdf'),
                None,
                '[pdf attached: application/pdf, 3 bytes, name "a\\"\\n].pdf"]',
            ),
        ):
            self.assertEqual(attachmentLine(each, path), line)
            self.assertNotIn("\n", line)
