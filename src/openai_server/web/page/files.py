# -*- test-case-name: tests.web.test_page -*-
"""
The files of the page, served from memory. Their policy lets the page load from
and speak to this server alone, and lets nobody frame it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from openai_server.web.interfaces import Request
from openai_server.web.page.folder import FILES, INDEX, MODULES, STYLE
from openai_server.web.page.joined import insert, join
from openai_server.web.routes import Answer

_TYPES: Final = {
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self' {script}; style-src {style}; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)
#: For who comes from another page, which is to have no hold of this one. Whoever
#: has gone to the address himself is spared it: chromium takes a new process for
#: it, which is a third of the time that the page takes to load.
_OPENER: Final = (b"cross-origin-opener-policy", b"same-origin")
_HEADERS: Final = {
    # A browser asks whether its copy is still good, which costs it no body.
    b"cache-control": b"no-cache",
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
    @ivar policy: what the browser lets it do.
    """

    body: bytes
    contentType: bytes
    etag: bytes
    policy: bytes


class PageFiles:
    """
    All files of the page.

    @ivar index: the page itself, with its style and its script.
    @ivar byPath: all others by their paths.
    """

    def __init__(self) -> None:
        page, style = insert(INDEX.read_text(), STYLE.name, STYLE.read_text(), "style")
        page, script = insert(page, MODULES[-1].name, join(MODULES), "script")
        policy = _POLICY.format(style=style, script=script).encode()
        self.index = _file(page.encode(), b"text/html; charset=utf-8", policy)
        self.byPath = {
            place: _file(path.read_bytes(), _TYPES[path.suffix], policy) for place, path in FILES.items()
        }

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
        if request.getHeader(b"sec-fetch-site") != b"none":
            request.setHeader(*_OPENER)
        _give(request, self.index)
        return True


def _file(body: bytes, contentType: bytes, policy: bytes) -> PageFile:
    return PageFile(body, contentType, b'"%b"' % sha256(body).hexdigest()[:20].encode(), policy)


def _answerWith(file: PageFile) -> Answer:
    async def answer(request: Request) -> None:
        _give(request, file)

    return answer


def _give(request: Request, file: PageFile) -> None:
    for name, value in _HEADERS.items():
        request.setHeader(name, value)
    request.setHeader(b"content-security-policy", file.policy)
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
