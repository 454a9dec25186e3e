"""What everybody may fetch of the CA: its certificate, its CRL, and answers of its OCSP responder."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from email.utils import formatdate
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from aiohttp import web

from portal.ca.authority import CaUnavailableError
from portal.ca.certificates import CERTIFICATE_PATH, CRL_PATH, OCSP_PATH
from portal.ca.ocsp import MAX_REQUEST

if TYPE_CHECKING:
    from portal.ca.authority import CertificateAuthority
    from portal.ca.ocsp import Answer, OcspResponder
    from portal.clock import Clock

BODY_SECONDS: Final = 10.0
"""How long a request's body may take: it is one packet."""
_REQUEST_TYPE: Final = "application/ocsp-request"
_ANSWER_TYPE: Final = "application/ocsp-response"
_KEEP: Final = 60
"""Seconds that a proxy may hand out an answer again: a release is seen after this, not only after ``nextUpdate``."""


class CaService:
    """Routes of the CA.

    Attributes:
        ocsp: the responder.

    Args:
        ca: the CA.
        ocsp: its responder; None for a CA that has its own elsewhere.
        clock: its time.
    """

    def __init__(self, ca: CertificateAuthority, ocsp: OcspResponder | None, clock: Clock) -> None:
        self._ca = ca
        self.ocsp = ocsp
        self._clock = clock

    def add_routes(self, app: web.Application) -> None:
        """Serve them."""
        app.router.add_get(CRL_PATH, self._crl)
        app.router.add_get(CERTIFICATE_PATH, self._certificate)
        if self.ocsp is not None:
            app.router.add_post(OCSP_PATH, self._ocsp_post)
            # base64 has slashes, and not every client writes them as %2F (RFC 5019, 5)
            app.router.add_get(OCSP_PATH + "/{request:.+}", self._ocsp_get)

    async def _crl(self, _request: web.Request) -> web.Response:
        try:
            body = await self._ca.crl()
        except CaUnavailableError:
            raise web.HTTPServiceUnavailable from None
        return web.Response(body=body, content_type="application/pkix-crl")

    async def _certificate(self, _request: web.Request) -> web.Response:
        try:
            body = await self._ca.certificate()
        except CaUnavailableError:
            raise web.HTTPServiceUnavailable from None
        return web.Response(body=body, content_type="application/pkix-cert")

    async def _ocsp_post(self, request: web.Request) -> web.Response:
        if request.content_type != _REQUEST_TYPE:
            raise web.HTTPUnsupportedMediaType
        # one byte more than is taken tells a long one from a fitting one; the rest isn't read
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for piece in request.content.iter_chunked(MAX_REQUEST + 1):
                    body += piece
                    if len(body) > MAX_REQUEST:
                        break
        except TimeoutError:
            raise web.HTTPRequestTimeout(headers={"Connection": "close"}) from None
        return await self._answered(bytes(body), may_be_kept=False)

    async def _ocsp_get(self, request: web.Request) -> web.Response:
        encoded = request.rel_url.raw_path.removeprefix(OCSP_PATH + "/")
        try:
            # a literal "+" is base64's here: in a path it never means a space
            body = base64.b64decode(unquote_to_bytes(encoded), validate=True)
        except binascii.Error:
            body = b""
        return await self._answered(body, may_be_kept=True)

    async def _answered(self, body: bytes, *, may_be_kept: bool) -> web.Response:
        if self.ocsp is None:
            raise web.HTTPNotFound
        answer = await self.ocsp.answer(body)
        response = web.Response(body=answer.der, content_type=_ANSWER_TYPE)
        self._set_caching(response, answer, may_be_kept)
        return response

    def _set_caching(self, response: web.Response, answer: Answer, may_be_kept: bool) -> None:
        """As RFC 5019, 6.2 has it; what carries a nonce is for the one who sent it."""
        if not may_be_kept or answer.until is None:
            response.headers["Cache-Control"] = "no-store"
            return
        response.headers["Cache-Control"] = f"max-age={_KEEP}, public, no-transform, must-revalidate"
        response.headers["Expires"] = formatdate(self._clock() + _KEEP, usegmt=True)
        response.headers["ETag"] = f'"{hashlib.sha256(answer.der).hexdigest()}"'
