# -*- test-case-name: tests.web.test_page -*-
"""
The files of the page, served from memory. Their policy lets the page load from
and speak to this server alone, and lets nobody frame it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from openai_server.web.interfaces import Request
from openai_server.web.page.folder import FILES, INDEX, MODULES
from openai_server.web.page.joined import join
from openai_server.web.routes import Answer

_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types dompurify"
)
_HEADERS: Final = {
    # A browser asks whether its copy is still good, which costs it no body.
    b"cache-control": b"no-cache",
    b"content-security-policy": _POLICY,
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


@dataclass(frozen=True)
class PageFile:
    """
    One file.

    @ivar etag: as in its header; another one for other content.
    """

    body: bytes
    contentType: bytes
    etag: bytes


class PageFiles:
    """
    All files of the page.

    @ivar index: the page itself.
    @ivar byPath: all others by their paths.
    """

    def __init__(self) -> None:
        self.index = _read(INDEX)
        self.byPath = {place: _read(path) for place, path in FILES.items()}

    def routes(self) -> list[tuple[str, str, Answer]]:
        """
        Return method, template and function of each.
        """
        return [("GET", path, _answerWith(file)) for path, file in self.byPath.items()]

    def answerBrowser(self, request: Request) -> bool:
        """
        Answer with the page if the client wants HTML.

        @return: whether it does.
        """
        request.setHeader(b"vary", b"Accept, Origin")
        if not _wantsHTML(request):
            return False
        _give(request, self.index)
        return True


def _read(path: Path) -> PageFile:
    body = join(MODULES).encode() if path == MODULES[-1] else path.read_bytes()
    return PageFile(body, _TYPES[path.suffix], b'"%b"' % sha256(body).hexdigest()[:20].encode())


def _answerWith(file: PageFile) -> Answer:
    async def answer(request: Request) -> None:
        _give(request, file)

    return answer


def _give(request: Request, file: PageFile) -> None:
    for name, value in _HEADERS.items():
        request.setHeader(name, value)
    request.setHeader(b"etag", file.etag)
    if _has(request, file.etag):
        request.answer(b"", 304)
    else:
        request.answer(file.body, contentType=file.contentType)


def _has(request: Request, etag: bytes) -> bool:
    # Proxies that compress make the tag a weak one.
    named = b",".join(request.valuesOf(b"if-none-match")).split(b",")
    return any(each.strip().removeprefix(b"W/") in (etag, b"*") for each in named)


def _wantsHTML(request: Request) -> bool:
    ranges = b",".join(request.valuesOf(b"accept")).lower().split(b",")
    return any(each.partition(b";")[0].strip() == b"text/html" for each in ranges)
